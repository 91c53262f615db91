"""Settings are chosen by trying all of them, are what the pipeline itself does, and are not reported where chosen."""

from __future__ import annotations

import itertools
import json
import tomllib
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.asking import collapse
from eval.measures import parse_measures, score
from eval.tuning.choosing import choose
from eval.tuning.fusing import Fusing, Remembered
from eval.tuning.record import read_record, records
from eval.tuning.space import Point, parse_parameter, points, shares
from eval.tuning.weighing import allowed
from rag.config import PipelineConfig, settings_from
from rag.errors import InvalidInput
from rag.retrieval.composite import Fused
from rag.selection_table import Weights
from rag.values import Query
from tests.eval.conftest import canned_pipeline, write_beir
from tests.eval.test_cli import run

# --- what can be tried ---


@given(st.integers(1, 4), st.integers(1, 8))
def test_shares_are_all_multiples_of_a_step_that_sum_to_one(parts: int, steps: int) -> None:
    every = [cut for cut in itertools.product(range(steps + 1), repeat=parts) if sum(cut) == steps]
    found = shares(parts, steps)
    assert [tuple(round(value * steps) for value in share) for share in found] == every
    assert len(found) == comb(steps + parts - 1, parts - 1)


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("fuse.weights=0.5", "weights", ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0))),
        ("fuse.method=rrf, minmax", "fuse", ("rrf", "minmax")),
        ("fuse.method", "fuse", ("rrf", "minmax", "zscore", "theoretical")),
        ("depth=100,200", "depth", (100, 200)),
        ("select.bridge=0:0.3:0.1", "select.bridge", (0.0, 0.1, 0.2, 0.3)),
    ],
)
def test_parameters_are_read(text: str, key: str, values: tuple[Any, ...]) -> None:
    found = parse_parameter(text, 2)
    assert (found.key, found.values) == (key, values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fuse", "no parameter 'fuse'; there is: fuse.weights"),
        ("fuse.weights=0.3", "divides 1"),
        ("fuse.weights=0", "divides 1"),
        ("fuse.method=best", "choose of: rrf"),
        ("depth=0", "between 1 and"),
        ("depth=a", "no list of numbers"),
        ("depth=inf", "no list of numbers"),
        ("select.bridge", "needs values"),
        ("select.bridge=1:0:0.1", "no list of numbers"),
        ("select.bridge=0:1:0.00001", "take a larger step"),
    ],
)
def test_what_is_no_parameter_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_parameter(text, 2)


def test_a_grid_begins_with_the_default_and_a_draw_is_a_part_of_it() -> None:
    parameters = [parse_parameter("depth=100,200,300", 2), parse_parameter("fuse.method=rrf,minmax", 2)]
    default = {"depth": 200, "fuse": "minmax", "weights": ()}
    grid = points(parameters, default)
    assert grid[0] == {"depth": 200, "fuse": "minmax"}
    every = [{"depth": d, "fuse": f} for d, f in itertools.product((100, 200, 300), ("rrf", "minmax"))]
    assert grid[1:] == [point for point in every if point != grid[0]]
    drawn = points(parameters, default, draw=3, seed=1)
    assert drawn == points(parameters, default, draw=3, seed=1)
    assert drawn[0] == grid[0]
    assert all(point in grid for point in drawn)
    assert len(drawn) in (3, 4)
    assert points(parameters, default, draw=99, seed=1) == grid
    with pytest.raises(InvalidInput, match="each once"):
        points([parameters[0], parameters[0]], default)


def test_weights_that_sum_to_more_than_one_are_no_points() -> None:
    tried: list[Point] = [{"select.bridge": 0.25}, {"select.bridge": 0.9}, {"select.bridge": 0.1}]
    assert allowed(Weights(), tried) == [tried[0], tried[2]]


# --- the choice ---


