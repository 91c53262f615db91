"""Test collections in BEIR's folder layout, and those of ir_datasets brought into it."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.trec import BEIR_HEADER, Qrels, parse_qrels
from indexes.durable import space_needed
from indexes.readers.beir import CORPUS, corpus_in
from rag.errors import InvalidInput, SourceError

SPLITS = ("train", "dev", "test")
FULL = "qrels.full.txt"
"""Judgements of a pool folder that also name documents outside of the pool, as the measures need them."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split of a test collection.

    path     the BEIR folder, which the collection is built from
    queries  query id to text: those of the split's judgements that have one
    qrels    query id to document id to grade
    """

    name: str
    split: str
    path: Path
    queries: Mapping[str, str]
    qrels: Qrels

    @property
    def collection(self) -> str:
        """The name its collection has by default: ``beir-`` and the folder's name."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"\.{2,}", ".", self.path.name))
        return f"beir-{plain}"[:64]


def load_dataset(named: str, split: str, *, store: Path, qrels: Path | None = None) -> Dataset:
    """The dataset a folder or name means.

    named  a BEIR folder, an id of ir_datasets, or BEIR's short name of a set: ``scifact``
    store  where a set from ir_datasets is written as a BEIR folder, to be read from there the next time
    qrels  judgements to use instead of the split's own, in BEIR's or TREC form
    Raises SourceError where there is no such folder or set, or it cannot be downloaded; InvalidInput for bad lines.
    """
    folder = Path(named).expanduser()
    if not folder.is_dir():
        if named.startswith((".", "/", "~")):
            raise SourceError(f"no folder {named!r}; name one that holds {CORPUS[0]}, queries.jsonl and qrels/")
        folder = downloaded(named, split, store)
    return read_folder(folder.resolve(), split, qrels)


def read_folder(folder: Path, split: str, qrels: Path | None = None) -> Dataset:
    """A split of a BEIR folder; its queries are those of queries.jsonl and of queries.<split>.jsonl together."""
    if corpus_in(folder) is None:
        raise SourceError(f"no {CORPUS[0]} in {str(folder)!r}; name the folder that holds it")
    judged = read_qrels(qrels or _qrels_of(folder, split))
    texts: dict[str, str] = {}
    files = query_files(folder, split)
    if not files:
        raise SourceError(f"no queries.jsonl in {str(folder)!r}; a BEIR folder holds its queries there")
    for file in files:
        texts.update(_read_queries(file))
    queries = {query_id: texts[query_id] for query_id in judged if query_id in texts}
    if not queries:
        raise InvalidInput(f"none of the {len(judged)} judged queries has a text in {', '.join(map(str, files))}")
    return Dataset(folder.name, split, folder, queries, judged)


def unjudged(dataset: Dataset) -> dict[str, str]:
    """The folder's queries that no split judges, by id, with their texts."""
    judged = {query_id for file in (dataset.path / "qrels").glob("*.tsv") for query_id in read_qrels(file)}
    return {
        query_id: text
        for file in query_files(dataset.path, dataset.split)
        for query_id, text in _read_queries(file).items()
        if query_id not in judged
    }


def query_files(folder: Path, split: str) -> list[Path]:
    """Where the queries of a split stand: for all splits, and for this one."""
    return [file for file in (folder / "queries.jsonl", folder / f"queries.{split}.jsonl") if file.is_file()]


def fullest(folder: Path) -> Path | None:
    """A pool folder's file of all judgements, None where the folder has none and a split's are meant."""
    file = folder / FULL
    return file if file.is_file() else None


def read_qrels(file: Path) -> dict[str, dict[str, int]]:
    """Judgements from a file. Raises SourceError where it cannot be read."""
    return parse_qrels(read_lines(file), str(file))


