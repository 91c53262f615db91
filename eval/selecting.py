"""Chunk-set selection on a test collection: how often all that a question needs is in the context, at what cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.answer_measures import share
from eval.beir import load_dataset
from eval.commands import shown
from eval.indexing import index
from eval.measures import parse_measures, score
from eval.trec import Qrels, Scored
from eval.tuning.record import records, refuse_tuned
from indexes.encoding import Matrix, TextEncoder
from rag.assemble import Engine
from rag.config import Settings
from rag.entry import Entries
from rag.errors import InvalidInput
from rag.pipeline import MAX_BUDGET
from rag.protocols import Selector
from rag.selection.cost import costs
from rag.selection.mmr import MaximalMarginalRelevance
from rag.values import Context, Query, Ranking

HALVES = ("all", "tuning", "held-out")
"""Every other question by id, from the first or from the second on: weights are chosen on the first kind only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What one selector did within one budget; lists have a value a question, in the order of the questions.

    whole   1.0 where every relevant document is in the context, else 0.0;  tokens  of the context
    recall  share of the relevant documents that are in the context, 1.0 where there is none
    precision  share of the context's documents that are relevant, None for an empty context
    ndcg    of the context's documents in prompt order;  chunks  in it;  seconds  of selecting
    """

    selector: str
    budget: int
    whole: Sequence[float]
    recall: Sequence[float]
    precision: Sequence[float | None]
    tokens: Sequence[int]
    ndcg: Sequence[float]
    chunks: Sequence[int]
    seconds: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selections:
    """All selectors at all budgets over the same rankings.

    reachable  share of the questions whose relevant documents are all among the candidates
    ceiling    budget to the share of those where they fit into it as well: no selector can do more
    """

    dataset: str
    split: str
    half: str
    pipeline: str
    overrides: Mapping[str, Any]
    depth: int
    queries: Sequence[str]
    reachable: float
    ceiling: Mapping[int, float]
    rows: Sequence[Selected]
    notes: Sequence[str] = ()


def run_select(
    settings: Settings,
    named: str,
    *,
    pipeline: str | None,
    overrides: Mapping[str, Any],
    selectors: Sequence[str],
    budgets: Sequence[int],
    split: str = "test",
    half: str = "all",
    depth: int = 30,
    collection: str | None = None,
    config: Path | None = None,
    allow_tuned: bool = False,
) -> Selections:
    """Search every question once, then select from the ``depth`` best by every selector within every budget.

    config  the settings' file, beside which a record of tuning may stand
    Raises InvalidConfig for a selector that is none, InvalidInput for a budget that is out of range, a half without
    questions, and a pipeline that was tuned on the split, unless that is allowed: then a note says it.
    """
    known = records(settings.home, config)
    if wrong := [budget for budget in budgets if not 1 <= budget <= MAX_BUDGET]:
        raise InvalidInput(f"budget = {wrong[0]}; a budget lies between 1 and {MAX_BUDGET} tokens")
    settings = replace(settings, selection=replace(settings.selection, depth=depth))
    for selector in selectors:
        settings.pipeline(pipeline, {**overrides, "select": selector})  # refused before anything is built
    engine = Engine(settings)
    dataset = load_dataset(named, split, store=engine.home.root / "datasets")
    tried = {name: {**overrides, "select": name} for name in selectors}
    tuned = {
        name: refuse_tuned(settings, known, pipeline, chosen, dataset, allow=allow_tuned)
        for name, chosen in tried.items()
    }
    queries = _half(dataset.queries, half)
    found = index(engine, dataset, collection)
    deep = {**overrides, "depth": max(depth, settings.pipeline(pipeline, overrides).depth)}
    searching = engine.pipeline(found.name, pipeline, deep)
    with shown("search", len(queries)) as progress:
        rankings = _searched(searching.search, queries, depth, progress)
    encoder = Remembered(engine.encoder)
    rows = []
    with shown("select", len(selectors) * len(budgets)) as progress:
        for name in selectors:
            chosen = engine.pipeline(found.name, pipeline, {**deep, "select": name}).selector
            for budget in budgets:
                rows.append(selected(name, _remembering(chosen, encoder), rankings, budget, dataset.qrels))
                progress(len(rows))
    sizes = [_size_of_gold(ranking, dataset.qrels[query.id], engine) for query, ranking in rankings]
    return Selections(
        dataset=dataset.name,
        split=split,
        half=half,
        pipeline=searching.name,
        overrides=dict(overrides),
        depth=depth,
        queries=list(queries),
        reachable=float(np.mean([size is not None for size in sizes])),
        ceiling={budget: float(np.mean([size is not None and size <= budget for size in sizes])) for budget in budgets},
        rows=rows,
        notes=[f"{name}: {note}" for name, note in tuned.items() if note],
    )


def selected(
    name: str, selector: Selector, rankings: Sequence[tuple[Query, Ranking]], budget: int, qrels: Qrels
) -> Selected:
    """One selector within one budget, over rankings that were made before."""
    contexts, seconds = list[Context](), list[float]()
    for query, ranking in rankings:
        started = time.perf_counter()
        contexts.append(selector.select(query, ranking, budget))
        seconds.append(time.perf_counter() - started)
    documents = [list(dict.fromkeys(chunk.doc_id for chunk in context.chunks)) for context in contexts]
    ids = [query.id for query, _ in rankings]
    wanted = [sorted(gold(qrels[one])) for one in ids]
    run = {one: tuple(Scored(doc, 0.0) for doc in docs) for one, docs in zip(ids, documents, strict=True) if docs}
    ndcg = score({one: qrels[one] for one in ids}, run, parse_measures("nDCG")).per_query
    return Selected(
        selector=name,
        budget=budget,
        recall=[1.0 if one is None else one for one in shares(wanted, documents)],
        precision=shares(documents, wanted),
        whole=[float(gold(qrels[one]) <= set(docs)) for one, docs in zip(ids, documents, strict=True)],
        tokens=[context.tokens for context in contexts],
        ndcg=[ndcg[one]["nDCG"] for one in ids],
        chunks=[len(context.hits) for context in contexts],
        seconds=seconds,
    )


def shares(of: Sequence[Sequence[str]], among: Sequence[Sequence[str]]) -> list[float | None]:
    """A question's share of the first documents that are among the second, None of nothing."""
    return [share(hits, each) for each, hits in zip(of, among, strict=True)]


