"""What can be tried: parameters with their values, and the points that they span. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

from rag.errors import InvalidInput
from rag.retrieval.composite import Fuse
from rag.selection_table import Weights
from rag.tables import MAX_K

Point = Mapping[str, Any]
"""Key to value: keys of a pipeline, or ``select.NAME`` for a weight of chunk sets."""

MOST = 20_000
"""Points of a grid, and values of a parameter."""
DEPTHS = (100, 200, 500, 1000)
SELECT = "select."
PIPELINE_KEYS = {"fuse.weights": "weights", "fuse.method": "fuse", "depth": "depth"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key and the values that it is tried with."""

    key: str
    values: tuple[Any, ...]


def parse_parameter(text: str, retrievers: int) -> Parameter:
    """``NAME`` or ``NAME=VALUES``; values are listed with commas, numbers also as ``low:high:step``.

    fuse.weights  a weight for each of so many retrievers: all that are multiples of a step (0.1 unless given) and
                  sum to 1
    fuse.method   rrf, minmax, zscore, theoretical;  depth  candidates of each retriever
    select.NAME   a weight of [selection.weights]
    Raises InvalidInput for what is none of these.
    """
    name, _, said = (part.strip() for part in text.partition("="))
    if name == "fuse.weights":
        return Parameter("weights", tuple(shares(retrievers, _step(said or "0.1"))))
    if name == "fuse.method":
        known = get_args(Fuse)
        methods = tuple(part.strip() for part in said.split(",")) if said else known
        if wrong := [method for method in methods if method not in known]:
            raise InvalidInput(f"fuse.method={wrong[0]!r}; choose of: {', '.join(known)}")
        return Parameter("fuse", methods)
    if name == "depth":
        depths = tuple(int(value) for value in _numbers(said, name)) if said else DEPTHS
        if wrong_depth := [depth for depth in depths if not 1 <= depth <= MAX_K]:
            raise InvalidInput(f"depth={wrong_depth[0]}; a depth lies between 1 and {MAX_K}")
        return Parameter("depth", depths)
    weights = {f"{SELECT}{field.name}" for field in fields(Weights)}
    if name in weights and said:
        return Parameter(name, tuple(_numbers(said, name)))
    if name in weights:
        raise InvalidInput(f"{name} needs values; write for example --param {name}=0:0.5:0.1")
    raise InvalidInput(f"no parameter {name!r}; there is: {', '.join([*PIPELINE_KEYS, *sorted(weights)])}")


def _step(text: str) -> int:
    """How many steps make 1."""
    try:
        count = 1 / float(text)
    except (ValueError, ZeroDivisionError):
        count = 0.0
    if not 1 <= count <= 1000 or abs(count - round(count)) > 1e-6:
        raise InvalidInput(f"fuse.weights={text}; a step divides 1 into at most 1000 parts, as 0.1 or 0.05 do")
    return round(count)


def shares(parts: int, steps: int) -> list[tuple[float, ...]]:
    """All ways to share 1 among ``parts`` in multiples of 1 / steps, in the order of the first, then the second part.

    Raises InvalidInput for more than MOST: there are binomial(steps + parts - 1, parts - 1).
    """
    if (count := math.comb(steps + parts - 1, parts - 1)) > MOST:
        raise InvalidInput(f"fuse.weights have {count} points; the most is {MOST}, take a larger step")
    bars = itertools.combinations(range(steps + parts - 1), parts - 1)
    return [
        tuple(round((end - start - 1) / steps, 6) for start, end in itertools.pairwise((-1, *cut, steps + parts - 1)))
        for cut in bars
    ]


def _numbers(text: str, name: str) -> list[float]:
    try:
        if ":" in text:
            low, high, step = (float(part) for part in text.split(":"))
            if not (math.isfinite(low) and math.isfinite(high) and step > 0 and low <= high):
                raise ValueError
            count = math.floor((high - low) / step + 1e-9) + 1
            return _ranged(low, step, count, f"{name}={text}")
        found = [float(part) for part in text.split(",")]
        if not all(math.isfinite(value) for value in found):
            raise ValueError
    except InvalidInput:
        raise
    except ValueError:
        raise InvalidInput(f"{name}={text!r} is no list of numbers; write 100,500 or 0:1:0.1") from None
    return found


def _ranged(low: float, step: float, count: int, said: str) -> list[float]:
    if count > MOST:
        raise InvalidInput(f"{said} has {count} values; the most is {MOST}, take a larger step")
    return [round(low + number * step, 9) for number in range(count)]


def points(parameters: Sequence[Parameter], default: Point, *, draw: int = 0, seed: int = 0) -> list[Point]:
    """The default first, then every other point of the grid in its order; or ``draw`` of them, drawn without return.

    Raises InvalidInput for a parameter that comes twice and a grid of more than MOST points that is not drawn from.
    """
    keys = [parameter.key for parameter in parameters]
    if not parameters or len(set(keys)) != len(keys):
        raise InvalidInput("name at least one --param, each once; for example --param fuse.weights")
    size = math.prod(len(parameter.values) for parameter in parameters)
    if size > MOST and not draw:
        raise InvalidInput(f"the grid has {size} points; the most is {MOST}, draw some with --search random --points N")
    numbers = sorted(random.Random(seed).sample(range(size), min(draw, size))) if draw else range(size)  # noqa: S311
    first = {key: default[key] for key in keys}
    found = [_point(parameters, number) for number in numbers]
    return [first, *(point for point in found if point != first)]


def _point(parameters: Sequence[Parameter], number: int) -> dict[str, Any]:
    """The point of that number in the order of itertools.product."""
    chosen = {}
    for parameter in reversed(parameters):
        number, place = divmod(number, len(parameter.values))
        chosen[parameter.key] = parameter.values[place]
    return {parameter.key: chosen[parameter.key] for parameter in parameters}
