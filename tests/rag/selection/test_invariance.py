"""What must not change a choice: hash seeds, threads of the arithmetic, and other searches at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rag.selection.evaluator import solve
from rag.selection.instances import instance
from rag.selection.portfolio import SEARCHERS
from rag.selection.problem import Limits

CHOICES = """
import random
from rag.entry import Entries
from rag.selection.problem import Limits
from rag.selection.search import SetSelector
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport
from tests.fakes import HashingEncoder

draw = random.Random(0)
hits = []
for i in range(24):
    text = " ".join([f"w{int(draw.expovariate(1 / 40))}" for _ in range(40)] + [f"title{draw.randrange(24)}"])
    hits.append(Hit(Chunk(f"c{i:02}", f"d{i:02}", text, 0, len(text), f"title{i}"), 1.0 - i / 24))
ranking = Ranking(tuple(hits), ScoreKind.COSINE, StageReport("made"))
question = Query(" ".join(f"w{i}" for i in range(12)))
for encoder in (None, HashingEncoder()):
    selector = SetSelector(count=Entries(HashingEncoder()), encoder=encoder, limits=Limits(evaluations=150))
    print(selector.select(question, ranking, 250).choice)
"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def test_hash_seeds_and_threads_leave_the_choice_its_values_and_its_tree_unchanged() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", CHOICES],
            env={**os.environ, "PYTHONHASHSEED": seed, **dict.fromkeys(THREADS, threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "1"), ("2", "3"))
    ]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0].count("Choice(selector='portfolio'") == 2


def test_searches_at_the_same_time_do_not_see_each_other() -> None:
    problems = [instance(seed, 10) for seed in range(6)]
    search = partial(solve, searcher=SEARCHERS["portfolio"], limits=Limits(evaluations=120))
    alone = [search(problem) for problem in problems]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(search, problems)) == alone
