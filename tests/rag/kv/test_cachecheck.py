"""Every claim about composed states on every family, kind of positions and dtype; and that a fault is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rag.cli import app
from rag.kv import capture, compose, recompute, variant_claims
from rag.kv.cachecheck import CacheReport, verify
from rag.kv.craft import share
from rag.kv.in_place import InPlace
from rag.kv.layer import projected
from rag.kv.modes import Mode
from rag.kv.plan import Piece
from rag.kv.rope import angles, rotate_in_place, rotated
from tests.rag.kv.models import model_of
from tests.tiny_models import FAMILIES, ROPES, one_thread, saved

__all__ = ["one_thread"]
CLAIMS = 56


def failed(report: CacheReport) -> list[str]:
    return [f"{check.name}: {check.found:.1e} > {check.tolerance:.1e}" for check in report.checks if not check.passed]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_claim_holds(family: str, rope: str, dtype: str) -> None:
    report = verify(model_of(family, rope, dtype), prompts=3)
    assert failed(report) == []
    assert len(report.checks) == CLAIMS
    assert report.passed


def _rotated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(states: torch.Tensor, rope: Any) -> None:
        rotate_in_place(states, rope)
        rotate_in_place(states, rope)

    monkeypatch.setattr(compose, "rotate_in_place", twice)


def _one_place_off(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = compose.positions_of

    def off(mode: Mode, pieces: list[Piece]) -> list[int]:
        start = pieces[0].stop
        return [at + (at >= start) for at in honest(mode, pieces)]

    monkeypatch.setattr(compose, "positions_of", off)


def _mask_of_the_last_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CacheBlend's code has it: the lower right of a triangle, wherever the tokens stand."""

    def triangle(places: torch.Tensor, keys: int) -> torch.Tensor:
        return torch.ones(len(places), keys, dtype=torch.bool).tril_(keys - len(places))

    monkeypatch.setattr(recompute, "visible", triangle)


def _keys_before_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(layer: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        query, _, value = projected(layer, hidden)
        key = layer.self_attn.k_proj(layer.input_layernorm(hidden))
        return query, key.view(*hidden.shape[:-1], -1, layer.self_attn.head_dim).transpose(1, 2), value

    monkeypatch.setattr(capture, "projected", bare)


def _scaled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(model: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = angles(model, positions)
        scale = model.model.model.rotary_emb.attention_scaling
        return cos * scale, sin * scale

    monkeypatch.setattr(compose, "angles", scaled)


def _kept_as_rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = InPlace.__call__

    def turned(self: InPlace, layer: int, query: Any, key: Any, value: Any, states: Any) -> None:
        honest(self, layer, query, rotated(key, angles(self._model, torch.tensor(self._active))), value, states)

    monkeypatch.setattr(InPlace, "__call__", turned)


def _the_farthest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def farthest(contexts: Any, before: Any, front: str) -> int:
        return max(range(len(contexts)), key=lambda at: share(contexts[at], before, front))

    monkeypatch.setattr(variant_claims, "choose", farthest)


@pytest.mark.parametrize(
    ("family", "rope", "fault", "found_by"),
    [
        ("llama", "default", _rotated_twice, "cached prefix = one forward"),
        ("mistral", "llama3", _one_place_off, "independent = block-diagonal forward"),
        ("qwen2", "default", _mask_of_the_last_places, "link-4 = a forward with its tokens twice"),
        ("qwen3", "default", _keys_before_their_norm, "raw keys where they were read: bits"),
        ("qwen3", "yarn", _scaled_twice, "cached prefix = one forward"),
        ("llama", "default", _kept_as_rotated, "read where they stand = the full prefill's states"),
        ("mistral", "default", _the_farthest_is_chosen, "chosen for another's place"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_planted_fault_is_found(
    family: str,
    rope: str,
    dtype: str,
    fault: Callable[[pytest.MonkeyPatch], None],
    found_by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)
    report = verify(model_of(family, rope, dtype), prompts=1)
    assert not report.passed
    assert found_by in [check.name for check in report.checks if not check.passed]


def test_the_command_prints_a_table_and_says_whether_all_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    how = ["verify", "cache", "--model", str(saved("llama")), "--device", "cpu", "--prompts", "2"]
    said = CliRunner().invoke(app, how)
    assert said.exit_code == 0, said.output
    assert f"PASS: {CLAIMS}/{CLAIMS} checks" in said.output
    _rotated_twice(monkeypatch)
    said = CliRunner().invoke(app, [*how, "--json", "--dtype", "bf16"])
    assert said.exit_code == 1
    report = json.loads(said.output)
    assert (report["passed"], report["dtype"], len(report["checks"])) == (False, "bfloat16", CLAIMS)
