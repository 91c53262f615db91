"""A server that is killed in the middle of its jobs: the next one finishes them, no document is lost or there twice."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import built_home, encoder, make_engine
from tests.jobs.test_api import JSONL, ids, over, rows
from tests.server_process import ServerProcess

__all__ = ["built_home", "encoder", "make_engine"]

ROUNDS = int(os.environ.get("KVASIR_TEST_ROUNDS", "2"))
DOCUMENTS = 250
TEXT = "The common light of {name} travels from the sun to the moon and back to the sea in a moment. "


@pytest.mark.timeout(400)
def test_killed_in_the_middle_every_acknowledged_document_is_there_once(built_home: Path, tmp_path: Path) -> None:
    """Each round sends a job for a new collection and one that adds to it or to ``demo``, and kills the server."""
    home = tmp_path / "home"
    shutil.copytree(built_home, home)
    server = ServerProcess(home, tmp_path / "log", {"KVASIR_JOBS__RUNNING": "2", "KVASIR_JOBS__SLICE_MS": "200"})
    delays = random.Random(7)
    wanted: dict[str, set[str]] = {"demo": set()}
    sent: list[dict[str, Any]] = []
    with server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            wanted["demo"] |= set(ids(client, "demo"))
        for number in range(ROUNDS):
            if number:
                server.start()
            with httpx.Client(base_url=server.url, timeout=60) as client:
                for collection in (f"c{number}", "demo"):
                    names = [f"{collection}-{number}-{n}" for n in range(DOCUMENTS)]
                    answer = client.post(
                        f"/v1/jobs?collection={collection}", content=rows(names, TEXT * 2), headers=JSONL
                    )
                    assert answer.status_code == 202, answer.text
                    sent.append(answer.json())
                    wanted.setdefault(collection, set()).update(names)
                time.sleep(delays.uniform(0.5, 6.0))
            server.kill()
        states = _states(home)
        assert any(state in ("running", "queued") for state in states), "the rounds were too slow to kill anything"
        server.start()
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for job in sent:
                ended = over(client, job, seconds=200)
                assert ended["state"] == "done", ended
            for collection, expected in wanted.items():
                assert _all_ids(client, collection) == sorted(expected)
                _found_once(client, collection, expected)
    assert not [path for path in (home / "jobs").iterdir() if path.is_dir()], "nothing that was sent is left"


def test_a_server_that_is_told_to_end_puts_its_jobs_aside(built_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(built_home, home)
    names = [f"d{n}" for n in range(3000)]
    with ServerProcess(home, tmp_path / "log") as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            job = client.post("/v1/jobs?collection=c", content=rows(names, TEXT * 4), headers=JSONL).json()
            while client.get(f"/v1/jobs/{job['id']}").json()["done"] == 0:
                time.sleep(0.05)
        began = time.perf_counter()
        server.stop()
        assert time.perf_counter() - began < 20
        assert _states(home) == ["queued"]
        assert (home / "jobs" / job["id"]).is_dir()


def _states(home: Path) -> list[str]:
    with sqlite3.connect(home / "jobs" / "jobs.sqlite") as db:
        states = [state for (state,) in db.execute("SELECT state FROM job ORDER BY id")]
    db.close()
    return states


def _all_ids(client: httpx.Client, collection: str) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = client.get(f"/v1/collections/{collection}/documents", params={"limit": 1000, "after": after}).json()
        found += [one["id"] for one in page["documents"]]
        after = page["next"]
    return found


def _found_once(client: httpx.Client, collection: str, names: set[str]) -> None:
    """Both indexes hold every sent document, and each chunk once."""
    for pipeline in ("bm25", "dense"):
        overrides = {"name": pipeline, "depth": 5000}
        body = {"collection": collection, "query": "common light", "k": 5000, "pipeline": overrides}
        hits = client.post("/v1/search", json=body).json()["results"]
        chunks = [hit["chunk_id"] for hit in hits]
        assert len(chunks) == len(set(chunks))
        sent = {name for name in names if name.startswith((f"{collection}-", "demo-"))}
        assert sent <= {hit["document_id"] for hit in hits}, pipeline