def test_the_best_point_is_chosen_and_a_tie_keeps_the_earlier() -> None:
    table = {0: [0.5, 0.5], 1: [0.6, 0.2], 2: [0.5, 0.7], 3: [0.7, 0.5]}
    choice = choose(
        [{"x": x} for x in table],
        lambda point: dict(zip("ab", table[point["x"]], strict=True)),
        seed=0,
        resamples=100,
    )
    assert choice.best.point == {"x": 2}
    assert choice.best.value == pytest.approx((0.5 + 0.7) / 2)
    assert choice.beside.mean == pytest.approx(0.1)
    assert (choice.beside.wins, choice.beside.ties) == (1, 1)
    same = choose([{"x": 0}, {"x": 0}], lambda point: {"a": 1.0}, seed=0, resamples=100)
    assert same.best is same.tried[0]


def test_rankings_that_were_kept_fuse_as_searches_at_that_depth_do() -> None:
    ones = {"x": [(f"d{n}", 0, 9.0 - n) for n in range(9)]}
    others = {"x": [(f"d{8 - n}", 0, 5.0 - 0.3 * n * n) for n in range(9)]}
    leaves = [canned_pipeline(answers)[0].retriever for answers in (ones, others)]
    kept = [Remembered({"q": leaf.retrieve(Query("x"), 9)}) for leaf in leaves]
    (measure,) = parse_measures("RR@9")
    found = set()
    for depth, weights in itertools.product((4, 6, 9), ((0.2, 0.8), (0.7, 0.3))):
        real = Fused(retrievers=tuple(leaves), weights=weights, depth=depth).retrieve(Query("x", "q"), 4)
        fast = Fused(retrievers=tuple(kept), weights=weights, depth=depth).retrieve(Query("x", "q"), 4)
        assert fast.hits == real.hits
        qrels = {"q": {"d5": 1}}
        table = Fusing(PipelineConfig(), kept, {"q": "x"}, qrels, measure, depth=9, fetch=4)
        value = table.values({"depth": depth, "weights": weights})["q"]
        assert value == score(qrels, {"q": collapse(real)}, [measure]).values["RR@9"]
        found.add((depth, value))
    assert len({value for _, value in found}) > 1


