"""Beside the documents: the language model's states, several jobs at once, several processes, clients that leave."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from filelock import FileLock
from litestar.testing import TestClient

from api.app import create_app
from indexes.readers.source import Skipped
from rag.config import CacheConfig, JobsConfig, ModelConfig
from rag.jobs.control import Control, JobCancelled, JobSuspended
from rag.jobs.record import Job, new_id
from rag.jobs.runner import MAX_STALLS, Runner
from rag.jobs.spool import Spool
from rag.jobs.store import JobStore
from rag.jobs.turns import Turns
from rag.views import Views
from tests.api.conftest import MakeEngine, Serving, built_home, encoder, make_engine, serving
from tests.jobs.test_api import JSONL, ids, over, rows
from tests.tiny_models import one_thread, saved

__all__ = ["built_home", "encoder", "make_engine", "one_thread", "serving"]


@pytest.fixture
def home(built_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_home, tmp_path / "home"))


def test_the_model_reads_new_chunks_and_forgets_replaced_ones(home: Path, make_engine: MakeEngine) -> None:
    """States in the store after each job are those of the chunks that are there: two, three, and one."""
    settings = {
        "model": ModelConfig(name=str(saved("llama")), device="cpu", dtype="float32"),
        "cache": CacheConfig(mode="independent", scheme="fp32", memory_mb=0),
    }
    engine = make_engine(home, **settings)
    with TestClient(create_app(engine)) as client:

        def job(content: bytes, mode: str = "add") -> set[str]:
            sent = client.post(f"/v1/jobs?collection=c&mode={mode}", content=content, headers=JSONL)
            done = over(client, sent.json())
            assert (done["state"], done["step"], done["notes"]) == ("done", "warm", [])
            store = engine.caching.store
            assert store is not None
            return set(store.keys("kv"))

        first = job(rows(["a", "b"]))
        assert len(first) == 2
        second = job(rows(["b", "c"], "moon of {name}"))
        assert len(second) == 3
        assert len(first & second) == 1, "of a, which nobody touched"
        last = job(rows(["a"]), "replace")
        assert last == first & second, "the same text is not read again, all others are forgotten"


def test_a_model_that_is_not_there_is_a_note(home: Path, make_engine: MakeEngine) -> None:
    settings = {"model": ModelConfig(name="/no/such/model"), "cache": CacheConfig(mode="independent")}
    with TestClient(create_app(make_engine(home, **settings))) as client:
        done = over(client, client.post("/v1/jobs?collection=c", content=rows(["a"]), headers=JSONL).json())
        assert done["state"] == "done"
        assert "not read ahead" in done["notes"][0]
        assert ids(client, "c") == ["a"]


def test_a_short_job_does_not_wait_for_the_end_of_a_long_one(home: Path, make_engine: MakeEngine) -> None:
    with TestClient(create_app(make_engine(home, jobs=JobsConfig(slice_ms=50)))) as client:
        text = "The light of {name} is a long way from the moon. " * 8
        many = rows([f"d{n}" for n in range(3000)], text)
        long = client.post("/v1/jobs?collection=long", content=many, headers=JSONL).json()
        while client.get(f"/v1/jobs/{long['id']}").json()["state"] == "queued":
            time.sleep(0.02)
        short = client.post("/v1/jobs?collection=short", content=rows(["a"]), headers=JSONL).json()
        assert over(client, short)["state"] == "done"
        assert client.get(f"/v1/jobs/{long['id']}").json()["state"] == "running"
        assert client.delete(f"/v1/jobs/{long['id']}").status_code == 200
        assert over(client, long)["state"] == "cancelled"
        assert client.get("/v1/collections/long").status_code == 404


def sent(engine_home: Path, names: list[str], collection: str) -> Job:
    """A job as POST /v1/jobs leaves it."""
    store = JobStore(engine_home / "jobs")
    job = Job(id=new_id(), collection=collection, mode="add", kind="rows", created=time.time())
    spool = Spool(store.directory, job.id, JobsConfig())
    spool.begin("body.jsonl")
    spool.write(rows(names))
    spool.end()
    spool.keep()
    store.add(job, digest=spool.digest)
    store.close()
    return job


def until_over(store: JobStore, jobs: list[Job]) -> list[Job]:
    end = time.perf_counter() + 120
    while time.perf_counter() < end:
        found = [store.get(job.id) for job in jobs]
        if all(job.over for job in found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_two_runners_share_the_jobs_of_a_home(home: Path, make_engine: MakeEngine) -> None:
    """Two as in two processes: each job is done once, and jobs of one collection one after the other."""
    jobs = [sent(home, [f"{n}"], f"c{n % 3}") for n in range(6)]
    runners = []
    for _ in range(2):
        engine = make_engine(home, jobs=JobsConfig(running=2))
        runners.append(Runner(engine, Views(engine)))
    store = JobStore(home / "jobs")
    for runner in runners:
        runner.start()
    try:
        assert [job.state for job in until_over(store, jobs)] == ["done"] * 6
    finally:
        for runner in runners:
            runner.close()
        store.close()
    engine = make_engine(home)
    assert [engine.home.current(f"c{n}") for n in range(3)] == [2, 2, 2]
    for n in range(3):
        listed = engine.collection(f"c{n}").snapshot().store.list_documents()
        assert [row[0] for row in listed] == [f"{n}", f"{n + 3}"]


def test_a_job_that_another_process_holds_is_left_to_it(home: Path, make_engine: MakeEngine) -> None:
    job = sent(home, ["a"], "c")
    store = JobStore(home / "jobs")
    engine = make_engine(home)
    runner = Runner(engine, Views(engine))
    lock = FileLock(home / "jobs" / f"{job.id}.lock")
    lock.acquire()
    runner.start()
    try:
        time.sleep(1.2)
        assert store.get(job.id).state == "queued"
        lock.release()
        assert until_over(store, [job])[0].state == "done"
    finally:
        runner.close()
        store.close()


def test_a_job_that_ends_the_server_every_time_is_given_up(home: Path, make_engine: MakeEngine) -> None:
    job = sent(home, ["a"], "c")
    store = JobStore(home / "jobs")
    store.update(job.id, state="running", stalls=MAX_STALLS, mark="encode:5:None", step="encode", done=5)
    engine = make_engine(home)
    runner = Runner(engine, Views(engine))
    runner.start()
    try:
        (ended,) = until_over(store, [job])
    finally:
        runner.close()
        store.close()
    assert ended.state == "failed"
    assert "the server ended 6 times" in ended.error


def test_the_brake_acts_and_what_was_skipped_is_written_down(tmp_path: Path) -> None:
    store, stopping, now = JobStore(tmp_path), threading.Event(), [0.0]
    job = store.add(Job(id="j", collection="c", mode="add", kind="rows"), digest="")
    control = Control(store, job.id, Turns(1, 10), stopping, lambda: now[0])
    for n in range(3):
        control.skip(Skipped(str(n), "why"))
    control.progress("read", 0, 100)
    now[0] = 2.0
    control.progress("read", 50, 100)
    found = store.get("j")
    assert (found.step, found.done, found.total, found.rate, found.skipped) == ("read", 50, 100, 25.0, 3)
    assert [one.where for _, one in store.skipped("j", after=0)] == ["1", "2"]
    store.update("j", state="running")
    store.cancel("j")
    now[0] = 3.0
    with pytest.raises(JobCancelled):
        control.check()
    stopping.set()
    with pytest.raises(JobSuspended):
        control.check()
    store.close()


def test_a_client_that_leaves_in_the_middle_of_its_upload_leaves_nothing(
    home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    with serving(make_engine(home)) as running:
        url = httpx.URL(running.url)
        with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
            head = (
                "POST /v1/jobs?collection=c HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                "Content-Type: application/x-ndjson\r\nContent-Length: 5000000\r\n\r\n"
            )
            connection.sendall(head.encode() + json.dumps({"id": "a", "text": "x" * 3_000_000}).encode())
            for _ in range(200):
                if list((home / "jobs").glob(".incoming-*")):
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("nothing came in")
        for _ in range(200):
            if not list((home / "jobs").glob(".incoming-*")):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the upload is still there")
        assert httpx.get(f"{running.url}/v1/jobs", timeout=60).json()["jobs"] == []
