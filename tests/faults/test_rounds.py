"""One round of each kind of fault; ``python -m tests.faults.rounds`` does fifty."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from indexes.home import Home
from tests.faults.ledger import Ledger
from tests.faults.rounds import KINDS, rounds
from tests.faults.stack import Stack


@pytest.mark.timeout(600)
def test_what_was_acknowledged_is_kept_and_what_was_deleted_stays_away(small_home: Home, tmp_path: Path) -> None:
    shutil.copytree(small_home.root, tmp_path / "home")
    stack = Stack(tmp_path / "home", tmp_path / "server.log")
    stack.start()
    try:
        done = list(rounds(stack, len(KINDS), seed=3))
    finally:
        stack.end()
    log = (tmp_path / "server.log").read_text(errors="replace")[-2000:]
    assert [one.wrong for one in done] == [[], [], []], log
    assert sorted(one.kind for one in done) == sorted(KINDS)
    assert sum(one.acknowledged for one in done) > 0
    assert done[-1].jobs > 0


def test_the_ledger_tells_loss_from_return_and_forgives_what_nobody_knows() -> None:
    ledger = Ledger()
    ledger.begin("a", 1)
    assert ledger.judge("a", 1) == "", "sent, and no answer: there or not"
    ledger.begin("a", 2)
    ledger.acknowledge("a", 2)
    assert ledger.judge("a", 1) == "lost"
    ledger.begin("b", 3)
    ledger.acknowledge("b", 3)
    assert ledger.judge("b", None) == "lost"
    ledger.begin("c", 4)
    ledger.acknowledge("c", 4)
    ledger.begin("c", None)
    ledger.acknowledge("c", None)
    assert ledger.judge("c", 4) == "returned"
