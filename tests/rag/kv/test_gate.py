"""Verdicts that are kept, and which mode they let through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from rag.errors import InvalidConfig
from rag.kv.gate import Gate, cost
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import parse_mode
from rag.kv.quantize import Scheme
from rag.kv.verdicts import STORED, Bounds, Verdict, Verdicts
from rag.reranking.icr import lead_of
from tests.rag.kv.models import model_of
from tests.tiny_models import one_thread

__all__ = ["one_thread"]
BOUNDS = Bounds(kl=0.1, agreement=0.9, nll=0.1, tau=0.7, overlap=0.8)
GOOD = Verdict(
    fingerprint="f" * 16,
    scheme="int8",
    mode="link-16",
    model="m",
    dtype="float32",
    date="2026-01-01T00:00:00+00:00",
    collection="c",
    questions=3,
    positions=9,
    kl=0.1,
    agreement=0.9,
    nll=0.1,
    tau=0.7,
    overlap=0.8,
)


def library(scheme: Scheme = "fp32", family: str = "llama", tenant: str = "", dtype: str = "float32") -> ChunkLibrary:
    return ChunkLibrary(model_of(family, dtype=dtype), lead_of, MemoryStore(10**7), scheme, tenant=tenant)


def gate(home: Path, of: ChunkLibrary, modes: Mapping[str, float]) -> Gate:
    """With a verdict a mode, of this KL divergence."""
    for mode, kl in modes.items():
        found = msgspec.structs.replace(GOOD, fingerprint=of.identity, scheme=of.scheme, mode=mode, kl=kl)
        Verdicts(home).put(found)
    return Gate(Verdicts(home), BOUNDS)


def test_a_verdict_that_keeps_every_bound_to_the_last_digit_passes() -> None:
    assert BOUNDS.broken(GOOD) == ()


@pytest.mark.parametrize(
    ("name", "worse"), [("kl", 0.11), ("nll", 0.11), ("agreement", 0.89), ("tau", 0.69), ("overlap", 0.79)]
)
def test_one_broken_bound_is_enough(name: str, worse: float) -> None:
    (said,) = BOUNDS.broken(msgspec.structs.replace(GOOD, **{name: worse}))
    assert said.startswith(f"{name} {worse}")
    assert BOUNDS.broken(msgspec.structs.replace(GOOD, **{name: float("nan")}))


def test_a_verdict_is_kept_and_replaced_and_nothing_else_is_one(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path)
    assert verdicts.all_of(GOOD.fingerprint, "int8") == []
    verdicts.put(GOOD)
    better = msgspec.structs.replace(GOOD, kl=0.0)
    verdicts.put(better)
    assert verdicts.get(GOOD.fingerprint, "int8", "link-16") == better
    assert verdicts.get(GOOD.fingerprint, "int4", "link-16") is None
    (file,) = verdicts.folder.iterdir()
    (verdicts.folder / f"{GOOD.fingerprint}-int8-craft-1.json").write_bytes(file.read_bytes())  # of another mode
    (verdicts.folder / f"{GOOD.fingerprint}-int8-ape-1-1.json").write_bytes(file.read_bytes()[:-9])
    assert verdicts.all_of(GOOD.fingerprint, "int8") == [better]


def test_the_cheapest_mode_that_passed_is_chosen(tmp_path: Path) -> None:
    of = library()
    measured = {"independent": 0.5, "craft-1": 0.0, "link-16": 0.05, "link-64": 0.01, "blend-0.15": 0.02, STORED: 0.0}
    chosen = gate(tmp_path, of, measured).choose(of)
    assert (str(chosen.mode), chosen.note) == ("link-16", "")


def test_modes_are_ordered_by_what_they_compute_again() -> None:
    shuffled = ["full", "craft", "link-128", "independent", "blend-0.15", "prefix", "ape", "link-16"]
    texts = ["independent", "ape", "link-16", "blend-0.15", "link-128", "craft", "prefix", "full"]
    assert sorted(shuffled, key=lambda text: cost(parse_mode(text))) == texts


@pytest.mark.parametrize(
    ("scheme", "verdicts", "mode"),
    [
        ("fp32", {}, "prefix"),
        ("fp32", {"independent": 0.2}, "prefix"),
        ("int8", {}, "full"),
        ("int8", {STORED: 0.2}, "full"),
        ("int8", {STORED: 0.1}, "prefix"),
    ],
)
def test_without_a_mode_that_passed_nothing_is_lost(
    tmp_path: Path, scheme: Scheme, verdicts: dict[str, float], mode: str
) -> None:
    of = library(scheme)
    chosen = gate(tmp_path, of, verdicts).choose(of)
    assert str(chosen.mode) == mode
    assert "kvasir models calibrate" in chosen.note


def test_another_model_dtype_or_scheme_has_no_verdict_and_another_tenant_has(tmp_path: Path) -> None:
    chosen = gate(tmp_path, library(), {"independent": 0.0})
    assert str(chosen.choose(library(tenant="secret")).mode) == "independent"
    for other in (library(family="qwen3"), library("fp16"), library(dtype="bfloat16")):
        assert chosen.choose(other).mode.exact


def test_a_mode_by_hand_is_taken_and_its_verdict_told(tmp_path: Path) -> None:
    of = library()
    told = gate(tmp_path, of, {"independent": 0.05, "link-16": 0.2})
    assert told.named(of, parse_mode("independent")).note == ""
    failed, unknown = (told.named(of, parse_mode(mode)) for mode in ("link-16", "craft"))
    assert (str(failed.mode), str(unknown.mode)) == ("link-16", "craft-1")
    assert failed.note == "cache mode link-16 with fp32 states failed on this model: kl 0.2 > 0.1"
    assert "was not measured on this model" in unknown.note
    assert told.named(of, parse_mode("prefix")).note == told.named(of, parse_mode("full")).note == ""
    assert "was not measured" in told.named(library("int8"), parse_mode("prefix")).note


def test_a_verdict_of_craft_says_that_it_is_without_variants(tmp_path: Path) -> None:
    of = library()
    told = gate(tmp_path, of, {"craft-1": 0.05})
    assert told.choose(of).note == told.named(of, parse_mode("craft")).note == ""
    of.variants = 4
    for note in (told.choose(of).note, told.named(of, parse_mode("craft")).note):
        assert note == "craft-1 was measured without variants, of which up to 4 a passage are used"


def test_four_bits_are_stored_where_they_passed(tmp_path: Path) -> None:
    of = library("int4")
    with pytest.raises(InvalidConfig, match="kvasir models calibrate"):
        _ = of.cache
    gate(tmp_path, of, {STORED: 0.2})
    chosen = Gate(Verdicts(tmp_path), BOUNDS)
    again = ChunkLibrary(of.model, lead_of, of.store, "int4", narrow=lambda one: chosen.passes(one, STORED))
    with pytest.raises(InvalidConfig, match="int4"):
        _ = again.cache
    gate(tmp_path, of, {STORED: 0.1})
    assert again.cache is not None
