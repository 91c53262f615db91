"""Clients that change and search a collection while its server is killed, and remember what they were told."""

from __future__ import annotations

import random
import threading
import time

import httpx

from tests.faults.ledger import Ledger, Version

COLLECTION = "small"


def word(doc_id: str, version: int) -> str:
    """A word that only this version of this document holds."""
    return f"{doc_id}v{version}"


class Writer:
    """Adds, replaces and deletes documents of its own, one change after the other."""

    def __init__(self, url: str, name: str) -> None:
        self.ledger = Ledger()
        self.wrong: list[str] = []
        self._documents = f"{url}/v1/collections/{COLLECTION}/documents"
        self._name = name
        self._version = 0

    def work(self, stop: threading.Event, chance: random.Random) -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                doc_id = f"{self._name}n{chance.randrange(30)}"
                self._version += 1
                self._change(client, doc_id, None if chance.random() < 0.4 else self._version)

    def _change(self, client: httpx.Client, doc_id: str, version: Version) -> None:
        self.ledger.begin(doc_id, version)
        try:
            if version is None:
                response = client.delete(f"{self._documents}/{doc_id}")
            else:
                text = f"A fault is survived: {word(doc_id, version)}."
                response = client.post(self._documents, json={"documents": [{"id": doc_id, "text": text}]})
        except httpx.TransportError:
            self.ledger.lose_sight()
            time.sleep(0.05)
            return
        if response.status_code == 200 or (version is None and response.status_code == 404):
            self.ledger.acknowledge(doc_id, version)
        elif response.status_code in (409, 429, 503):
            self.ledger.lose_sight()
        else:
            self.wrong.append(f"{response.status_code} {response.text[:200]}")

    def check(self, url: str) -> list[str]:
        """What is wrong with each document now: as it is read, and as it is found by its words."""
        found = []
        with httpx.Client(timeout=60) as client:
            for doc_id in sorted(self.ledger.possible):
                candidates = self.ledger.possible[doc_id]
                version = self._read(client, doc_id)
                if verdict := self.ledger.judge(doc_id, version):
                    found.append(f"{verdict}: {doc_id} is {version}, and may be {candidates}")
                for one in {version, *candidates} - {None}:
                    assert one is not None
                    if (self._finds(client, url, doc_id, one)) != (one == version):
                        found.append(f"search disagrees: {word(doc_id, one)}, stored is {version}")
        return found

    def _read(self, client: httpx.Client, doc_id: str) -> Version:
        response = client.get(f"{self._documents}/{doc_id}")
        if response.status_code == 404:
            return None
        return int(response.json()["text"].rpartition("v")[2].rstrip("."))

    def _finds(self, client: httpx.Client, url: str, doc_id: str, version: int) -> bool:
        asked = {"collection": COLLECTION, "query": word(doc_id, version), "pipeline": "bm25", "k": 3}
        response = client.post(f"{url}/v1/search", json=asked)
        return any(word(doc_id, version) in hit["text"] for hit in response.json()["results"])


class Searcher:
    """Searches, with a language model's cached states now and then; only a broken connection is forgiven."""

    def __init__(self, url: str) -> None:
        self.answered = 0
        self.wrong: list[str] = []
        self._url = url

    def work(self, stop: threading.Event, chance: random.Random) -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                pipeline: object = chance.choice(["bm25", "hybrid"])
                if chance.random() < 0.3:
                    pipeline = {"name": "bm25", "rerank": "icr", "rerank_depth": 3}
                asked = {"collection": COLLECTION, "query": "the ferry and the cats", "pipeline": pipeline, "k": 5}
                try:
                    response = client.post(f"{self._url}/v1/search", json=asked)
                except httpx.TransportError:
                    time.sleep(0.05)
                    continue
                if response.status_code == 200:
                    self.answered += 1
                elif response.status_code != 429:
                    self.wrong.append(f"{response.status_code} {response.text[:200]}")
