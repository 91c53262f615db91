"""What a report says, before it is given a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.comparison import Comparison, Rules, compare
from eval.measures import Scores
from eval.reporting.pareto import Point
from eval.result_file import Facts
from eval.systems import System, gaps, irrelevant, judgements, scored, texts
from eval.trec import Qrels

PROVENANCE = ("command", "commit", "encoder", "model", "overrides", "seed", "versions", "hardware")
"""Keys of a result file that say how its figures came about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a system took, None where its file does not say. Times in milliseconds, sizes in MiB, tokens a query."""

    p50: float | None
    p95: float | None
    tokens: float | None
    decoded: float | None
    cache_share: float | None
    memory: float | None
    index: float | None
    build_seconds: float | None
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One report.

    measures    names in the order asked; the first is what plots show
    scores      system to its scores;  costs  system to what it took
    beats       system to measure to the letters of the systems it is significantly better than
    comparison  the tests behind that, None for a single system
    """

    title: str
    measures: Sequence[str]
    systems: Sequence[System]
    qrels: Qrels
    texts: Mapping[str, str]
    scores: Mapping[str, Scores]
    costs: Mapping[str, Costs]
    comparison: Comparison | None
    notes: Sequence[str]

    @property
    def names(self) -> list[str]:
        return [system.name for system in self.systems]

    def letter(self, name: str) -> str:
        """The system's letter in tables: a, b, ..., z, aa, ab."""
        number, letters = self.names.index(name) + 1, ""
        while number:
            number, rest = divmod(number - 1, 26)
            letters = chr(ord("a") + rest) + letters
        return letters

    def beats(self, name: str, measure: str) -> list[str]:
        """Letters of the systems that this one is significantly better than, by the corrected randomisation test."""
        if self.comparison is None:
            return []
        alpha, beaten = self.comparison.rules.alpha, []
        for pair in self.comparison.pairs:
            if pair.measure != measure or pair.randomised_corrected >= alpha or name not in (pair.before, pair.after):
                continue
            better, worse = (pair.after, pair.before) if pair.tested.mean > 0 else (pair.before, pair.after)
            if better == name:
                beaten.append(self.letter(worse))
        return sorted(beaten, key=lambda letters: (len(letters), letters))

    def best(self, measure: str) -> float:
        """The best value of a measure, as tables show it."""
        return max(round(scores.values[measure], 4) for scores in self.scores.values())

    def tested(self) -> str:
        """How differences were tested, in one sentence."""
        if self.comparison is None:
            return f"{len(self.qrels)} judged queries; a judged query without results counts 0."
        rules = self.comparison.rules
        return (
            f"{len(self.qrels)} judged queries; a judged query without results counts 0. Letters name the systems a "
            f"value is significantly above: paired two-sided randomisation test, {rules.resamples} resamples, seed "
            f"{rules.seed}, Holm's correction over {len(self.comparison.pairs)} tests, alpha {rules.alpha:g}."
        )

    def points(self, cost: str) -> list[Point]:
        """Quality in the first measure against ``p50`` or ``tokens``, for the systems whose cost is known."""
        known = ((name, getattr(self.costs[name], cost)) for name in self.names)
        return [
            Point(name, value, self.scores[name].values[self.measures[0]]) for name, value in known if value is not None
        ]

    def provenance(self, system: System) -> dict[str, str]:
        """How the system's figures came about, in words."""
        said: dict[str, str] = {}
        for key in PROVENANCE:
            value = system.summary.get(key)
            if isinstance(value, dict):
                value = ", ".join(f"{name} {version}" for name, version in value.items())
            if value not in (None, ""):
                said[key] = str(value)
        return said or {"file": "a TREC run; it does not say how it was made"}


def content(
    systems: Sequence[System],
    measures: Sequence[Any],
    *,
    title: str = "",
    qrels: Qrels | None = None,
    queries: Mapping[str, str] | None = None,
    rules: Rules,
) -> Content:
    """The report over the systems, each pair tested where there are several. Raises InvalidInput as ``compare``."""
    judged = judgements(systems, qrels)
    alone = len(systems) == 1
    comparison = None if alone else compare(systems, measures, qrels=qrels, queries=queries, baseline=None, rules=rules)
    return Content(
        title=title or _title(systems),
        measures=[str(measure) for measure in measures],
        systems=systems,
        qrels=judged,
        texts=texts(systems, queries or {}),
        scores=scored(systems, judged, measures),
        costs={system.name: _costs(system.facts) for system in systems},
        comparison=comparison,
        notes=[
            *irrelevant(judged),
            *(note for system in systems for note in [*gaps(system, judged), *system.notes]),
        ],
    )


def _title(systems: Sequence[System]) -> str:
    sets = sorted(
        {" ".join(filter(None, (one.facts.dataset, one.facts.split))) for one in systems if one.facts.dataset}
    )
    return f"Evaluation on {', '.join(sets)}" if sets else "Evaluation"


def _costs(facts: Facts) -> Costs:
    return Costs(
        p50=facts.latency_ms.p50,
        p95=facts.latency_ms.p95,
        tokens=facts.work.prefill_tokens,
        decoded=facts.work.decoded_tokens,
        cache_share=facts.cache_share,
        memory=facts.peak_memory_mb,
        index=facts.build.megabytes,
        build_seconds=sum(facts.build.seconds.values()) if facts.build.seconds else None,
        stages=facts.stages_ms,
    )
