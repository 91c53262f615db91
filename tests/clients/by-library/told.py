"""What every program here does: run its rows against a server and print what the client made of the answers.

Run by the Python of a group's environment, without Kvasir; standard input says what to ask, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

Hits = list[tuple[Any, ...]]


class Given(NamedTuple):
    """The server and the question; every row asks for the best ``top_n``, unless its client cannot."""

    url: str
    query: str
    documents: list[str]
    model: str
    top_n: int
    key: str = "key"


ROWS: dict[str, Callable[[Given], Any]] = {}


def row(ask: Callable[[Given], Any]) -> Callable[[Given], Any]:
    """A row of the table by the function's name. It returns (index, score) or (index, score, text), best first."""
    ROWS[ask.__name__] = ask
    return ask


def main() -> None:
    given = Given(**json.load(sys.stdin))
    told = {}
    for name, ask in ROWS.items():
        try:
            told[name] = {"made": ask(given)}
        except Exception as error:  # noqa: BLE001 - the test shows it
            told[name] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(told))  # noqa: T201