# --- the command ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny folder with a split to tune on: ``bread`` is found by meaning, ``dog`` by words."""
    made = write_beir(tmp_path_factory.mktemp("tuning") / "tiny")
    asked = {"t1": "making dough and loaves", "t2": "postman morning", "t3": "feline nap"}
    rows = "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in asked.items())
    (made / "queries.train.jsonl").write_text(rows)
    judged = "t1\tbread\t1\nt2\tdog\t1\nt3\tcat\t1\n"
    (made / "qrels" / "train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


TUNE = ("--split", "train", "--metric", "RR@10", "--resamples", 100, "--param", "fuse.weights=0.25")


@pytest.fixture(scope="module")
def tuned(folder: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out") / "tuned.toml"
    said = run("tune", "--dataset", folder, "--home", home, *TUNE, "--param", "fuse.method", "--out", out, "--json")
    return json.loads(said), out


def test_the_record_says_all_and_the_pipeline_itself_agrees_on_every_point(
    tuned: tuple[dict[str, Any], Path], folder: Path, home: Path
) -> None:
    said, _ = tuned
    assert (said["dataset"], said["split"], said["metric"], said["queries"]) == ("tiny", "train", "RR@10", 3)
    assert len(said["tried"]) == 1 + 5 * 4 - 1  # the default is one of the grid's points
    assert said["chosen"]["value"] == max(one["value"] for one in said["tried"])
    assert said["chosen"]["by_the_pipeline"] == pytest.approx(said["chosen"]["value"], abs=1e-12)
    assert said["default"]["point"] == {"weights": [0.5, 0.5], "fuse": "minmax"}
    assert {"date", "commit", "command", "seed", "versions", "hardware"} <= said.keys()
    for one in (said["tried"][0], said["tried"][3], said["tried"][-1]):
        point = one["point"]
        sets = ("--set", f"weights={point['weights']}", "--set", f"fuse={point['fuse']}")
        common = ("beir", folder, "--home", home, "--split", "train", "-m", "RR@10", "--json", "--allow-tuned")
        real = json.loads(run(*common, *sets))
        assert real["metrics"]["RR@10"] == pytest.approx(one["value"], abs=1e-12)


def test_the_settings_file_makes_the_pipeline_that_was_chosen(tuned: tuple[dict[str, Any], Path]) -> None:
    said, out = tuned
    settings = settings_from(tomllib.loads(out.read_text()))
    chosen = settings.pipeline("tuned")
    assert list(chosen.weights) == said["chosen"]["point"]["weights"]
    assert chosen.fuse == said["chosen"]["point"]["fuse"]
    assert json.loads(out.with_suffix(".json").read_text()) == said


def test_the_split_that_was_tuned_on_is_not_reported_unless_it_is_marked(
    tuned: tuple[dict[str, Any], Path], folder: Path, home: Path, tmp_path: Path
) -> None:
    _, out = tuned
    common = ("beir", folder, "--home", home, "-m", "RR@10", "--json")
    mine = ("--config", out, "-p", "tuned")
    with pytest.raises(InvalidInput, match=r"'tuned' was tuned on tiny train .*--allow-tuned"):
        run(*common, *mine, "--split", "train")
    marked = json.loads(run(*common, *mine, "--split", "train", "--allow-tuned"))
    assert marked["notes"][0].startswith("TUNED ON THIS SPLIT")
    other = json.loads(run(*common, *mine))
    assert not any("TUNED" in note for note in other["notes"])
    json.loads(run(*common, "-p", "hybrid", "--split", "train"))  # the default's own weights were not chosen here

    (tmp_path / "elsewhere.toml").write_text(out.read_text())  # the record is not beside it, but in the home directory
    with pytest.raises(InvalidInput, match="too good"):
        run(*common, "--config", tmp_path / "elsewhere.toml", "-p", "tuned", "--split", "train")
    renamed = tmp_path / "renamed.toml"
    renamed.write_text(out.read_text().replace("pipeline.tuned", "pipeline.mine"))
    with pytest.raises(InvalidInput, match="too good"):
        run(*common, "--config", renamed, "-p", "mine", "--split", "train")
    changed = json.loads(run(*common, *mine, "--split", "train", "--set", "weights=[0.01, 0.99]"))
    assert not any("TUNED" in note for note in changed["notes"])


def test_weights_of_chunk_sets_are_tuned_by_what_the_context_holds(folder: Path, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "sets.toml"
    asked = ("--param", "select.relevance=0.1,0.35", "--param", "select.tokens=0.1,1.0", "--set", "select=beam")
    common = ("tune", "--dataset", folder, "--home", home, "--split", "train", "--resamples", 100, "--budget", "20,40")
    said = json.loads(run(*common, *asked, "--name", "sets", "--out", out, "--json"))
    assert said["metric"] == "whole@20,40"
    assert said["chosen"]["by_the_pipeline"] == said["chosen"]["value"] >= said["default"]["value"]
    assert len(said["tried"]) == 2  # tokens = 1.0 with redundancy 0.3 is no set of weights
    raw = tomllib.loads(out.read_text())
    assert raw["pipeline"]["sets"]["select"] == "beam"
    assert settings_from(raw).selection.weights.relevance == said["chosen"]["point"]["select.relevance"]
    with pytest.raises(InvalidInput, match="weighs no sets"):
        run(*common, "--param", "select.tokens=0.1", "--set", "select=budget")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--param", "select.tokens=0.1"), "tune one, then the other"),
        (("-p", "bm25"), "fuses nothing"),
        (("--set", "rerank=sentences"), "rerank=none"),
        (("--param", "depth=50"), "below the 100 chunks"),
        (("--metric", "RR@10 AP"), "names 2 measures"),
        (("--out", "tuned.json"), "ends in .toml"),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, home: Path, more: tuple[object, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        run("tune", "--dataset", folder, "--home", home, *TUNE, *more)


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "tuning").mkdir()
    file = tmp_path / "tuning" / "x.json"
    for content in ("", "[]", "{}", '{"kvasir_tuning": 2}', '{"kvasir_tuning": 1}'):
        file.write_text(content)
        with pytest.raises(InvalidInput, match="record"):
            records(tmp_path)
    with pytest.raises(InvalidInput):
        read_record(file)
    (tmp_path / "kvasir.toml").write_text("")
    (tmp_path / "kvasir.json").write_text('{"somebody": "else\'s"}')
    file.unlink()
    assert records(tmp_path, tmp_path / "kvasir.toml") == []