def gold(grades: Mapping[str, int]) -> set[str]:
    """The relevant documents."""
    return {document for document, grade in grades.items() if grade > 0}


class Remembered(TextEncoder):
    """An encoder that encodes each passage once: the same candidates come at every budget."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Matrix] = {}

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    def encode_passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Matrix:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode_passages(new, progress), strict=True))
        rows = [self._known[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)

    def encode_query(self, text: str) -> Matrix:
        return self._encoder.encode_query(text)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._encoder.count_tokens(texts)


def _remembering(selector: Selector, encoder: TextEncoder) -> Selector:
    return replace(selector, encoder=encoder) if isinstance(selector, MaximalMarginalRelevance) else selector


def _half(queries: Mapping[str, str], half: str) -> dict[str, str]:
    if half not in HALVES:
        raise InvalidInput(f"half = {half!r}; choose of: {', '.join(HALVES)}")
    ids = sorted(query_id for query_id, text in queries.items() if text.strip())
    chosen = {"all": ids, "tuning": ids[::2], "held-out": ids[1::2]}[half]
    if not chosen:
        raise InvalidInput(f"no question is left of {len(ids)} for half = {half!r}; take all")
    return {query_id: queries[query_id] for query_id in chosen}


def _searched(
    search: Callable[[Query, int], Ranking], queries: Mapping[str, str], depth: int, progress: Callable[[int], None]
) -> list[tuple[Query, Ranking]]:
    found = []
    for query_id, text in queries.items():
        query = Query(text, query_id)
        found.append((query, search(query, depth)))
        progress(len(found))
    return found


def _size_of_gold(ranking: Ranking, grades: Mapping[str, int], engine: Engine) -> int | None:
    """Tokens of the cheapest chunk of every relevant document, None where one has none among the candidates."""
    least: dict[str, int] = {}
    for hit, cost in zip(ranking.hits, costs(ranking.hits, Entries(engine.encoder)), strict=True):
        least[hit.chunk.doc_id] = min(cost, least.get(hit.chunk.doc_id, cost))
    wanted = gold(grades)
    return sum(least[document] for document in wanted) if wanted <= least.keys() else None
