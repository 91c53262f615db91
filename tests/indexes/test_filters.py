"""Metadata filters mean what a plain Python reading of them means, and bad ones say how to write them."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes.chunking import Chunking, chunks
from indexes.corpus import Document
from indexes.documents import DocumentStore
from indexes.errors import DuplicateDocument, InvalidFilter
from indexes.filters import parse_filter
from tests.fakes import HashingEncoder

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
}
SCALARS = [0, 1, 2, -3, 1.0, 1.5, 2**62, True, False, "", "1", "a", "b", "B", "ä", "\U0001f600"]
FIELDS = ["x", "y", "z"]


def matches(metadata: Mapping[str, Any], raw: Mapping[str, Any]) -> bool:
    """The plain twin."""
    return all(_member(metadata, key, value) for key, value in raw.items())


def _member(metadata: Mapping[str, Any], key: str, value: Any) -> bool:
    if key == "and":
        return all(matches(metadata, part) for part in value)
    if key == "or":
        return any(matches(metadata, part) for part in value)
    if key == "not":
        return not matches(metadata, value)
    stored = metadata.get(key, ())
    elements = stored if isinstance(stored, tuple) else (stored,)
    operators = value if isinstance(value, Mapping) else {"eq": value}
    return any(all(_holds(element, op, bound) for op, bound in operators.items()) for element in elements)


def _holds(element: Any, op: str, bound: Any) -> bool:
    if op == "in":
        return any(_holds(element, "eq", one) for one in bound)
    return isinstance(element, str) == isinstance(bound, str) and _ORDER[op](element, bound)


_scalar = st.sampled_from(SCALARS)
_value = _scalar | st.lists(_scalar, max_size=3).map(tuple)
_metadata = st.dictionaries(st.sampled_from(FIELDS), _value, max_size=3)
_operators = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(_ORDER, _scalar), "in": st.lists(_scalar, min_size=1, max_size=4)}
).filter(bool)
_leaf = st.dictionaries(st.sampled_from(FIELDS), _scalar | _operators, min_size=1, max_size=3)
_filter = st.recursive(
    _leaf,
    lambda inner: (
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"not": inner})
        | st.fixed_dictionaries({"not": inner, "x": _scalar})
    ),
    max_leaves=8,
)


def store_with(path: Path, contents: list[Mapping[str, Any]]) -> DocumentStore:
    store = DocumentStore(path, create=True)
    with store.writing() as db:
        for i, metadata in enumerate(contents):
            document = Document(f"d{i}", "", "text", metadata)
            store.insert(db, document, chunks(document, Chunking("whole"), HashingEncoder().count_tokens))
    return store


def found(store: DocumentStore, raw: object) -> list[int]:
    """Numbers of the documents that match, in order."""
    return [int(row) - 1 for row in store.matching(parse_filter(raw))]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("filters")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DocumentStore]:
    opened = store_with(
        tmp_path / "s.sqlite",
        [
            {"year": 1999, "lang": "en", "tags": ("a", "b")},
            {"year": 2005, "lang": "de"},
            {"year": "2005", "tags": ()},
            {"year": (1990, 2020)},
            {},
        ],
    )
    yield opened
    opened.close()


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(_metadata, min_size=1, max_size=6), filters=st.lists(_filter, min_size=5, max_size=5))
def test_every_filter_means_what_the_plain_reading_means(
    path: Path, contents: list[Mapping[str, Any]], filters: list[Mapping[str, Any]]
) -> None:
    (path / "s.sqlite").unlink(missing_ok=True)
    store = store_with(path / "s.sqlite", contents)
    for raw in filters:
        assert found(store, raw) == [i for i, metadata in enumerate(contents) if matches(metadata, raw)], raw
    store.close()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"year": 2005}, [1]),
        ({"year": "2005"}, [2]),
        ({"year": {"in": [1999, "2005"]}}, [0, 2]),
        ({"year": {"gte": 1999, "lt": 2005}}, [0]),
        ({"year": {"gte": 1995, "lt": 2010}}, [0, 1]),  # 1990 and 2020 are on either side, neither within
        ({"year": {"gt": "2"}}, [2]),
        ({"tags": "b"}, [0]),
        ({"not": {"tags": "b"}}, [1, 2, 3, 4]),
        ({"not": {"not": {"lang": "en"}}}, [0]),
        ({"or": [{"lang": "de"}, {"and": [{"lang": "en"}, {"year": 1999}]}]}, [0, 1]),
        ({"lang": "en", "year": 2005}, []),
        ({"nowhere": 1}, []),
    ],
)
def test_filters_by_example(store: DocumentStore, raw: object, expected: list[int]) -> None:
    assert found(store, raw) == expected


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        ({}, "write an object"),
        ([], "write an object"),
        ("year", "write an object"),
        (None, "write an object"),
        ({"and": []}, "non-empty list"),
        ({"or": {"x": 1}}, "non-empty list"),
        ({"or": "x"}, "non-empty list"),
        ({"not": []}, "write an object"),
        ({"x": {}}, "write a value or an operator"),
        ({"x": {"in": []}}, "non-empty list"),
        ({"x": {"in": "abc"}}, "non-empty list"),
        ({"x": {"like": "a"}}, "known are eq, in, gt, gte, lt, lte"),
        ({"x": None}, "only strings, numbers and booleans"),
        ({"x": [1, 2]}, "only strings, numbers and booleans"),
        ({"x": {"eq": {"y": 1}}}, "only strings, numbers and booleans"),
        ({"x": float("nan")}, "only finite numbers"),
        ({"x": {"lt": float("inf")}}, "only finite numbers"),
        ({"x": 2**63}, "64 bits"),
        ({"or": [{"x": i} for i in range(600)]}, 'use "in" for many values'),
        ({f"x{i}": i for i in range(101)}, "the limit is 100"),
        ({"x": {"in": list(range(10_001))}}, "the limit is 10000"),
    ],
)
def test_a_bad_filter_is_refused_with_a_hint(raw: object, hint: str) -> None:
    with pytest.raises(InvalidFilter, match=hint):
        parse_filter(raw)


def test_depth_is_limited_and_the_deepest_allowed_runs(store: DocumentStore) -> None:
    raw: dict[str, Any] = {"lang": "en"}
    for _ in range(16):
        raw = {"not": raw}
    assert found(store, raw) == [0]
    with pytest.raises(InvalidFilter, match="deeper than 16"):
        parse_filter({"not": raw})


def test_the_widest_allowed_filters_run(store: DocumentStore) -> None:
    leaves = [{"or": [{"lang": f"l{i}{j}"} for j in range(49)] + [{"lang": "en"}]} for i in range(100)]
    assert found(store, {"and": leaves}) == [0]
    assert found(store, {"year": {"in": list(range(1500, 1500 + 9_999))}}) == [0, 1, 3]
    assert found(store, {"and": [{"and": leaves[:99]}, {"not": {"lang": "de"}}]}) == [0]


@pytest.mark.parametrize("name", ["and", 'q"uote', "x'; DROP TABLE chunk; --", "\ud800", "naïve \U0001f600", ""])
def test_any_name_and_string_is_a_value_and_never_sql(tmp_path: Path, name: str) -> None:
    store = store_with(tmp_path / "s.sqlite", [{name: name}, {}])
    if name != "and":
        assert found(store, {name: name}) == [0]
    assert found(store, {"not": {"x": "y"}}) == [0, 1]
    store.close()


def test_numbers_beyond_64_bits_are_stored_and_compared_as_floats(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s.sqlite", [{"x": 2**64}, {"x": -(10**400)}, {"x": 5}])
    assert found(store, {"x": {"gt": 2**62}}) == [0]
    assert found(store, {"x": {"lt": 0}}) == [1]
    document = store.document("d0")
    assert document is not None
    assert document.metadata == {"x": 2**64}
    store.close()


def test_metadata_lists_become_tuples_and_lone_surrogates_are_replaced() -> None:
    document = Document("d", "", "", {"a\udc00": ["x\ud800", 1]})  # type: ignore[dict-item]
    assert document.metadata == {"a\ufffd": ("x\ufffd", 1)}


def test_a_hundred_thousand_chunks_are_filtered_in_sane_time(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path / "s.sqlite", create=True)
    n = 100_000
    with store.writing() as db:
        db.executemany("INSERT INTO document VALUES (?, ?, '', '', '{}')", ((i, f"d{i}") for i in range(1, n + 1)))
        db.executemany("INSERT INTO chunk VALUES (?, ?, ?, 0, 0, NULL)", ((i, f"d{i}#0", i) for i in range(1, n + 1)))
        db.executemany("INSERT INTO attribute VALUES ('n', ?, ?)", ((i % 10, i) for i in range(1, n + 1)))
    started = time.perf_counter()
    rows = store.matching(parse_filter({"not": {"n": {"in": [3, 7]}}}))
    assert np.array_equal(rows, [i for i in range(1, n + 1) if i % 10 not in (3, 7)])
    assert time.perf_counter() - started < 5, "about a quarter of a second alone"
    store.close()


# --- the store itself ---


def test_an_id_twice_is_refused_and_nothing_of_the_transaction_stays(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path / "s.sqlite", create=True)

    def insert_twice() -> None:
        with store.writing() as db:
            store.insert(db, Document("a", "", ""), [])
            store.insert(db, Document("a", "", ""), [])

    with pytest.raises(DuplicateDocument, match="'a' occurs twice"):
        insert_twice()
    assert store.counts() == (0, 0)
    store.close()


def test_rows_are_never_given_twice(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s.sqlite", [{}, {}])
    with store.writing() as db:
        store.remove(db, ["d1"], 1)
    assert store.next_row() == 3
    store.copy_to(tmp_path / "copy.sqlite")
    store.close()
    copy = DocumentStore(tmp_path / "copy.sqlite")
    assert copy.next_row() == 3
    assert copy.dead() == [(2, "d1#0")]
    copy.close()


def test_a_store_killed_before_its_schema_was_written_is_made_whole(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").touch()
    store = DocumentStore(tmp_path / "s.sqlite", create=True)
    assert store.counts() == (0, 0)
    store.close()
