"""``python -m tests.faults.rounds --rounds 50``: kill, recover, compare with what was acknowledged; a table at the end.

Each round: two writers, a sender of jobs and a searcher at work, kill -9 of all server processes, of one of them or of
Redis at a random moment, a little more work. Then every document a writer ever touched is read and searched for, and
the jobs that were taken on are done.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.home import Home
from rag.encoders import SentenceEncoder
from tests.fakes import ListSource
from tests.faults.clients import COLLECTION, Searcher, Writer
from tests.faults.jobs import Sender
from tests.faults.stack import Stack
from tests.rag.documents import small_documents

KINDS = ("server", "worker", "redis")


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one fault. ``wrong`` should be empty.

    jobs  taken on so far;  seconds  until all was ready again
    """

    number: int
    kind: str
    moment: float
    acknowledged: int
    unknown: int
    searches: int
    jobs: int
    seconds: float
    wrong: Sequence[str]


def rounds(stack: Stack, number: int, seed: int) -> Iterator[Round]:
    """That many rounds on a stack that runs, each kind equally often."""
    chance = random.Random(seed)
    kinds = [KINDS[n % len(KINDS)] for n in range(number)]
    chance.shuffle(kinds)
    writers, searcher = [Writer(stack.url, name) for name in ("fox", "owl")], Searcher(stack.url)
    sender = Sender(stack.url)
    stack.wait_ready()
    for n, kind in enumerate(kinds, start=1):
        before = [(w.ledger.acknowledged, w.ledger.unknown) for w in writers]
        answered, moment = searcher.answered, chance.uniform(0.05, 2.0)
        stop = threading.Event()
        works = [searcher.work, sender.work, *(writer.work for writer in writers)]
        threads = [threading.Thread(target=work, args=(stop, random.Random(chance.random()))) for work in works]
        for thread in threads:
            thread.start()
        try:
            stop.wait(moment)
            stack.fault(kind, chance)
            seconds = stack.wait_ready()
            stop.wait(0.3)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        wrong = [*searcher.wrong, *(said for w in writers for said in [*w.wrong, *w.check(stack.url)])]
        wrong += [*sender.wrong, *sender.check()]
        searcher.wrong.clear()
        sender.wrong.clear()
        for writer in writers:
            writer.wrong.clear()
        acknowledged = sum(w.ledger.acknowledged - old for w, (old, _) in zip(writers, before, strict=True))
        unknown = sum(w.ledger.unknown - old for w, (_, old) in zip(writers, before, strict=True))
        searches = searcher.answered - answered
        yield Round(n, kind, moment, acknowledged, unknown, searches, len(sender.jobs), seconds, wrong)


def make_home(root: Path) -> None:
    """A home with a small collection."""
    settings = BuildSettings(chunking=Chunking("sentences", 64, 16))
    build(Home(root), COLLECTION, ListSource(list(small_documents())), SentenceEncoder(device="cpu"), settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no round after that, 0 for no end")
    chosen = parser.parse_args()
    done: list[Round] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_home(root / "home")
        stack = Stack(root / "home", root / "server.log")
        stack.start()
        try:
            for one in rounds(stack, chosen.rounds, chosen.seed):
                done.append(one)
                print(
                    f"{one.number:3} {one.kind:7} at {one.moment:4.2f} s  acknowledged {one.acknowledged:4}"
                    f"  unknown {one.unknown:3}  searches {one.searches:5}  jobs {one.jobs:3}"
                    f"  ready after {one.seconds:5.1f} s  {'; '.join(one.wrong[:3]) or 'sound'}",
                    flush=True,
                )
                if chosen.minutes and time.monotonic() - started > 60 * chosen.minutes:
                    break
        finally:
            stack.end()
    print_table(done)
    sys.exit(any(one.wrong for one in done))


def print_table(done: Sequence[Round]) -> None:
    print("| killed | rounds | acknowledged changes | unknown | searches | ready again, median and most | wrong |")
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        these = [one for one in done if one.kind == kind]
        if these:
            ready = sorted(one.seconds for one in these)
            print(
                f"| {kind} | {len(these)} | {sum(one.acknowledged for one in these)} |"
                f" {sum(one.unknown for one in these)} | {sum(one.searches for one in these)} |"
                f" {ready[len(ready) // 2]:.1f} s, {ready[-1]:.1f} s | {sum(len(one.wrong) for one in these)} |"
            )


if __name__ == "__main__":
    main()
