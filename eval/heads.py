"""Finds the attention heads of a model on a test collection's judged queries; ``kvasir models heads`` calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eval.beir import Dataset, read_folder, read_lines
from eval.commands import shown
from eval.trec import parse_run
from indexes import jvm
from indexes.corpus import Chunk, Document
from indexes.lucene import Bm25Parameters, LuceneSearcher, LuceneWriter
from indexes.readers.beir import Beir
from rag.assemble import Engine
from rag.errors import InvalidInput
from rag.reranking.head_detection import Criterion, Example, detect
from rag.reranking.heads import HeadSet, write

Candidates = Mapping[str, Sequence[str]]
"""Query id to document ids, best first."""


@dataclass(frozen=True, slots=True)
class Found:
    """The heads, best first, and where the candidates were from."""

    heads: HeadSet
    candidates: str
    queries: int

    def as_json(self) -> dict[str, Any]:
        heads = [list(head) for head in self.heads.heads]
        return {
            "heads": heads,
            "model": self.heads.model,
            "fingerprint": self.heads.fingerprint,
            "source": self.heads.source,
            "candidates": self.candidates,
            "queries": self.queries,
        }


def find(
    engine: Engine,
    model: str,
    data: Path,
    split: str,
    out: Path,
    *,
    run: Path | None = None,
    criterion: Criterion = "qrhead",
    size: int = 0,
    depth: int = 20,
    limit: int = 128,
) -> Found:
    """Detects over the first ``limit`` judged queries of the split, and writes the head set to ``out``.

    Candidates are the ``depth`` best of the run, or without one the relevant documents, at most half of the depth, and
    BM25's best others. Raises InvalidInput, SourceError, and ModelNotAvailable before anything is searched.
    """
    if not out.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {str(out.parent)!r} to write the heads to; make it first")
    reader = engine.language_model(model)
    layers, width = reader.shape
    if size > layers * width:
        raise InvalidInput(f"size = {size}; {reader.name!r} has {layers * width} heads")
    dataset = read_folder(data, split)
    queries = dict(list(dataset.queries.items())[:limit])
    texts = {document.id: document for document in Beir(data).documents(lambda skipped: None)}
    if run is None:
        candidates = with_bm25_negatives(dataset, queries, texts, depth, engine.settings.index.java_heap_mb)
    else:
        listed = parse_run(read_lines(run), str(run))
        candidates = {query: [d.doc_id for d in listed.get(query, ())[:depth]] for query in queries}
    examples = list(_examples(dataset, queries, candidates, texts))
    with shown("heads", len(examples)) as progress:
        heads, _ = detect(reader, examples, criterion=criterion, size=size, progress=progress)
    write(out, heads)
    return Found(heads, "relevant passages and BM25 negatives" if run is None else run.name, len(examples))


def _examples(
    dataset: Dataset, queries: Mapping[str, str], candidates: Candidates, texts: Mapping[str, Document]
) -> Iterator[Example]:
    """One example a query with a relevant candidate; documents without text are no candidates."""
    for query_id, text in queries.items():
        ids = [doc_id for doc_id in candidates[query_id] if doc_id in texts and not texts[doc_id].is_empty]
        relevant = frozenset(at for at, doc_id in enumerate(ids) if dataset.qrels[query_id].get(doc_id, 0) > 0)
        if relevant and text.strip():
            yield Example(text, [_content(texts[doc_id]) for doc_id in ids], relevant)


def _content(document: Document) -> str:
    return f"{document.title}\n{document.text}".strip() if document.title else document.text


def with_bm25_negatives(
    dataset: Dataset, queries: Mapping[str, str], texts: Mapping[str, Document], depth: int, heap_mb: int
) -> dict[str, list[str]]:
    """Relevant documents and BM25's best others by a Lucene index that lives as long as this call."""
    jvm.configure(heap_mb)
    ids = list(texts)
    with TemporaryDirectory(prefix="kvasir-heads-") as folder:
        writer = LuceneWriter(Path(folder) / "lucene")
        writer.add(enumerate(map(_chunk, texts.values())))
        writer.commit(1)
        writer.close()
        searcher = LuceneSearcher(Path(folder) / "lucene", Bm25Parameters())
        found = {}
        for query_id, text in queries.items():
            relevant = [doc_id for doc_id, grade in dataset.qrels[query_id].items() if grade > 0 and doc_id in texts]
            rows, _ = searcher.search(text, depth + len(relevant)) if text.strip() else ([], [])
            others = [ids[row] for row in rows if ids[row] not in set(relevant)]
            kept = relevant[: depth // 2]
            found[query_id] = kept + others[: depth - len(kept)]
    return found


def _chunk(document: Document) -> Chunk:
    return Chunk(f"{document.id}#0", document.id, document.text, 0, len(document.text), document.title)