def read_lines(file: Path) -> list[str]:
    """The lines of a text file in UTF-8. Raises SourceError where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {str(file)!r}: {error}") from error


def _qrels_of(folder: Path, split: str) -> Path:
    file = folder / "qrels" / f"{split}.tsv"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))) or "none"
        raise SourceError(f"no judgements {str(file)!r} (splits there: {there}); choose --split, or give --qrels FILE")
    return file


def _read_queries(file: Path) -> dict[str, str]:
    """Query id to text. Raises InvalidInput with the line's number for what is no query, or one with a second text."""
    queries: dict[str, str] = {}
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            query_id, text = str(row["_id"]), str(row["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f'{file}, line {number} is no query ({error!r}); write {{"_id": ..., "text": ...}}'
            ) from error
        if queries.setdefault(query_id, text) != text:
            raise InvalidInput(
                f"{file}, line {number}: query {query_id!r} comes twice with two texts; keep one of them"
            )
    return queries


# --- from ir_datasets ---


def downloaded(named: str, split: str, store: Path) -> Path:
    """The BEIR folder of a set from ir_datasets, written on first use; splits of one set share it.

    Raises SourceError for an unknown name and where the download fails.
    """
    import ir_datasets

    found = dataset_id(named, split, ir_datasets.registry)
    folder = store / found.removeprefix("beir/").removesuffix(f"/{split}").replace("/", "-")
    if (folder / "qrels" / f"{split}.tsv").is_file():
        return folder
    try:
        _write_folder(ir_datasets.load(found), split, folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(
            f"{found!r} cannot be fetched here ({str(error)[:160]}); unpack the set's BEIR archive where it can be "
            "read and name that folder instead"
        ) from error
    return folder


def dataset_id(named: str, split: str, known: Iterable[str]) -> str:
    """The id in ir_datasets: a set with several splits has the split in its id, one with a single split has none."""
    ids = set(known)
    found = re.sub(r"^(beir/)?cqadupstack-", r"\1cqadupstack/", named)  # as archives and other tools call its parts
    for candidate in (f"beir/{found}/{split}", f"{found}/{split}", f"beir/{found}", found):
        if candidate in ids and not any(f"{candidate}/{name}" in ids for name in SPLITS):
            last = candidate.rsplit("/", 1)[1]
            if last in SPLITS and last != split:
                raise SourceError(f"{named!r} is the split {last!r}, asked for is {split!r}; add --split {last}")
            return candidate
    splits = sorted(name for name in ids if name.startswith((f"beir/{found}/", f"{found}/")))
    near = difflib.get_close_matches(named, {name.split("/")[1] for name in ids if name.startswith("beir/")}, n=1)
    hint = f"; there is {', '.join(splits)}" if splits else f"; did you mean {near[0]!r}?" if near else ""
    raise SourceError(f"no folder and no set of ir_datasets is called {named!r} (split {split!r}){hint}")


def _write_folder(source: Any, split: str, folder: Path) -> None:
    """Corpus, queries and judgements of the split; the judgements last, so that they mark a whole folder."""
    if corpus_in(folder) is None:
        documents = (_row(doc.doc_id, doc.text, getattr(doc, "title", "")) for doc in source.docs_iter())
        _write(folder / CORPUS[0], documents)
    _write(folder / f"queries.{split}.jsonl", (_row(query.query_id, query.text) for query in source.queries_iter()))
    judged = (f"{row.query_id}\t{row.doc_id}\t{row.relevance}" for row in source.qrels_iter())
    _write(folder / "qrels" / f"{split}.tsv", itertools.chain(["\t".join(BEIR_HEADER)], judged))


def _row(name: str, text: str, title: str | None = None) -> str:
    row = {"_id": name, "text": text} if title is None else {"_id": name, "title": title, "text": text}
    return json.dumps(row, ensure_ascii=False)


def _write(file: Path, lines: Iterable[str]) -> None:
    """The file appears whole or not at all."""
    beside = file.with_name(f".{file.name}.tmp")
    with space_needed(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8", errors="replace", newline="\n") as out:
            out.writelines(f"{line}\n" for line in lines)
        beside.replace(file)
