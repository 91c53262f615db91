"""kvasir-eval select: figures that can be redone by hand, and the real sets where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from eval.selecting import HALVES, Remembered, selected
from rag.entry import Entries
from rag.errors import InvalidConfig, InvalidInput
from rag.selection.budget import BudgetFill
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport
from tests.data import shared_data
from tests.eval.conftest import Words, write_beir
from tests.eval.test_cli import COUNT, NUMBER, an_object, run
from tests.fakes import HashingEncoder

INTERVAL = an_object({"mean": NUMBER, "low": NUMBER, "high": NUMBER})
ROW = {
    "type": "object",
    "properties": {
        "selector": {"type": "string"},
        "budget": COUNT,
        "whole_gold": INTERVAL,
        "ndcg": INTERVAL,
        "tokens": INTERVAL,
        "chunks": NUMBER,
        "ms_p50": NUMBER,
        "ms_p95": NUMBER,
        "support_recall": INTERVAL,
        "context_precision": {"oneOf": [INTERVAL, {"type": "null"}]},
        "against": {"type": "object", "required": ["selector", "difference", "randomised_p", "corrected_p", "losses"]},
    },
    "required": ["selector", "budget", "whole_gold", "ndcg", "tokens", "chunks", "ms_p50", "ms_p95", "support_recall"],
    "additionalProperties": False,
}


def ranked(*texts: str) -> Ranking:
    hits = [Hit(Chunk(f"{t[0]}#0", t[0], t, 0, len(t)), 1.0 - i / 9) for i, t in enumerate(texts)]
    return Ranking(tuple(hits), ScoreKind.COSINE, StageReport("test"))


def test_the_whole_gold_set_counts_and_grades_of_0_do_not() -> None:
    """Entries cost a number and their words: a 3, b 4, c 2. In 5 tokens fit a and c, in 9 all.

    q1 wants a and b, q2 c alone. nDCG of q1 in 5 tokens: a first of two, 1 / (1 + 1/log2(3)) = 0.613.
    """
    ranking = ranked("a one", "b one two", "c")
    rankings = [(Query("?", "q1"), ranking), (Query("?", "q2"), ranking)]
    qrels = {"q1": {"a": 1, "b": 2, "c": 0}, "q2": {"c": 1, "a": 0}}
    few = selected("fill", BudgetFill(Entries(Words())), rankings, 5, qrels)
    assert (few.whole, few.tokens, few.chunks) == ([0.0, 1.0], [5, 5], [2, 2])
    everything = selected("fill", BudgetFill(Entries(Words())), rankings, 9, qrels)
    assert (everything.whole, everything.tokens) == ([1.0, 1.0], [9, 9])
    nothing = selected("fill", BudgetFill(Entries(Words())), rankings, 1, qrels)
    assert (nothing.whole, nothing.tokens, nothing.ndcg) == ([0.0, 0.0], [0, 0], [0.0, 0.0])
    assert (few.recall, few.precision) == ([1 / 2, 1.0], [1 / 2, 1 / 2])
    assert (everything.recall, everything.precision) == ([1.0, 1.0], [2 / 3, 1 / 3])
    assert (nothing.recall, nothing.precision) == ([0.0, 0.0], [None, None])
    assert few.ndcg[1] == pytest.approx(1 / 1.584962, abs=1e-4)


def test_passages_are_encoded_once() -> None:
    hashing = HashingEncoder()
    encoder = Remembered(hashing)
    first = encoder.encode_passages(["fog", "ferry", "fog"])
    assert encoder.encode_passages(["ferry", "tide"])[0].tolist() == first[1].tolist()
    assert hashing.encoded == ["fog", "ferry", "tide"]
    assert encoder.encode_passages([]).shape == (0, hashing.dimension)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beir(tmp_path_factory.mktemp("beir") / "tiny")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def select(folder: Path, home: Path, *more: object) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run("select", "--dataset", folder, "--home", home, "--json", *more))
    for row in said["selectors"]:
        jsonschema.validate(row, ROW)
    return said


def test_the_command_compares_all_with_the_first(folder: Path, home: Path) -> None:
    more = ("--selector", "fill,mmr,search,mcts", "--budget", "20,100", "--resamples", 200)
    said = select(folder, home, "--pipeline", "hybrid", "--depth", 4, *more)
    assert [(row["selector"], row["budget"]) for row in said["selectors"]][:3] == [
        ("fill", 20), ("fill", 100), ("mmr", 20)
    ]  # fmt: skip
    assert (said["queries"], said["baseline"], said["depth"]) == (3, "fill", 4)
    rows = {(row["selector"], row["budget"]): row for row in said["selectors"]}
    assert "against" not in rows["fill", 20]
    for (_, budget), row in rows.items():
        assert row["whole_gold"]["low"] <= row["whole_gold"]["mean"] <= row["whole_gold"]["high"]
        assert row["tokens"]["mean"] <= budget
        assert row["whole_gold"]["mean"] <= said["ceiling"][str(budget)] <= said["reachable"]
        if test := row.get("against"):
            difference = row["whole_gold"]["mean"] - rows["fill", budget]["whole_gold"]["mean"]
            assert test["difference"] == pytest.approx(difference, abs=1e-5)
            assert test["wins"] + test["ties"] + test["losses"] == 3
            assert test["corrected_p"] >= test["randomised_p"]


def test_how_the_figures_came_about_is_said(folder: Path, home: Path) -> None:
    said = select(folder, home, "--selector", "fill", "--budget", "20,1")
    assert said["peak_memory_mb"] > 1
    assert said["versions"]["numpy"]
    assert said["command"]
    row, empty = said["selectors"]
    assert row["ms_p95"] >= row["ms_p50"] > 0
    assert row["support_recall"]["mean"] >= row["whole_gold"]["mean"] > 0
    assert (empty["context_precision"], empty["support_recall"]["mean"]) == (None, 0.0)


def test_a_split_that_was_tuned_on_is_refused_or_marked(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    out = tmp_path / "tuned.toml"
    run(
        "tune",
        "--dataset",
        folder,
        "--split",
        "test",
        "--param",
        "select.coverage=0.1,0.2",
        "--out",
        out,
        "--home",
        home,
    )
    with pytest.raises(InvalidInput, match=r"tuned on tiny test .*--allow-tuned"):
        select(folder, home, "--selector", "fill,search", "--config", out, "--pipeline", "tuned")
    more = ("--selector", "fill,search", "--config", out, "--pipeline", "tuned", "--allow-tuned")
    assert select(folder, home, *more)["notes"][0].startswith("search: TUNED ON THIS SPLIT")
    assert not any("TUNED" in note for note in select(folder, home, "--selector", "fill")["notes"])


def test_halves_share_no_question_and_make_the_whole(folder: Path, home: Path) -> None:
    counts = {half: select(folder, home, "--selector", "fill", "--half", half)["queries"] for half in HALVES}
    assert counts == {"all": 3, "tuning": 2, "held-out": 1}


def test_the_table_shows_what_could_be_reached(folder: Path, home: Path) -> None:
    shown = run("select", "--dataset", folder, "--home", home, "--selector", "fill,search", "--budget", "50")
    assert "(at most)" in shown
    assert "whole gold" in shown
    for name in ("recall", "precision", "tokens", "p95"):
        assert name in shown


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (("--budget", "0"), InvalidInput, "budget = 0"),
        (("--budget", "many"), InvalidInput, "'many' is no whole number"),
        (("--budget", ","), InvalidInput, "names nothing"),
        (("--selector", "fill,serch"), InvalidConfig, "did you mean 'search'"),
        (("--half", "third"), InvalidInput, "half = 'third'"),
    ],
)
def test_wrong_words_are_refused(
    folder: Path, home: Path, wrong: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        select(folder, home, *wrong)


@pytest.mark.timeout(1800)
def test_on_two_hop_questions_the_search_finds_more_with_fewer_tokens(home: Path) -> None:
    """The half that no weight was chosen on."""
    said = select(shared_data("hotpotqa-hippo-train"), home, "--selector", "fill,search", "--half", "held-out")
    rows = {(row["selector"], row["budget"]): row for row in said["selectors"]}
    for budget in (256, 512, 1024):
        fill, search = rows["fill", budget], rows["search", budget]
        assert search["whole_gold"]["mean"] > fill["whole_gold"]["mean"]
        assert search["tokens"]["mean"] <= fill["tokens"]["mean"]
    assert rows["search", 256]["against"]["difference"] >= 0.2
    assert rows["search", 256]["against"]["corrected_p"] < 0.01
