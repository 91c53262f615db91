"""BM25 on Lucene through Anserini's jar: the analyzer, the bag-of-words query and the tie rule are Anserini's.

Fields: ``id`` (the chunk's id, stored, and as doc values for ties), ``contents`` (title and text, analysed, without
positions), ``row`` (the chunk's row, as point and doc values). The index is readable by Anserini's own searcher.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexes.corpus import Chunk, clean_text
from indexes.documents import Rows
from indexes.errors import CollectionDamaged, InvalidInput, StorageFull
from indexes.jvm import java, java_error, lock, own

MAX_CLAUSES = 16_384
"""Most different terms of one query; the caller bounds the query's characters well below."""

_DOCUMENT, _SEARCH = "org.apache.lucene.document.", "org.apache.lucene.search."
_QUERY, _STRING = "Lorg/apache/lucene/search/Query;", "Ljava/lang/String;"
_SET_STRING, _SET_LONG = {"setStringValue": f"({_STRING})V"}, {"setLongValue": "(J)V"}
_ID_FIELD = (_DOCUMENT + "StringField", f"({_STRING * 2}Lorg/apache/lucene/document/Field$Store;)V", _SET_STRING)
_TEXT_FIELD = (
    _DOCUMENT + "Field",
    f"({_STRING}Ljava/lang/CharSequence;Lorg/apache/lucene/index/IndexableFieldType;)V",
    _SET_STRING,
)
_TIE_FIELD = (
    _DOCUMENT + "BinaryDocValuesField",
    f"({_STRING}Lorg/apache/lucene/util/BytesRef;)V",
    {"setBytesValue": "(Lorg/apache/lucene/util/BytesRef;)V"},
)
_ROW_FIELD = (_DOCUMENT + "NumericDocValuesField", f"({_STRING}J)V", _SET_LONG)
_ROW_POINT = (_DOCUMENT + "LongPoint", f"({_STRING}[J)V", _SET_LONG)
_WRITER = (
    "org.apache.lucene.index.IndexWriter",
    "(Lorg/apache/lucene/store/Directory;Lorg/apache/lucene/index/IndexWriterConfig;)V",
    {
        "addDocument": "(Ljava/lang/Iterable;)J",
        "deleteDocuments": f"([{_QUERY})J...",
        "setLiveCommitData": "(Ljava/lang/Iterable;)V",
        "commit": "()J",
        "close": "()V",
        "rollback": "()V",
    },
)
_SEARCHER = (
    _SEARCH + "IndexSearcher",
    "(Lorg/apache/lucene/index/IndexReader;)V",
    {
        "setSimilarity": "(Lorg/apache/lucene/search/similarities/Similarity;)V",
        "search": f"({_QUERY}ILorg/apache/lucene/search/Sort;Z)Lorg/apache/lucene/search/TopFieldDocs;",
    },
)
_GENERATOR = (
    "io.anserini.search.query.BagOfWordsQueryGenerator",
    "()V",
    {"buildQuery": f"({_STRING}Lorg/apache/lucene/analysis/Analyzer;{_STRING}){_QUERY}"},
)
_JSON = (
    "com.fasterxml.jackson.databind.ObjectMapper",
    "()V",
    {"writeValueAsString": f"(Ljava/lang/Object;){_STRING}"},
)
_CHARS = "(Ljava/lang/CharSequence;)V"


@dataclass(frozen=True, slots=True)
class Bm25Parameters:
    """k1 and b as Robertson & Zaragoza 2009; the defaults are Anserini's for BEIR."""

    k1: float = 0.9
    b: float = 0.4


