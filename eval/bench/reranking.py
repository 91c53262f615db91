"""What language model rerankers cost, beside plain transformers and beside the operations that must be done.

Weights are random, of a real model's shape: time, tokens and memory are real, orders mean nothing.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from eval.bench.figures import Figure
from eval.bench.shapes import flops, random_model
from eval.bench.timing import seconds
from rag.language_model import LanguageModel
from rag.reranking.comparing import Memo, Pair
from rag.reranking.pairwise import Judge
from rag.reranking.prompts import pairwise
from rag.reranking.sorting import heapsort
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Segment

TOKENS = 100
"""Tokens of a document."""
GLUE = 5
"""Tokens of a label and a separator."""
QUERY, CALIBRATION = 45, 27
"""Tokens behind the documents: instruction, question and the end of the turn, with a question and with N/A."""
SORTED = 20
"""Documents of the sort whose throughput is measured."""


def reranking(shape: str, repeats: int) -> Iterator[Figure]:
    """Every figure for one shape. Raises InvalidInput for an unknown one."""
    model = random_model(shape)
    rate = _matrix_rate(model)
    for documents in (20, 100):
        yield from _attention(model, documents, repeats if documents == 20 else max(1, repeats // 3), rate)
    yield from _twin(model, repeats)
    yield from _pairwise(model, rate)


# --- ICR ---


def _attention(model: LanguageModel, documents: int, repeats: int, rate: float) -> Iterator[Figure]:
    prefix, query, calibration = _prompts(documents)
    needed = len(prefix.ids) + QUERY + CALIBRATION
    meter = Meter()
    model.attention(prefix, [query, calibration], meter)
    name = f"icr {documents} x {TOKENS}"
    yield Figure(
        name=f"{name}, tokens", measured=meter.prefill, unit="tokens", baseline=needed, floor=needed, target=1.0
    )

    layers, heads = model.shape
    half = {layer: tuple(range(heads)) for layer in range(layers // 2)}
    plain, ours, lower = [], [], []
    for _ in range(repeats):
        plain.append(seconds(lambda: _plain_prefill(model, prefix.ids + query.ids)))
        ours.append(seconds(lambda: _synced(model, lambda: model.attention(prefix, [query, calibration], Meter()))))
        lower.append(
            seconds(lambda: _synced(model, lambda: model.attention(prefix, [query, calibration], Meter(), half)))
        )
    needs = flops(model, len(prefix.ids)) + sum(flops(model, n, past=len(prefix.ids)) for n in (QUERY, CALIBRATION))
    took = statistics.median(ours)
    yield Figure(
        name=f"{name}, time beside one prefill",
        measured=took,
        unit="s",
        baseline=statistics.median(plain),
        target=1.3,
        beside="one prefill by transformers, sdpa",
        floor=needs / rate,
        note=f"{needs / 1e9:.0f} GFLOP must be done: "
        f"{needs / took / 1e9:.0f} GFLOP/s, {needs / took / rate:.0%} of a large matrix product here",
    )
    yield Figure(
        name=f"{name}, heads in the lower half of the layers",
        measured=statistics.median(lower),
        unit="s",
        baseline=took,
        target=0.6,
        beside="all layers and heads",
    )
    kept = meter.peak_bytes
    used = _peak_bytes(model, lambda: model.attention(prefix, [query, calibration], Meter())) - kept
    yield Figure(
        name=f"{name}, work space",
        measured=used / 2**20,
        unit="MiB",
        baseline=kept / 2**20,
        target=0.1,
        beside="key/value states",
        note="the most memory above weights and key/value states",
    )


def _twin(model: LanguageModel, repeats: int) -> Iterator[Figure]:
    """Against full attention maps of every layer, 2,000 tokens, both prompts computed whole."""
    prefix, query, calibration = _prompts((2000 - QUERY) // (TOKENS + GLUE))

    def ours() -> object:
        return model.attention(prefix, [query, calibration], Meter())

    def twin() -> object:
        return [_full_maps(model, prefix.ids, suffix.ids) for suffix in (query, calibration)]

    rounds = max(1, repeats // 3)
    yield Figure(
        name="icr, time beside output_attentions",
        measured=statistics.median(seconds(lambda: _synced(model, ours)) for _ in range(rounds)),
        unit="s",
        baseline=statistics.median(seconds(lambda: _synced(model, twin)) for _ in range(rounds)),
        target=1 / 3,
        beside="eager attention, full maps",
        note=f"{len(prefix.ids) + QUERY} tokens; nothing is kept between both prompts of the baseline",
    )
    yield Figure(
        name="icr, memory beside output_attentions",
        measured=_peak_bytes(model, ours) / 2**20,
        unit="MiB",
        baseline=_peak_bytes(model, twin) / 2**20,
        target=0.1,
        beside="eager attention, full maps",
        note="the most memory above the weights, key/value states included",
    )


def _prompts(documents: int) -> tuple[Prompt, Prompt, Prompt]:
    chance = random.Random(documents)  # noqa: S311

    def tokens(count: int) -> Prompt:
        return Prompt((Segment(tuple(chance.randrange(255) for _ in range(count))),))

    return tokens(documents * (TOKENS + GLUE) + 10), tokens(QUERY), tokens(CALIBRATION)


def _plain_prefill(model: LanguageModel, ids: Sequence[int]) -> None:
    import torch

    core: Any = model.model
    core.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            core.model(torch.tensor([ids], device=core.device), use_cache=True)
            _wait(model)
    finally:
        core.set_attn_implementation("kvasir")


def _full_maps(model: LanguageModel, prefix: Sequence[int], suffix: Sequence[int]) -> Any:
    """Per-token sums as the runtime gives them, from full maps."""
    import torch

    core: Any = model.model
    core.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            maps = core.model(torch.tensor([[*prefix, *suffix]], device=core.device), output_attentions=True).attentions
            rows = [layer[0, :, len(prefix) :, : len(prefix)].float().mean(1).sum(0) for layer in maps]
            return torch.stack(rows).sum(0)
    finally:
        core.set_attn_implementation("kvasir")


# --- PRP ---


def _pairwise(model: LanguageModel, rate: float) -> Iterator[Figure]:
    meter, _, asked, whole = _heapsort(random_model("tiny"), 100)
    yield Figure(
        name="prp heapsort top 10 of 100, tokens",
        measured=meter.prefill,
        unit="tokens",
        baseline=2.0 * len(asked) * whole,
        target=0.6,
        beside="two whole prompts a comparison",
        note=f"{len(asked)} comparisons, prompts of {whole} tokens",
    )
    _heapsort(model, 3)  # warm
    meter, took, asked, whole = _heapsort(model, SORTED)
    judge, _ = _judge(model, SORTED)
    prompts = [prompt for pair in asked for prompt in judge.prompts(pair)]

    needs = meter.prefill * flops(model, 1)

    def one_by_one() -> None:
        for prompt in prompts:
            _plain_prefill(model, prompt.ids)

    yield Figure(
        name=f"prp heapsort top 10 of {SORTED}, throughput",
        measured=len(prompts) / took,
        unit="prompts/s",
        baseline=len(prompts) / seconds(one_by_one),
        target=1.5,
        at_least=True,
        beside="transformers, whole prompts one at a time",
        floor=len(prompts) * rate / needs,
        note=f"{meter.prefill} tokens computed in {meter.passes} passes; {len(prompts)} prompts of {whole} tokens. "
        f"{needs / 1e9:.0f} GFLOP must be done: {needs / took / 1e9:.0f} "
        f"GFLOP/s, {needs / took / rate:.0%} of a large matrix product here",
    )


def _heapsort(model: LanguageModel, documents: int) -> tuple[Meter, float, list[Pair], int]:
    """(meter, seconds, pairs the sorter asked, tokens of a whole prompt).

    The model is asked and a noisy first-stage list answers: random weights have no opinion.
    """
    judge, meter = _judge(model, documents)
    chance = random.Random(11)  # noqa: S311
    relevance = [-(rank + chance.gauss(0, 0.2 * documents)) for rank in range(documents)]
    asked: list[Pair] = []

    def compare(pairs: Sequence[Pair]) -> list[float]:
        judge(pairs)
        return [1.0 if relevance[a] > relevance[b] else -1.0 for a, b in pairs]

    memo = Memo(compare)

    def recorded(pairs: Sequence[Pair]) -> Sequence[float]:
        asked.extend(pairs)
        return memo(pairs)

    took = seconds(lambda: heapsort(documents, 10, recorded, batched=True))
    return meter, took, asked, len(judge.prompts((0, 1))[0].ids)


def _judge(model: LanguageModel, documents: int) -> tuple[Judge, Meter]:
    chance, meter = random.Random(7), Meter()  # noqa: S311
    texts = ["".join(chance.choice("abcdefgh ") for _ in range(8 * TOKENS)) for _ in range(documents)]
    form = pairwise(model, "which of these passages is about the question")
    return Judge(model, form, [model.tokenizer.encode(text)[:TOKENS] for text in texts], meter), meter


# --- measuring ---


def _matrix_rate(model: LanguageModel) -> float:
    """Operations a second of a large matrix product in the model's type: what the machine can do at best."""
    import torch

    core = model.model
    size = 8192 if core.device.type == "cuda" else 1536
    a = torch.ones(size, size, dtype=core.dtype, device=core.device)

    def product() -> None:
        torch.mm(a, a)
        _wait(model)

    product()
    return 2.0 * size**3 / min(seconds(product) for _ in range(5))


def _synced(model: LanguageModel, work: Callable[[], object]) -> None:
    work()
    _wait(model)


def _wait(model: LanguageModel) -> None:
    import torch

    if model.model.device.type == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(model: LanguageModel, work: Callable[[], object]) -> float:
    """The most bytes that tensors held above what they held before."""
    import torch

    gc.collect()
    if model.model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before)
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events: Any = profiled.profiler
    sizes = [event.nbytes() for event in events.kineto_results.events() if event.name() == "[memory]"]
    return float(np.cumsum(sizes).max()) if sizes else 0.0
