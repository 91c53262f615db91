"""What choosing a chunk set costs: the search with terms that need no model, and the likelihood over cached chunks.

Weights of the model are random, of a real model's shape: time and tokens are real, values mean nothing.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence

from eval.bench.figures import Figure
from eval.bench.shapes import flops, random_model
from eval.bench.timing import seconds
from rag.entry import Entries
from rag.kv.library import ChunkLibrary
from rag.kv.memory import MemoryStore
from rag.kv.modes import parse_mode
from rag.kv.reader import CachedReader
from rag.reranking.icr import lead_of
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Reader
from rag.selection.evaluator import solve
from rag.selection.likelihood import Likelihood
from rag.selection.portfolio import SEARCHERS
from rag.selection.problem import Limits, Selection
from rag.selection.search import SetSelector
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport

CANDIDATES, BUDGET, EVALUATIONS = 30, 512, 400
WORDS, LEXICON = 100, 2000
"""Words of a chunk, and how many different ones there are."""
EXPANDED, PASSAGE_TOKENS = 10, 128
"""Children of the expansion that is valued, and tokens of a chunk that the model reads."""
ROOM = 2**36
QUESTION = Query(" ".join(f"w{i}" for i in range(12)))


def selecting(shape: str, repeats: int) -> Iterator[Figure]:
    """Every figure for one shape. Raises InvalidInput for an unknown one."""
    yield _analytic(repeats)
    yield from _likelihood(shape, repeats)


class WordCounter:
    """Counts what stands between blanks."""

    name = "words"

    def __call__(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def candidates() -> Ranking:
    """Chunks of random words, some of which name another chunk's title; the same in every run."""
    chance = random.Random(0)  # noqa: S311
    hits = []
    for i in range(CANDIDATES):
        words = [f"w{min(int(chance.expovariate(1 / 300)), LEXICON)}" for _ in range(WORDS)]
        words[::25] = [f"title{chance.randrange(CANDIDATES)}" for _ in words[::25]]
        text = " ".join(words)
        hits.append(Hit(Chunk(f"c{i:02}", f"d{i:02}", text, 0, len(text), f"title{i}"), 1.0 - i / CANDIDATES))
    return Ranking(tuple(hits), ScoreKind.COSINE, StageReport("made"))


def _analytic(repeats: int) -> Figure:
    """The default search beside its terms alone: the same sets in batches of 64, without a searcher."""
    selector = SetSelector(count=Entries(WordCounter()), limits=Limits(evaluations=EVALUATIONS))
    ranking = candidates()
    pool = selector.pool(QUESTION, ranking, ranking.hits, BUDGET)
    utility = selector.utility(pool)
    problem = selector.problem(pool, utility)
    asked: list[Selection] = []

    def noted(batch: Sequence[Selection]) -> list[float]:
        asked.extend(batch)
        return utility(batch)

    found = solve(selector.problem(pool, utility), SEARCHERS[selector.searcher], selector.limits)
    watched = type(problem)(costs=problem.costs, budget=BUDGET, utility=noted, most=problem.most)
    solve(watched, SEARCHERS[selector.searcher], selector.limits)

    def terms_alone() -> None:
        for at in range(0, len(asked), 64):
            utility(asked[at : at + 64])

    ours = [seconds(lambda: solve(problem, SEARCHERS[selector.searcher], selector.limits)) for _ in range(4 * repeats)]
    bare = [seconds(terms_alone) for _ in range(4 * repeats)]
    whole = [seconds(lambda: selector.select(QUESTION, ranking, BUDGET)) for _ in range(4 * repeats)]
    return Figure(
        name=f"search, {EVALUATIONS} evaluations of {CANDIDATES} candidates",
        measured=1e3 * min(ours),
        baseline=1e3 * min(bare),
        unit="ms",
        relation="value",
        target=30.0,
        note=f"least of {4 * repeats}; {found.evaluations} sets valued; beside the terms of the same sets alone; "
        f"with reading the texts and the reasons of every candidate {1e3 * min(whole):.1f} ms",
    )


def _likelihood(shape: str, repeats: int) -> Iterator[Figure]:
    """One expansion of the tree from cached states beside the same prompts computed whole."""
    model = random_model(shape)
    chunks = [hit.chunk for hit in candidates()][: EXPANDED + 3]
    sets: list[Selection] = [(0, 1, 2, i) for i in range(3, EXPANDED + 3)]
    cached = CachedReader(ChunkLibrary(model, lead_of, MemoryStore(ROOM)), parse_mode("independent"))
    _valued(cached, chunks, sets)  # reads every chunk
    ours, theirs = _valued(cached, chunks, sets), _valued(model, chunks, sets)
    term = Likelihood(lambda: model, QUESTION.text, chunks, PASSAGE_TOKENS, Meter())
    prompts = [term.prompt(one) for one in sets]
    asked, whole = len(prompts[0].segments[-1].ids), len(prompts[0].ids)
    note = f"{EXPANDED} sets of 4 chunks of {PASSAGE_TOKENS} tokens; a prompt has {whole}, the question {asked}"
    yield Figure(
        name="likelihood of an expansion, tokens computed",
        measured=ours.prefill,
        baseline=sum(len(prompt.ids) for prompt in prompts),
        unit="tokens",
        target=0.2,
        note=f"{note}; beside every prompt whole; with shared beginnings, without a cache {theirs.prefill}",
    )
    times = [seconds(lambda: _valued(cached, chunks, sets)) for _ in range(repeats)]
    full = [seconds(lambda: _one_by_one(model, prompts)) for _ in range(repeats)]
    shared = [seconds(lambda: _valued(model, chunks, sets)) for _ in range(repeats)]
    left = flops(model, ours.prefill, past=whole - asked)
    yield Figure(
        name="likelihood of an expansion, time",
        measured=statistics.median(times),
        baseline=statistics.median(full),
        unit="s",
        target=0.5,
        note=f"{ours.passes} passes, beside every prompt whole; with shared beginnings, without a cache "
        f"{statistics.median(shared):.3f} s in {theirs.passes} passes; {left / 1e9:.1f} GFLOP are left to do, "
        f"{flops(model, sum(len(prompt.ids) for prompt in prompts)) / 1e9:.1f} without a cache",
    )


def _one_by_one(reader: Reader, prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        reader.likelihood([prompt], Meter())


def _valued(reader: Reader, chunks: Sequence[Chunk], sets: Sequence[Selection]) -> Meter:
    meter = Meter()
    Likelihood(lambda: reader, QUESTION.text, chunks, PASSAGE_TOKENS, meter)(sets)
    return meter