class LuceneWriter:
    """Adds and deletes chunks. Nothing is visible to readers before ``commit``."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._failure = java_error()
        self._directory = directory
        with self._errors(), lock:
            config = java("org.apache.lucene.index.IndexWriterConfig")(_analyzer())
            self._writer = own(*_WRITER, _open_directory(directory), config)
            self._make_fields()

    def _make_fields(self) -> None:
        """One Lucene document whose fields are refilled for every chunk: four calls into Java a chunk."""
        yes = java("org.apache.lucene.document.Field$Store").YES
        kind = java("org.apache.lucene.document.FieldType")()
        kind.setTokenized(True)
        kind.setStored(False)
        kind.setIndexOptions(java("org.apache.lucene.index.IndexOptions").DOCS_AND_FREQS)
        kind.freeze()
        self._id = own(*_ID_FIELD, "id", "", yes)
        self._contents = own(*_TEXT_FIELD, "contents", "", kind)
        self._tie = own(*_TIE_FIELD, "id", _bytes(""))
        self._row = own(*_ROW_FIELD, "row", 0)
        self._point = own(*_ROW_POINT, "row", [0])
        self._document = java("org.apache.lucene.document.Document")()
        for field in (self._id, self._contents, self._tie, self._row, self._point):
            self._document.add(field)

    def add(self, chunks: Iterable[tuple[int, Chunk]]) -> None:
        with self._errors():
            for row, chunk in chunks:
                self._id.setStringValue(chunk.id)
                self._tie.setBytesValue(_bytes(chunk.id))
                self._contents.setStringValue(chunk.content)
                self._row.setLongValue(row)
                self._point.setLongValue(row)
                self._writer.addDocument(self._document)

    def delete_rows(self, rows: Sequence[int]) -> None:
        """Rows that are not there are passed over, so a change may be applied again."""
        point = java("org.apache.lucene.document.LongPoint")
        with self._errors():
            for at in range(0, len(rows), 1000):
                self._writer.deleteDocuments(point.newSetQuery("row", *rows[at : at + 1000]))

    def delete_from(self, row: int) -> None:
        """Forget every chunk with that row or a later one."""
        query = java("org.apache.lucene.document.LongPoint").newRangeQuery("row", row, 2**63 - 1)
        with self._errors():
            self._writer.deleteDocuments(query)

    def commit(self, generation: int) -> None:
        """Make everything durable, marked with the SQLite generation it belongs to."""
        with self._errors():
            with lock:
                data = java("java.util.HashMap")()
                data.put("generation", str(generation))
                entries = data.entrySet()
            self._writer.setLiveCommitData(entries)
            self._writer.commit()

    def close(self) -> None:
        with self._errors():
            self._writer.close()

    def abandon(self) -> None:
        """Close without committing. What fails here is not told: the error that led here says more."""
        with contextlib.suppress(self._failure):
            self._writer.rollback()

    def _errors(self) -> _JavaErrors:
        return _JavaErrors(self._failure, self._directory)


class LuceneSearcher:
    """One point-in-time view of an index. Threads may share it; it closes when the last reference goes."""

    def __init__(self, directory: Path, parameters: Bm25Parameters) -> None:
        self._failure = java_error()
        self._directory = directory
        if not directory.is_dir():
            raise CollectionDamaged(f"{directory} is missing; build or import the collection again")
        java("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(MAX_CLAUSES)
        for result in ("search.TopFieldDocs", "search.BooleanQuery"):
            java(f"org.apache.lucene.{result}")  # looked at once, with the lock, before they come back without it
        with self._errors(), lock:
            self._files = _open_directory(directory)
            self._reader = java("org.apache.lucene.index.DirectoryReader").open(self._files)
            weakref.finalize(self, _close, self._reader).atexit = False
            self._searcher = own(*_SEARCHER, self._reader)
            similarity = java("org.apache.lucene.search.similarities.BM25Similarity")
            self._searcher.setSimilarity(similarity(parameters.k1, parameters.b))
            self._generator = own(*_GENERATOR)
            self._json = own(*_JSON)
            self._analyzer = _analyzer()
            self._sort = _by_score_then_id()
            self._size = int(self._reader.numDocs())

    @property
    def generation(self) -> int:
        """The SQLite generation this index has followed up to."""
        with lock:
            value = self._reader.getIndexCommit().getUserData().get("generation")
        return int(value) if value is not None else -1

    def __len__(self) -> int:
        return self._size

    def verify(self) -> None:
        """Read every file and compare Lucene's own checksums. Raises CollectionDamaged."""
        once, codec = java("org.apache.lucene.store.IOContext").READONCE, java("org.apache.lucene.codecs.CodecUtil")
        with self._errors():
            with lock:
                names = [str(name) for name in self._reader.getIndexCommit().getFileNames().toArray()]
            for name in names:
                with lock:
                    file = self._files.openInput(name, once)
                codec.checksumEntireFile(file)
                _close(file)

    def search(self, text: str, k: int, allowed: Any = None) -> tuple[list[int], list[float]]:
        """Rows and BM25 scores of the k best chunks, ties by ascending chunk id.

        The text is analysed, never parsed: Lucene's query syntax means nothing in it.
        All hits cross from Java in one string, because a proxy a hit would cost more than the search.
        """
        if not self._size or k < 1:
            return [], []
        with self._errors():
            query = self._generator.buildQuery("contents", self._analyzer, clean_text(text))
            if allowed is not None:
                with lock:
                    query = _filtered(query, allowed)
            top = self._searcher.search(query, min(k, self._size), self._sort, True)
            hits = json.loads(self._json.writeValueAsString(top))["scoreDocs"]
        return [hit["fields"][2] for hit in hits], [hit["score"] for hit in hits]

    def _errors(self) -> _JavaErrors:
        return _JavaErrors(self._failure, self._directory)


class _JavaErrors:
    """Java's exceptions as Kvasir's."""

    def __init__(self, failure: type[Exception], directory: Path) -> None:
        self._failure = failure
        self._directory = directory

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, self._failure):
            return
        text = str(error).split("\n", 1)[0]
        if "TooManyClauses" in text:
            raise InvalidInput(f"the query has more than {MAX_CLAUSES} different words; shorten it") from error
        causes = "\n".join([text, *(getattr(error, "stacktrace", None) or [])])
        if "No space left" in causes or "Disk quota" in causes:
            raise StorageFull(f"no room left on the disk of {self._directory}; free some and try again") from error
        raise CollectionDamaged(
            f"the Lucene index in {self._directory} cannot be used ({text}); build or import the collection again"
        ) from error


def allow_rows(rows: Rows) -> Any:
    """A query that lets only these rows pass, to be handed to ``search`` any number of times."""
    return java("org.apache.lucene.document.LongPoint").newSetQuery("row", *rows.tolist())


def _close(opened: Any) -> None:
    with lock:
        opened.close()


def _analyzer() -> Any:
    """English as Anserini's default: standard tokenizer, lower case, possessive, stop words, Porter stemmer."""
    return java("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()


def _open_directory(directory: Path) -> Any:
    return java("org.apache.lucene.store.FSDirectory").open(java("java.nio.file.Paths").get(str(directory)))


def _by_score_then_id() -> Any:
    field, kind = java("org.apache.lucene.search.SortField"), java("org.apache.lucene.search.SortField$Type")
    return java("org.apache.lucene.search.Sort")(
        field.FIELD_SCORE, field("id", kind.STRING_VAL), field("row", kind.LONG)
    )


def _filtered(query: Any, allowed: Any) -> Any:
    occur = java("org.apache.lucene.search.BooleanClause$Occur")
    builder = java("org.apache.lucene.search.BooleanQuery$Builder")()
    return builder.add(query, occur.MUST).add(allowed, occur.FILTER).build()


def _bytes(text: str) -> Any:
    return java("org.apache.lucene.util.BytesRef")(text, signature=_CHARS)
