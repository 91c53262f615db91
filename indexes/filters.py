"""Metadata filters: a small tree that compiles to one SQL set expression over the attribute table.

The JSON form, as the API and ``--filter`` take it::

    {"year": 2020}                          equals; a list-valued field matches if any element does
    {"lang": {"in": ["en", "de"]}}          one of
    {"year": {"gte": 2000, "lt": 2010}}     range (gt, gte, lt, lte), numbers or strings; one element is within it
    {"and": [F, ...]}  {"or": [F, ...]}  {"not": F}
    {"year": 2020, "lang": "en"}            several keys mean "and"

A document without the field matches no equals, in or range, so it does match their negation.
Numbers and strings never equal each other; true equals 1, as in JSON readers and SQLite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexes.corpus import Scalar, clean_text
from indexes.errors import InvalidFilter

MAX_DEPTH = 16
MAX_PARTS = 100
"""Most conditions side by side: SQLite joins at most 500 selects."""
MAX_TERMS = 10_000
"""Most names and values in all; SQLite takes 32,766."""

Part = tuple[str, list[Scalar]]
"""SQL with its parameters."""

_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter: ``sql`` selects document rows, ``parameters`` fill its placeholders; the fields it names."""

    sql: str
    parameters: tuple[Scalar, ...]
    fields: frozenset[str] = frozenset()


def parse_filter(raw: object) -> Filter:
    """The filter that a JSON value means. Raises InvalidFilter with the offending part."""
    sets = _Sets()
    sql, parameters = _node(raw, 0, sets)
    if len(sets.parameters) + len(parameters) > MAX_TERMS:
        n = len(sets.parameters) + len(parameters)
        raise InvalidFilter(f"the filter holds {n} names and values; the limit is {MAX_TERMS}")
    named = f"WITH {', '.join(sets.definitions)} " if sets.definitions else ""
    return Filter(named + sql, (*sets.parameters, *parameters), frozenset(sets.fields))


class _Sets:
    """Named sets of documents, each before those made of it: nested in brackets they would overflow SQLite's parser."""

    def __init__(self) -> None:
        self.definitions: list[str] = []
        self.fields: set[str] = set()
        self.parameters: list[Scalar] = []

    def name(self, sql: str, parameters: Sequence[Scalar]) -> Part:
        name = f"set{len(self.definitions)}"
        self.definitions.append(f"{name} AS ({sql})")
        self.parameters.extend(parameters)
        return f"SELECT doc FROM {name}", []


def _node(raw: object, depth: int, sets: _Sets) -> Part:
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"the filter is nested deeper than {MAX_DEPTH} levels; flatten it")
    if not isinstance(raw, Mapping) or not raw:
        raise InvalidFilter(f'{_short(raw)} is not a filter; write an object such as {{"year": {{"gte": 2000}}}}')
    return _join("INTERSECT", [_member(str(key), value, depth, sets) for key, value in raw.items()], sets)


def _member(key: str, value: object, depth: int, sets: _Sets) -> Part:
    if key in ("and", "or"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise InvalidFilter(f'"{key}" takes a non-empty list of filters, not {_short(value)}')
        return _join("INTERSECT" if key == "and" else "UNION", [_node(part, depth + 1, sets) for part in value], sets)
    if key == "not":
        sql, parameters = _node(value, depth + 1, sets)
        return sets.name(f"SELECT row AS doc FROM document EXCEPT {sql}", parameters)
    if isinstance(value, Mapping) and not value:
        raise InvalidFilter(f'{key!r} has an empty condition; write a value or an operator such as {{"gte": 1}}')
    sets.fields.add(clean_text(key))
    return _condition(clean_text(key), value if isinstance(value, Mapping) else {"eq": value})


def _condition(key: str, operators: Mapping[object, object]) -> Part:
    """All operators hold for one and the same value, also where the field is a list."""
    tests = [_operator(key, str(op), operand) for op, operand in operators.items()]
    sql = " AND ".join(["SELECT doc FROM attribute WHERE name = ?", *(sql for sql, _ in tests)])
    return sql, [key, *(value for _, values in tests for value in values)]


def _operator(key: str, op: str, operand: object) -> Part:
    if op == "in":
        if not isinstance(operand, Sequence) or isinstance(operand, str) or not operand:
            raise InvalidFilter(f'"in" of {key!r} takes a non-empty list, not {_short(operand)}')
        return f"value IN ({', '.join('?' * len(operand))})", [_scalar(key, v) for v in operand]
    if op == "eq":
        return "value = ?", [_scalar(key, operand)]
    if op not in _COMPARISONS:
        raise InvalidFilter(f'unknown operator "{op}" of {key!r}; known are eq, in, gt, gte, lt, lte')
    bound = _scalar(key, operand)
    kinds = "('text')" if isinstance(bound, str) else "('integer', 'real')"
    return f"value {_COMPARISONS[op]} ? AND typeof(value) IN {kinds}", [bound]


def _join(operator: str, parts: Sequence[Part], sets: _Sets) -> Part:
    """One part of several, by a set operator of SQL. A part itself is always a plain select."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) > MAX_PARTS:
        raise InvalidFilter(
            f'{len(parts)} conditions stand side by side, the limit is {MAX_PARTS}; use "in" for many values'
        )
    sql = f" {operator} ".join(sql for sql, _ in parts)
    return sets.name(sql, [value for _, values in parts for value in values])


def _scalar(key: str, value: object) -> Scalar:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidFilter(f"{key!r} is compared with {value}; only finite numbers can be compared")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidFilter(f"{key!r} is compared with {value}; whole numbers have 64 bits")
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int | float):
        return value
    raise InvalidFilter(f"{key!r} is compared with {_short(value)}; only strings, numbers and booleans can be compared")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
