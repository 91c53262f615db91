"""The pairwise sorters against lists with a table of comparison answers and the orders that must come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rag.errors import InvalidConfig
from rag.reranking.sorting import Compare, Memo, Pair, Sorted, allpair, heapsort, sliding


@dataclass(frozen=True, slots=True)
class Report:
    """cases that were run, cases without any difference, and one line for each difference."""

    cases: int
    passed: int
    failures: tuple[str, ...]


class SortedAs(msgspec.Struct, frozen=True):
    """What a sorter must do: the order, its comparisons, and for short lists the pairs in the order they were asked."""

    order: tuple[int, ...]
    comparisons: int
    distinct_pairs: int
    compared: tuple[Pair, ...] | None = None


class ScoredAs(msgspec.Struct, frozen=True):
    """What allpair must return."""

    order: tuple[int, ...]
    scores: tuple[float, ...]
    comparisons: int


class Expected(msgspec.Struct, frozen=True):
    """One expectation a sorter."""

    heapsort: SortedAs
    sliding: SortedAs
    allpair: ScoredAs


class Case(msgspec.Struct, frozen=True):
    """One list of n documents: answers[a][b] is "A", "B" or "?" for a shown as Passage A and b as Passage B."""

    id: str
    n: int
    k: int
    answers: tuple[str, ...]
    expected: Expected

    def __post_init__(self) -> None:
        if self.n < 1 or self.k < 1:
            raise ValueError(f"n = {self.n}, k = {self.k}; both are at least 1")
        if [len(row) for row in self.answers] != [self.n] * self.n or not set("".join(self.answers)) <= set("AB?-"):
            raise ValueError(f"answers: {self.n} rows of {self.n} letters A, B, ? or - are needed")


def verify(directory: Path) -> Report:
    """Runs every case of ``directory/cases.jsonl``. Raises InvalidConfig where it is missing, empty or malformed."""
    failures: list[str] = []
    failed = 0
    cases = read_cases(directory)
    for case in cases:
        differences = [f"{case.id}: {difference}" for difference in check(case)]
        failed += bool(differences)
        failures += differences
    return Report(len(cases), len(cases) - failed, tuple(failures))


def read_cases(directory: Path) -> list[Case]:
    """The cases of ``directory/cases.jsonl``, in its order; blank lines are skipped."""
    path = directory / "cases.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read ({error.strerror}); name the folder that holds it") from error
    cases = [_decoded(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not cases:
        raise InvalidConfig(f"{path} holds no cases; a file of one JSON case a line is needed")
    return cases


def _decoded(line: bytes, where: str) -> Case:
    try:
        return msgspec.json.decode(line, type=Case)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfig(f"{where} is no PRP case ({error}); restore the file from its source") from error


def check(case: Case) -> Iterator[str]:
    """What differs from the expectations of one case, a line for each."""
    yield from _serial(case, "heapsort", heapsort, case.expected.heapsort)
    yield from _serial(case, "sliding", sliding, case.expected.sliding)
    result, expected = allpair(case.n, case.k, agreeing(case.answers)), case.expected.allpair
    yield from _sequence("allpair order", result.order, expected.order)
    yield from _sequence("allpair scores", result.scores, expected.scores)
    yield from _count("allpair comparisons", result.comparisons, expected.comparisons)


def agreeing(answers: Sequence[str]) -> Compare:
    """x beats y where both orders of the two say so; everything else is a tie."""
    outcome = {("A", "B"): 1.0, ("B", "A"): -1.0}
    return lambda pairs: [outcome.get((answers[x][y], answers[y][x]), 0.0) for x, y in pairs]


def _serial(case: Case, name: str, sort: Callable[[int, int, Compare], Sorted], expected: SortedAs) -> Iterator[str]:
    memo = Memo(agreeing(case.answers))
    compared: list[Pair] = []

    def compare(pairs: Sequence[Pair]) -> list[float]:
        compared.extend(pairs)
        return memo(pairs)

    result = sort(case.n, case.k, compare)
    yield from _sequence(f"{name} order", result.order, expected.order)
    yield from _count(f"{name} comparisons", result.comparisons, expected.comparisons)
    yield from _count(f"{name} distinct pairs", memo.computed, expected.distinct_pairs)
    if expected.compared is not None:
        yield from _sequence(f"{name} compared", compared, expected.compared)


def _count(what: str, found: int, expected: int) -> Iterator[str]:
    if found != expected:
        yield f"{what}: {found}, expected {expected}"


def _sequence(what: str, found: Sequence[object], expected: Sequence[object]) -> Iterator[str]:
    """At most one line, naming the first place that differs."""
    if len(found) != len(expected):
        yield f"{what}: {len(found)} long, expected {len(expected)}"
        return
    for place, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            yield f"{what}: {one} at place {place}, expected {other}"
            return
