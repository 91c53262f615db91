"""The real collections that may be trained on, where they are on this machine: passages and train queries only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from indexes.readers.beir import Beir
from rag.embedded_model.passages import Corpus, Question, passage

LICENCES = {
    "scifact": "scifact: corpus ODC-By 1.0 (S2ORC), claims CC BY 4.0 (Wadden et al., EMNLP 2020)",
    "pubmedqa-l": "PubMedQA: MIT (Jin et al., EMNLP 2019)",
    "hotpotqa-hippo-train": "HotpotQA: CC BY-SA 4.0 (Yang et al., EMNLP 2018), Wikipedia",
}
"""Every collection that is read. Of pubmedqa-l and hotpotqa-hippo-train the passages alone."""
ASKED = "scifact"
"""The one whose train queries are used too."""


def open_collections(folder: Path) -> list[Corpus]:
    """The collections of LICENCES that ``folder`` holds. Raises SourceError for one that cannot be read."""
    return [_read(folder / name, licence) for name, licence in LICENCES.items() if (folder / name).is_dir()]


def _read(folder: Path, licence: str) -> Corpus:
    documents = list(Beir(folder).documents(lambda skipped: None))
    questions: tuple[Question, ...] = ()
    if folder.name == ASKED:
        places = {document.id: at for at, document in enumerate(documents)}
        questions = tuple(_questions(folder, places))
    passages = tuple(passage(document.title, document.text) for document in documents)
    return Corpus(folder.name, passages, (f"{licence}; {len(passages)} passages",), questions)


def _questions(folder: Path, places: dict[str, int]) -> Iterator[Question]:
    """Train queries with their relevant passages, in the order of the file; none whose words a test query has."""
    tested = {_words(row["text"]) for row in _rows(folder / "queries.jsonl")}
    relevant: dict[str, list[int]] = {}
    for line in (folder / "qrels" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query_id, document_id, grade = line.split("\t")
        if int(grade) > 0 and document_id in places:
            relevant.setdefault(query_id, []).append(places[document_id])
    for row in _rows(folder / "queries.train.jsonl"):
        if row["_id"] in relevant and _words(row["text"]) not in tested:
            yield Question(row["_id"], row["text"], tuple(relevant[row["_id"]]))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.is_file():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _words(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
