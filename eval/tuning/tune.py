"""Tunes a pipeline on one split, checks the choice by the pipeline itself, and writes settings and record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.beir import Dataset, load_dataset
from eval.commands import shown, writable
from eval.indexing import index
from eval.kept_rows import fingerprint
from eval.machine import command, commit, hardware, versions
from eval.measures import check_cutoffs, parse_measures
from eval.measures import score as measured
from eval.run import evaluate
from eval.subject import in_library
from eval.tuning.choosing import Choice, choose
from eval.tuning.fusing import fusing
from eval.tuning.record import FORMAT, MARK, record_file
from eval.tuning.settings_file import toml
from eval.tuning.space import SELECT, Parameter, Point, parse_parameter, points
from eval.tuning.weighing import Weighing, allowed, weights_at
from indexes.durable import write_atomic
from rag.assemble import Engine
from rag.config import PipelineConfig, Settings
from rag.errors import InvalidInput
from rag.pipeline import MAX_BUDGET
from rag.selection.search import SetSelector
from rag.values import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What is tuned and how.

    name    of the new pipeline;  base  the one whose keys are tuned, with ``overrides``
    draw    points that are drawn of the grid, 0 tries all;  depth  documents of a query that are scored
    budgets  tokens of context, for weights of chunk sets;  candidates  chunks that they are chosen from
    """

    name: str
    base: str | None
    overrides: Mapping[str, Any]
    params: Sequence[str]
    metric: str = "nDCG@10"
    draw: int = 0
    seed: int = 0
    resamples: int = 10_000
    depth: int = 100
    budgets: Sequence[int] = (256, 512, 1024)
    candidates: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The choice, the settings that it makes, and the value that the pipeline itself has with them."""

    tuning: Tuning
    dataset: Dataset
    collection: str
    config: PipelineConfig
    choice: Choice
    measure: str
    checked: float

    def as_json(self) -> dict[str, Any]:
        """The record: plain values."""
        best, default, beside = self.choice.best, self.choice.tried[0], self.choice.beside
        return {
            MARK: FORMAT,
            "pipeline": self.tuning.name,
            "base": self.tuning.base,
            "overrides": dict(self.tuning.overrides),
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "qrels": fingerprint(self.dataset.qrels),
            "queries": len(default.per_query),
            "collection": self.collection,
            "metric": self.measure,
            "search": "random" if self.tuning.draw else "grid",
            "seed": self.tuning.seed,
            "default": {"point": dict(default.point), "value": default.value},
            "chosen": {"point": dict(best.point), "value": best.value, "by_the_pipeline": self.checked},
            "beside_default": {
                "difference": beside.mean,
                "interval": [beside.low, beside.high],
                "p": beside.randomised_p,
                "wins": beside.wins,
                "ties": beside.ties,
                "losses": beside.losses,
                "note": "on the queries that it was chosen on: too favourable",
            },
            "settings": asdict(self.config),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "command": command(),
            "versions": versions(),
            "hardware": hardware(),
            "tried": [{"point": dict(one.point), "value": one.value} for one in self.choice.tried],
        }


def run_tune(
    settings: Settings,
    named: str,
    tuning: Tuning,
    *,
    split: str,
    collection: str | None = None,
    out: Path | None = None,
) -> Tuned:
    """Tune on a split; writes the settings to ``out``, the record beside it and in the home directory.

    Raises InvalidInput for parameters that do not belong together, and for a file ``out`` that is no settings file's.
    """
    config = settings.pipeline(tuning.base, tuning.overrides)
    parameters = [parse_parameter(text, len(config.retrieve)) for text in tuning.params]
    weighs = {parameter.key.startswith(SELECT) for parameter in parameters}
    if len(weighs) > 1:
        raise InvalidInput("fusion and select.* are valued by different measures; tune one, then the other")
    if out is not None and out.suffix != ".toml":
        raise InvalidInput(f"{str(out)!r} gets settings; name a file that ends in .toml, the record stands beside it")
    writable(out)
    engine = Engine(settings)
    dataset = load_dataset(named, split, store=engine.home.root / "datasets")
    name = index(engine, dataset, collection).name
    work = _weighed if True in weighs else _fused
    tuned = work(engine, dataset, name, config, parameters, tuning)
    _write(tuned, settings, out)
    return tuned


def _fused(
    engine: Engine,
    dataset: Dataset,
    collection: str,
    config: PipelineConfig,
    parameters: Sequence[Parameter],
    tuning: Tuning,
) -> Tuned:
    (measure,) = _one(tuning.metric)
    check_cutoffs([measure], tuning.depth, f"--depth {tuning.depth} finds no more")
    subject = in_library(engine, dataset, tuning.base, tuning.overrides, depth=tuning.depth, collection=collection)
    fetch = subject.fetch
    config = replace(config, depth=max(config.depth, fetch), weights=config.weights or _equal(config))
    tried = points(parameters, asdict(config), draw=tuning.draw, seed=tuning.seed)
    depths = [point.get("depth", config.depth) for point in tried]
    if min(depths) < fetch:
        raise InvalidInput(
            f"depth = {min(depths)} is below the {fetch} chunks that are scored; try larger ones, or score fewer with "
            "--depth"
        )
    with shown("retrieve", len(dataset.queries) * len(config.retrieve)) as progress:
        table = fusing(
            engine,
            collection,
            config,
            dataset.queries,
            dataset.qrels,
            measure,
            depth=tuning.depth,
            fetch=fetch,
            deepest=max(depths),
            progress=progress,
        )
    with shown("fuse", len(tried)) as progress:
        choice = choose(tried, table.values, seed=tuning.seed, resamples=tuning.resamples, progress=progress)
    chosen = replace(config, **choice.best.point)
    keys = {**tuning.overrides, **choice.best.point}
    again = in_library(engine, dataset, tuning.base, keys, depth=tuning.depth, collection=collection)
    with shown("check", len(dataset.queries)) as progress:
        run = evaluate(again.search, dataset.queries, tuning.depth, fetch=again.fetch, progress=progress).run
    checked = measured(dataset.qrels, run, [measure]).values[str(measure)]
    return Tuned(
        tuning=tuning,
        dataset=dataset,
        collection=collection,
        config=chosen,
        choice=choice,
        measure=str(measure),
        checked=checked,
    )


def _equal(config: PipelineConfig) -> tuple[float, ...]:
    return tuple(1.0 / len(config.retrieve) for _ in config.retrieve)


def _one(metric: str) -> list[Any]:
    found = parse_measures(metric)
    if len(found) != 1:
        raise InvalidInput(f"{metric!r} names {len(found)} measures; a choice is made by one")
    return found


def _weighed(
    engine: Engine,
    dataset: Dataset,
    collection: str,
    config: PipelineConfig,
    parameters: Sequence[Parameter],
    tuning: Tuning,
) -> Tuned:
    if wrong := [budget for budget in tuning.budgets if not 1 <= budget <= MAX_BUDGET]:
        raise InvalidInput(f"budget = {wrong[0]}; a budget lies between 1 and {MAX_BUDGET} tokens")
    pipeline = engine.pipeline(collection, tuning.base, tuning.overrides)
    selector = pipeline.selector
    if not isinstance(selector, SetSelector):
        raise InvalidInput(f"select = {config.select!r} weighs no sets; tune with --set select=search")
    weights = selector.weights
    default = {f"{SELECT}{key}": value for key, value in asdict(weights).items()}
    tried: list[Point] = allowed(weights, points(parameters, default, draw=tuning.draw, seed=tuning.seed))
    rankings = []
    with shown("search", len(dataset.queries)) as progress:
        for query_id, text in dataset.queries.items():
            if text.strip():
                query = Query(text, query_id)
                rankings.append((query, pipeline.search(query, tuning.candidates)))
            progress(len(rankings))
    table = Weighing(selector, rankings, tuning.budgets, dataset.qrels)
    with shown("select", len(tried)) as progress:
        choice = choose(tried, table.values, seed=tuning.seed, resamples=tuning.resamples, progress=progress)
    selection = replace(engine.settings.selection, weights=weights_at(weights, choice.best.point))
    configured = Engine(replace(engine.settings, selection=selection))
    itself = configured.pipeline(collection, tuning.base, tuning.overrides).selector
    assert isinstance(itself, SetSelector)
    again = Weighing(itself, rankings, tuning.budgets, dataset.qrels).values({})
    return Tuned(
        tuning=tuning,
        dataset=dataset,
        collection=collection,
        config=config,
        choice=choice,
        measure=f"whole@{','.join(map(str, tuning.budgets))}",
        checked=sum(again.values()) / len(again),
    )


def _write(tuned: Tuned, settings: Settings, out: Path | None) -> None:
    """The settings and the record beside them; the home directory's copy guards the split wherever they go."""
    said = json.dumps(tuned.as_json(), ensure_ascii=False, indent=1).encode()
    own = record_file(settings.home.expanduser(), tuned.tuning.name)
    own.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(own, said)
    if out is not None:
        write_atomic(out, toml(tuned.tuning.name, tuned.config, tuned.choice.best.point, _from(tuned)).encode())
        write_atomic(out.with_suffix(".json"), said)


def _from(tuned: Tuned) -> str:
    choice = tuned.choice
    return (
        f"{tuned.measure} {choice.best.value:.4f} on {tuned.dataset.name} {tuned.dataset.split}, "
        f"{choice.tried[0].value:.4f} before; {len(choice.tried)} points tried. Report it on another split."
    )
