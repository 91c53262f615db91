"""The pairwise sorters against reference orders: six lists worked out by hand, and the shared ones where they are."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rag.errors import InvalidConfig
from rag.reranking.prp_oracle import Case, Report, agreeing, read_cases, verify
from rag.reranking.sorting import Memo, Pair, heapsort, quickselect, sliding
from tests.data import shared_oracle

BY_HAND = Path(__file__).parent / "prp"


@pytest.fixture
def oracle() -> Path:
    return shared_oracle("prp")


def test_six_lists_worked_out_by_hand() -> None:
    assert verify(BY_HAND) == Report(cases=6, passed=6, failures=())


def test_every_shared_list(oracle: Path) -> None:
    assert verify(oracle) == Report(cases=38, passed=38, failures=())


def test_a_heap_built_by_levels_gives_every_shared_order_and_count(oracle: Path) -> None:
    for case in read_cases(oracle):
        memo = Memo(agreeing(case.answers))
        result, expected = heapsort(case.n, case.k, memo, batched=True), case.expected.heapsort
        assert (result.order, result.comparisons, memo.computed) == (
            expected.order,
            expected.comparisons,
            expected.distinct_pairs,
        )


def test_quickselect_gives_the_top_k_of_every_shared_list_without_ties_and_cycles(oracle: Path) -> None:
    """In a strict total order, and there alone, the allpair scores are n-1, n-2 ... 0."""
    total = [case for case in read_cases(oracle) if set(case.expected.allpair.scores) == set(range(case.n))]
    assert len(total) >= 13
    for case in total:
        compare = agreeing(case.answers)
        assert quickselect(case.n, case.k, compare).order == sliding(case.n, case.k, compare).order


# --- what the check itself notices ---


def written(folder: Path, *cases: Case) -> Path:
    (folder / "cases.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, cases)))
    return folder


def swapped(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    return (*pairs[:-1], (pairs[-1][1], pairs[-1][0]))


def test_every_difference_is_a_line_with_its_case(tmp_path: Path) -> None:
    right = read_cases(BY_HAND)[0]
    wanted = right.expected
    assert wanted.heapsort.compared is not None
    heap = msgspec.structs.replace(wanted.heapsort, order=(2, 0, 1), compared=swapped(wanted.heapsort.compared))
    slide = msgspec.structs.replace(wanted.sliding, comparisons=4, distinct_pairs=2)
    every = msgspec.structs.replace(wanted.allpair, order=(2, 1), scores=(0.5, 1.0, 2.0), comparisons=6)
    wrong = msgspec.structs.replace(
        right, id="wrong", expected=msgspec.structs.replace(wanted, heapsort=heap, sliding=slide, allpair=every)
    )
    assert verify(written(tmp_path, right, wrong)) == Report(
        cases=2,
        passed=1,
        failures=(
            "wrong: heapsort order: 1 at place 1, expected 0",
            "wrong: heapsort compared: (1, 0) at place 2, expected (0, 1)",
            "wrong: sliding comparisons: 3, expected 4",
            "wrong: sliding distinct pairs: 3, expected 2",
            "wrong: allpair order: 3 long, expected 2",
            "wrong: allpair scores: 0.0 at place 0, expected 0.5",
            "wrong: allpair comparisons: 3, expected 6",
        ),
    )


def test_a_list_without_the_sequence_of_pairs_is_checked_for_the_rest(tmp_path: Path) -> None:
    case = read_cases(BY_HAND)[0]
    heap = msgspec.structs.replace(case.expected.heapsort, compared=None, comparisons=9)
    changed = msgspec.structs.replace(case, expected=msgspec.structs.replace(case.expected, heapsort=heap))
    assert verify(written(tmp_path, changed)).failures == ("reversed: heapsort comparisons: 3, expected 9",)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"cases\.jsonl cannot be read \(No such file or directory\); name the"):
        verify(tmp_path)
    (tmp_path / "cases.jsonl").write_text("\n\n")
    with pytest.raises(InvalidConfig, match="holds no cases"):
        verify(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b"\xff\xfe",
        b'{"id": "x"}',
        b'{"id": "\xff"}',
        b'{"id": "x", "n": "3", "k": 1, "answers": [], "expected": {}}',
    ],
)
def test_a_malformed_line_is_refused_with_its_number(tmp_path: Path, line: bytes) -> None:
    first = (BY_HAND / "cases.jsonl").read_bytes().splitlines()[0]
    (tmp_path / "cases.jsonl").write_bytes(first + b"\n" + line + b"\n")
    with pytest.raises(InvalidConfig, match=r"cases\.jsonl:2 is no PRP case .*; restore the file"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"n": 3', b'"n": 4'), (b'"A-B"', b'"A-"'), (b'"A-B"', b'"A-C"'), (b'"k": 3', b'"k": 0')],
)
def test_a_table_that_does_not_fit_its_list_is_refused(tmp_path: Path, before: bytes, after: bytes) -> None:
    first = (BY_HAND / "cases.jsonl").read_bytes().splitlines()[0]
    (tmp_path / "cases.jsonl").write_bytes(first.replace(before, after))
    with pytest.raises(InvalidConfig, match=r"cases\.jsonl:1 is no PRP case"):
        verify(tmp_path)
