"""A client that sends documents as jobs: what was taken on has to be done in the end, whoever was killed meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time

import httpx

COLLECTION = "sent"
PATIENCE = 240.0
LAST = 5
"""Jobs that are looked at after each round."""


class Sender:
    """Sends one small job a round, again and again under one idempotency key until it is taken on."""

    def __init__(self, url: str) -> None:
        self.jobs: dict[str, list[str]] = {}
        self.wrong: list[str] = []
        self._url = url
        self._round = 0

    def work(self, stop: threading.Event, chance: random.Random) -> None:
        self._round += 1
        stop.wait(chance.uniform(0.0, 0.5))
        ids = [f"job{self._round}n{n}" for n in range(3)]
        lines = "\n".join(json.dumps({"id": one, "text": f"This came with a job: {one}."}) for one in ids)
        headers = {"content-type": "application/x-ndjson", "idempotency-key": f"round-{self._round}"}
        while not stop.is_set():
            try:
                response = httpx.post(
                    f"{self._url}/v1/jobs?collection={COLLECTION}", content=lines, headers=headers, timeout=60
                )
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if response.status_code in (200, 202):
                self.jobs[response.json()["id"]] = ids
                return
            if response.status_code not in (409, 429, 503):
                self.wrong.append(f"job: {response.status_code} {response.text[:200]}")
                return
            time.sleep(0.1)

    def check(self) -> list[str]:
        """What is wrong with the last jobs that were taken on: each is done once, and its documents are there."""
        found = []
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for job, ids in list(self.jobs.items())[-LAST:]:
                state = self._finished(client, job)
                if state["state"] != "done":
                    found.append(f"job {job} is {state['state']} at {state['step']}: {state['error']}")
                    continue
                for doc_id in ids:
                    if client.get(f"/v1/collections/{COLLECTION}/documents/{doc_id}").status_code != 200:
                        found.append(f"lost: {doc_id} of job {job}")
                    asked = {"collection": COLLECTION, "query": doc_id, "pipeline": "bm25", "k": 50}
                    hits = client.post("/v1/search", json=asked).json()["results"]
                    if sum(doc_id == hit["document_id"] for hit in hits) != 1:
                        found.append(f"search disagrees: {doc_id} of job {job}")
        return found

    def _finished(self, client: httpx.Client, job: str) -> dict[str, str]:
        until = time.monotonic() + PATIENCE
        while True:
            state: dict[str, str] = client.get(f"/v1/jobs/{job}").json()
            if state["state"] not in ("queued", "running") or time.monotonic() > until:
                return state
            time.sleep(0.2)
