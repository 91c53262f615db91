"""Composition: what it reports, what each mode computes, and that it lies between its ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rag.errors import InvalidInput
from rag.kv.attended import read_variants
from rag.kv.behind import logits_behind
from rag.kv.compose import Composed, compose
from rag.kv.craft import Between, wanting
from rag.kv.layout import encode, parse
from rag.kv.modes import parse_mode
from rag.kv.plan import Chunk
from rag.kv.quantize import Scheme
from rag.kv.states import ChunkStates
from rag.runtime.meter import Limits, Meter, OutOfBudget
from tests.rag.kv.models import Ids, model_of, read, tokens
from tests.tiny_models import CONTEXT, one_thread

__all__ = ["one_thread"]
HEAD, *ROWS, QUESTION = tokens(8, 20, 3, 25, 6)
LAYERS = 3


def cached() -> tuple[ChunkStates, list[ChunkStates]]:
    """The prefix and the chunks behind it."""
    prefix = read(model_of(), HEAD)[0]
    return prefix, read(model_of(), *ROWS, prefix=prefix)


def composed(prefix: ChunkStates | Ids, chunks: list[Chunk], mode: str, meter: Meter | None = None) -> Composed:
    return compose(model_of(), prefix, chunks, parse_mode(mode), meter or Meter(), room=len(QUESTION))


def test_tokens_stand_in_the_order_given() -> None:
    prefix, chunks = cached()
    found = composed(prefix, [chunks[2], ROWS[0], chunks[1]], "link-4")
    assert found.ids == HEAD + ROWS[2] + ROWS[0] + ROWS[1]
    assert found.spans == ((8, 33), (33, 53), (53, 56))
    assert found.positions == tuple(range(56))
    assert (found.states.length, found.states.capacity, str(found.mode)) == (56, 62, "link-4")


@pytest.mark.parametrize(
    ("mode", "computed", "hits", "exact"),
    [
        ("full", 56, 0, True),
        ("prefix", 28, 28, True),  # 8 + 20: the prefix, and the chunk that stands where it was read
        ("independent", 0, 56, False),
        ("link-4", 4 + 3, 49, False),  # of the second and the third chunk
        ("link-25", 3 + 25, 28, True),
        ("link-0", 0, 56, False),
        ("blend-0.25", (28 + 28 + 7) / 3, 49, False),  # layers 0 and 1 of all, then 0.25 * 28
        ("blend-1", 28, 28, True),
        ("blend-0", 0, 56, False),
        ("craft-0.5", 1 + 7, 48, False),  # 0.5 * 0.5 of 3 and of 25, rounded up
        ("ape", 0, 56, False),
    ],
)
def test_what_is_computed_again_is_reported(mode: str, computed: float, hits: int, exact: bool) -> None:
    prefix, chunks = cached()
    meter = Meter()
    found = composed(prefix, list(chunks), mode, meter)
    assert found.recomputed == pytest.approx(computed / 56)
    assert found.hit_tokens == hits
    assert found.exact is exact
    assert meter.prefill == int(np.ceil(computed))
    assert meter.peak_bytes == found.states.bytes


@pytest.mark.parametrize(
    ("mode", "computed"), [("independent", 25), ("link-2", 25 + 2), ("blend-0", 25), ("prefix", 25 + 3), ("ape", 25)]
)
def test_chunks_that_are_not_cached_are_computed(mode: str, computed: int) -> None:
    prefix, chunks = cached()
    found = composed(prefix, [chunks[0], ROWS[2], chunks[1]], mode)
    assert found.recomputed * len(found.ids) == pytest.approx(computed)
    assert found.hit_tokens == len(found.ids) - computed


def test_a_composition_without_hits_is_the_full_prefill() -> None:
    for mode in ("independent", "link", "blend", "craft", "prefix"):
        found = composed(HEAD, list(ROWS), mode)
        assert (found.exact, found.recomputed, found.hit_tokens) == (True, 1.0, 0)


def test_one_chunk_behind_its_prefix_is_exact_in_every_mode_but_a_corrected_one() -> None:
    prefix, chunks = cached()
    exact = {mode: composed(prefix, [chunks[2]], mode).exact for mode in ("independent", "link", "ape", "ape-1-1")}
    assert exact == {"independent": True, "link": True, "ape": False, "ape-1-1": True}


def test_chunks_read_in_parallel_share_positions() -> None:
    prefix, chunks = cached()
    found = composed(prefix, list(chunks), "ape")
    assert found.positions == (*range(8), *range(8, 28), *range(8, 11), *range(8, 33))
    assert found.states.length - found.states.shift == 8 + 25


def test_the_lossy_modes_differ_from_the_full_prefill_and_lie_on_the_way_to_it() -> None:
    model, errors = model_of(), dict[str, list[float]]()
    modes = ("independent", "link-2", "link-8", "blend-0.3", "blend-0.8", "craft-1", "ape-1-1")
    for seed in range(6):
        head, *rows, question = tokens(8, 20, 13, 25, 6, seed=seed)
        prefix = read(model, head)[0]
        chunks = read(model, *rows, prefix=prefix)

        def logits(mode: str) -> np.ndarray:
            found = compose(model, prefix, chunks, parse_mode(mode), Meter(), room=6)  # noqa: B023
            return logits_behind(model, found, question, Meter())  # noqa: B023

        full = logits("full")
        for mode in modes:
            errors.setdefault(mode, []).append(float(np.abs(logits(mode) - full).mean()))
    mean = {mode: sum(found) / len(found) for mode, found in errors.items()}
    assert min(mean.values()) > 0.01
    assert mean["independent"] > mean["link-8"]
    assert mean["independent"] > mean["blend-0.3"] > mean["blend-0.8"]


def test_few_layers_are_composed_where_few_are_wanted() -> None:
    prefix, chunks = cached()
    for mode in ("independent", "link-4", "full", "prefix", "ape"):
        whole = composed(prefix, list(chunks), mode)
        part = compose(model_of(), prefix, chunks, parse_mode(mode), Meter(), room=6, layers=2)
        assert len(part.states.keys) == 2
        for layer in range(2):
            assert torch.equal(part.states.keys[layer][:, :, :56], whole.states.keys[layer][:, :, :56])
        with pytest.raises(InvalidInput, match="3 layers are asked of states composed in 2"):
            logits_behind(model_of(), part, QUESTION, Meter())
    for layers in (0, LAYERS + 1):
        with pytest.raises(InvalidInput, match=f"layers = {layers}"):
            compose(model_of(), prefix, chunks, parse_mode("full"), Meter(), room=6, layers=layers)


def test_states_in_another_dtype_are_taken() -> None:
    """Caches keep bfloat16 for models in float32."""
    prefix, chunks = cached()
    halves = [ChunkStates(c.ids, c.keys.bfloat16(), c.values.bfloat16(), c.behind) for c in (prefix, *chunks)]
    assert [composed(halves[0], [], mode).exact for mode in ("prefix", "link", "full")] == [False, False, True]
    whole = logits_behind(model_of(), composed(prefix, list(chunks), "link-4"), QUESTION, Meter())
    rounded = logits_behind(model_of(), composed(halves[0], list(halves[1:]), "link-4"), QUESTION, Meter())
    assert 0 < float(np.abs(whole - rounded).max()) < 0.05 * float(np.abs(whole).max())


def test_chunk_states_are_not_changed_by_composition() -> None:
    prefix, chunks = cached()
    before = [(c.keys.clone(), c.values.clone()) for c in chunks]
    for mode in ("independent", "blend-0.5", "ape"):
        composed(prefix, [*chunks, chunks[0]], mode)
    assert all(torch.equal(c.keys, k) and torch.equal(c.values, v) for c, (k, v) in zip(chunks, before, strict=True))


def test_variants_read_behind_the_same_chunks_are_hits_of_the_prefix_mode() -> None:
    prefix, _ = cached()
    variants = read_variants(model_of(), ROWS, Meter(), prefix=prefix)
    same = composed(prefix, list(variants), "prefix")
    assert (same.hit_tokens, same.recomputed, same.exact) == (56, 0.0, True)
    turned = composed(prefix, [variants[0], variants[2], variants[1]], "prefix")
    assert (turned.hit_tokens, turned.exact) == (28, True)


def test_what_stands_between_chunks_must_be_the_same_for_a_variant_to_be_exact() -> None:
    prefix, _ = cached()
    one, other = Between((3, 4)), Between((4, 3))
    first, second = read_variants(model_of(), [ROWS[0], one, ROWS[2]], Meter(), prefix=prefix)
    same = composed(prefix, [first, one, second, one], "craft")
    assert (same.exact, same.hit_tokens) == (True, 8 + 20 + 25)
    changed = composed(prefix, [first, other, second], "craft")
    again = len(wanting(second.context, 25, second.context.cci))
    assert (changed.exact, changed.hit_tokens) == (False, 8 + 20 + 25 - again)
    wanted = logits_behind(model_of(), composed(prefix, [first, one, second, one], "full"), QUESTION, Meter())
    np.testing.assert_allclose(logits_behind(model_of(), same, QUESTION, Meter()), wanted, atol=1e-4)


def test_what_cannot_be_composed_is_refused() -> None:
    prefix, chunks = cached()
    with pytest.raises(InvalidInput, match="read behind 8 tokens"):
        composed(chunks[0], [], "link")
    with pytest.raises(InvalidInput, match=f"reads at most {CONTEXT}"):
        compose(model_of(), prefix, chunks, parse_mode("link"), Meter(), room=CONTEXT - 55)
    with pytest.raises(OutOfBudget):
        composed(prefix, list(chunks), "link-4", Meter(Limits(max_prefill_tokens=6)))
    with pytest.raises(InvalidInput, match="room for 6: compose with room=7"):
        logits_behind(model_of(), composed(prefix, [], "link"), (*QUESTION, 1), Meter())


@pytest.mark.parametrize(("scheme", "rounds"), [("fp32", False), ("bf16", True), ("fp16", True), ("int8", True)])
@pytest.mark.parametrize("mode", ["prefix", "independent", "link-4", "blend-0.25", "ape-1-1"])
def test_states_that_storage_rounded_are_never_exact(mode: str, scheme: Scheme, rounds: bool) -> None:
    prefix, chunks = cached()
    stored = parse(encode(chunks[0], scheme, "f")).read()
    found = composed(prefix, [stored], mode)  # one chunk behind its prefix: exact in every mode, but for its storage
    assert (found.exact, found.rounded) == (not rounds, scheme if rounds else "")


@pytest.mark.parametrize("mode", ["full", "link-25", "blend-1"])
def test_rounded_states_that_are_computed_again_do_no_harm(mode: str) -> None:
    prefix, chunks = cached()
    stored = [parse(encode(chunk, "int8", "f")).read() for chunk in chunks[1:]]  # none stands where it was read
    found = composed(prefix, [ROWS[0], *stored], mode)
    assert (found.exact, found.rounded) == (True, "")
