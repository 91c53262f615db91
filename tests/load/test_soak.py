"""What a server holds over time: the figures tell a leak from noise, and a short run of the real thing has none."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from eval.bench.figures import Figure
from eval.bench.soak import Sample, figures, slope, soak
from indexes.home import Home
from rag.assemble import Engine
from rag.config import load_settings


def test_the_slope_is_the_line_s_whatever_single_jumps_there_are() -> None:
    at = [float(n) for n in range(60)]
    chance = random.Random(3)
    line = [100 + 0.5 * t + chance.gauss(0, 1) for t in at]
    assert slope(at, line) == pytest.approx(0.5, abs=0.05)
    jumping = [value + (500 if n in (5, 6, 7) else 0) for n, value in enumerate(line)]
    assert slope(at, jumping) == pytest.approx(0.5, abs=0.05)
    assert slope([0.0], [1.0]) == 0.0


def verdicts(samples: list[Sample]) -> dict[str, str]:
    found: list[Figure] = list(figures(samples, 100, []))
    return {figure.name: figure.verdict for figure in found}


def test_leaks_are_seen_and_a_warm_up_is_not_one() -> None:
    sound = [Sample(float(n), 500 + min(n, 20) * 10, 40, 90 + n % 2) for n in range(60)]
    assert set(verdicts(sound).values()) == {"met"}
    assert (
        verdicts([Sample(s.at, s.memory + s.at, s.threads, s.files) for s in sound])["soak, memory growth"] == "missed"
    )
    grown = [Sample(s.at, s.memory, s.threads + int(s.at) // 4, s.files + int(s.at) // 4) for s in sound]
    assert [name for name, verdict in verdicts(grown).items() if verdict == "missed"] == [
        "soak, threads gained",
        "soak, open files gained",
    ]


@pytest.mark.timeout(400)
def test_twenty_seconds_of_everything_leave_no_error_and_no_thread(small_home: Home, tmp_path: Path) -> None:
    """Memory is told by longer runs: in so short a time a Java heap still grows."""
    shutil.copytree(small_home.root, tmp_path / "home")
    engine = Engine(load_settings(home=tmp_path / "home", environ={}))
    found = {figure.name: figure for figure in soak(engine, "small", ["cats", "the ferry", "cheese"], 20.0)}
    assert found["soak, errors"].measured == 0, found["soak, errors"].note
    assert found["soak, threads gained"].measured <= 8, found["soak, threads gained"].note
    assert found["soak, open files gained"].measured <= 40, found["soak, open files gained"].note
    assert found["soak, memory growth"].measured < 600
