"""Benchmarks compare in the same run, judge by their targets, and their load client counts what went wrong."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.bench.figures import Figure, Figures, figure_from, merged
from eval.bench.load import Job, Load, request, run, run_apart
from eval.bench.searches import stored_vectors
from eval.bench.server import ServerDidNotStart, free_port, is_ready, serving
from eval.bench.suite import run_suite
from eval.bench.table import number, show
from eval.bench.timing import in_turns
from indexes.readers.beir import Beir
from rag.assemble import Engine
from rag.config import load_settings


def figure(**values: Any) -> Figure:
    return Figure(**{"name": "x", "measured": 3.0, "unit": "ms", "baseline": 2.0, **values})


@pytest.mark.parametrize(
    ("made", "compared", "verdict"),
    [
        (figure(target=1.5), 3 / 2, "met"),
        (figure(target=1.4), 3 / 2, "missed"),
        (figure(target=1.4, at_least=True), 3 / 2, "met"),
        (figure(target=1.6, at_least=True), 3 / 2, "missed"),
        (figure(target=1.0, relation="difference"), 3 - 2, "met"),
        (figure(target=0.9, relation="difference"), 3 - 2, "missed"),
        (figure(target=0.0, relation="value", baseline=None), 3, "missed"),
        (figure(target=0.0, relation="value", baseline=None, measured=0.0), 0, "met"),
        (figure(), 3 / 2, "-"),
    ],
)
def test_a_verdict_follows_from_target_and_relation(made: Figure, compared: float, verdict: str) -> None:
    assert made.verdict == verdict
    assert made.compared == pytest.approx(compared)
    assert made.as_json()["compared"] == pytest.approx(compared)


def test_the_table_cuts_no_figure_short_on_a_narrow_terminal() -> None:
    said = io.StringIO()
    made = figure(name="a long name of a figure", measured=12345.678, baseline=23456.789, target=0.7, floor=6172.839)
    show(Figures(figures=[made], commit=None, hardware="this machine"), Console(file=said, width=80))
    shown = "".join(said.getvalue().split())
    for words in ("12,346", "23,457", "0.53x", "<=0.7x", "6,173", "2x", "met", "commitunknown"):
        assert words in shown


@pytest.mark.parametrize(
    ("made", "distance"),
    [
        (figure(floor=1.5), 3 / 1.5),
        (figure(floor=6.0, at_least=True), 6 / 3),
        (figure(floor=0.0), None),
        (figure(), None),
    ],
)
def test_the_distance_from_the_floor_counts_from_one(made: Figure, distance: float | None) -> None:
    assert made.from_floor == distance


def test_repeated_figures_are_medians_with_the_least_and_the_most() -> None:
    runs = [
        [figure(measured=3.0, baseline=2.0), figure(name="y", baseline=None, relation="value", measured=1.0)],
        [figure(measured=9.0, baseline=3.0, note="last")],
        [figure(measured=4.0, baseline=1.0, note="last")],
    ]
    one, other = merged(runs)
    assert (one.measured, one.baseline, one.spread, one.note) == (4.0, 2.0, (3.0, 9.0), "last")
    assert one.compared == 4 / 2
    assert one.compared_spread == (3 / 2, 4 / 1)
    assert (other.name, other.measured, other.baseline, other.spread) == ("y", 1.0, None, (1.0, 1.0))
    assert merged(runs[:1]) == runs[0]


def test_a_figure_comes_back_from_its_json() -> None:
    made = figure(beside="FAISS", floor=1.0, target=2.0, note="n", spread=(2.5, 3.5), compared_spread=(1.0, 2.0))
    assert figure_from(json.loads(json.dumps(made.as_json()))) == made


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (100.0, "100"),
        (118.92, "118.9"),
        (53.94, "53.9"),
        (2.0, "2"),
        (1.094, "1.09"),
        (0.59, "0.59"),
        (0.01, "0.01"),
        (0.001234, "0.0012"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_both_sides_get_every_item_and_take_turns_in_going_first() -> None:
    calls: list[tuple[str, int]] = []
    in_turns(lambda item: calls.append(("ours", item)), lambda item: calls.append(("bare", item)), [1, 2], 1)
    sides = [side for side, _ in calls]
    assert [item for _, item in calls] == [1, 1, 2, 2, 1, 1, 2, 2]
    assert sides == ["ours", "bare", "bare", "ours", "bare", "ours", "ours", "bare"]


class Tiny:
    """An HTTP server of one answer each, kept alive; a body ``drop`` breaks the connection, ``fail`` gets a 500."""

    def __init__(self) -> None:
        self.connections = 0
        self.bodies: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = (await reader.readexactly(size)).decode()
                self.bodies.append(body)
                if body == "drop":
                    break
                writer.write(self.answer(body))
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    def answer(self, body: str) -> bytes:
        if body == "chunked":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        status = b"500 Oh" if body == "fail" else b"200 OK"
        return b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok"


def loaded(bodies: list[str], clients: int) -> tuple[Load, Tiny]:
    tiny = Tiny()

    async def both() -> Load:
        server = await asyncio.start_server(tiny, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            job = Job(host="127.0.0.1", port=port, path="/p", bodies=bodies, clients=clients)
            return await asyncio.to_thread(run, job)

    return asyncio.run(both()), tiny


def test_every_body_is_sent_once_over_kept_connections() -> None:
    load, tiny = loaded([str(number) for number in range(20)], clients=3)
    assert sorted(tiny.bodies, key=int) == [str(number) for number in range(20)]
    assert (len(load.seconds), load.errors, tiny.connections) == (20, 0, 3)
    assert load.wall >= max(load.seconds)


def test_failures_are_counted_and_the_client_goes_on() -> None:
    load, tiny = loaded(["a", "fail", "b", "drop", "chunked", "c"], clients=1)
    assert (len(load.seconds), load.errors) == (4, 2)
    assert tiny.connections == 2


def test_where_nobody_listens_every_request_is_an_error() -> None:
    job = Job(host="127.0.0.1", port=free_port(), path="/", bodies=["a", "b"], clients=2)
    assert run_apart(job).errors == 2
    assert not is_ready(job.port)


def test_a_request_counts_bytes_not_characters() -> None:
    assert b"Content-Length: 2\r\n" in request(Job(host="h", port=1, path="/", bodies=[], clients=1), "é")


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "kvasir.toml").write_text("unknown = 1\n")
    with pytest.raises(ServerDidNotStart, match="unknown"), serving(tmp_path):
        pass


@pytest.mark.timeout(600)
def test_all_benchmarks_run_on_a_small_folder(beir_folder: Path, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", environ={})
    figures = run_suite(settings, [], data=beir_folder, collection=None, sample=3, repeats=1, shape="tiny")
    names = [figure.name for figure in figures.figures]
    searches = ["bm25 k=10", "bm25 k=100", "dense k=10", "dense k=100", "build"]
    service = ["http p50, 1 client", "http errors, 32 clients", "http throughput, 32 clients"]
    assert names[: names.index("icr 20 x 100, tokens")] == [*searches, *service, "start to ready", "memory when ready"]
    tokens = [figure for figure in figures.figures if figure.name.endswith("tokens")]
    assert [(figure.name, figure.verdict) for figure in tokens] == [
        ("icr 20 x 100, tokens", "met"),
        ("icr 100 x 100, tokens", "met"),
        ("prp heapsort top 10 of 100, tokens", "met"),
        ("icr 100 x 100 from the cache, fewer tokens", "met"),
    ]
    assert [name for name in names if name.startswith("first token, redis")] == [
        "first token, redis, independent",
        "first token, redis, link-16",
    ]
    errors = figures.figures[names.index("http errors, 32 clients")]
    assert (errors.measured, errors.verdict) == (0.0, "met")
    assert "3 documents" in figures.figures[names.index("build")].note
    assert json.loads(json.dumps(figures.as_json()))["hardware"]


def test_the_bare_side_searches_all_vectors_of_the_collection(beir_folder: Path, tmp_path: Path) -> None:
    from eval.beir import read_folder
    from eval.indexing import index

    engine = Engine(load_settings(home=tmp_path / "home", environ={}))
    name = index(engine, read_folder(beir_folder, "test")).name
    texts = [f"{doc.title} {doc.text}".strip() for doc in Beir(beir_folder).documents(lambda skipped: None)]
    stored = stored_vectors(engine.collection(name).snapshot())
    assert stored == pytest.approx(engine.encoder.encode_passages(texts), abs=0.02)
