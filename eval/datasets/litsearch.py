"""LitSearch (Ajith et al., 2024): literature search questions over papers, as its authors publish it.

Tables of princeton-nlp/LitSearch: ``query`` (query_set, query, specificity, quality, corpusids), ``corpus_clean``
(corpusid, title, abstract, full_paper) and ``corpus_s2orc`` (corpusid, content of text and annotated places).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from eval.datasets.folder import new_folder, write_qrels, write_rows
from eval.datasets.tables import field, rows, table
from rag.errors import InvalidInput, SourceError

HUB = "princeton-nlp/LitSearch"
Text = Literal["abstract", "full", "s2orc"]
SPECIFICITY = ("broad", "specific")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED = re.compile(r"test|(.+-)?(broad|specific)", re.IGNORECASE)
"""Splits that are made beside those by query set."""


def import_litsearch(source: str, out: Path, *, text: Text = "abstract") -> int:
    """A BEIR folder of it; returns how many documents it has.

    source  a folder with the tables, or the hub's name of the data set
    text    what a paper is: its abstract; ``full_paper`` of corpus_clean; or the body of corpus_s2orc
    Queries are q1, q2, ... in the file's order, with their attributes as metadata. Besides ``test`` there are splits by
    specificity (``broad``, ``specific``), by query set (``inline_acl``), and by specificity and the kind of query, the
    query set's first word (``inline-broad``).
    Raises InvalidInput with file and line for a row that is not of that form; nothing is written then.
    """
    folder = _folder(source)
    with new_folder(out) as made:
        documents = write_rows(made / "corpus.jsonl", _papers(folder, text))
        queries: list[dict[str, Any]] = []
        judged: defaultdict[str, list[tuple[str, str, int]]] = defaultdict(list)
        for number, (place, row) in enumerate(rows(table(folder, "query")), start=1):
            name = f"q{number}"
            said = {key: field(row, key, place) for key in ("query_set", "specificity", "quality")}
            queries.append({"_id": name, "text": str(field(row, "query", place)), "metadata": said})
            relevant = [(name, doc_id, 1) for doc_id in _papers_of(field(row, "corpusids", place), place)]
            for split in _splits(said["query_set"], said["specificity"], place):
                judged[split] += relevant
        write_rows(made / "queries.jsonl", queries)
        for split, pairs in judged.items():
            write_qrels(made, split, pairs)
    return documents


def _splits(query_set: object, specificity: object, place: str) -> list[str]:
    """The splits a query belongs to, each the name of a file."""
    if not isinstance(specificity, int) or specificity not in (0, 1):
        raise InvalidInput(f"{place}: specificity {specificity!r}; it is 0, broad, or 1, specific")
    if not isinstance(query_set, str) or not NAME.fullmatch(query_set) or RESERVED.fullmatch(query_set):
        raise InvalidInput(
            f"{place}: query_set {query_set!r}; it becomes the name of a split: at most 64 of A-Z a-z 0-9 _ -, and "
            "neither test nor broad nor specific, nor ending in -broad or -specific"
        )
    named = SPECIFICITY[specificity]
    return ["test", named, query_set, f"{query_set.split('_')[0]}-{named}"]


def _papers_of(corpusids: object, place: str) -> list[str]:
    """Ids of the relevant papers, each once."""
    if not isinstance(corpusids, list) or not all(type(one) in (int, str) for one in corpusids):
        raise InvalidInput(f"{place}: corpusids {corpusids!r}; it is a list of papers' ids")
    return list(dict.fromkeys(map(str, corpusids)))


def _folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source != HUB:
        raise SourceError(f"no folder {source!r}; name one with the tables query and corpus_clean, or {HUB}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(HUB, repo_type="dataset"))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise SourceError(f"{HUB} cannot be fetched here ({str(error)[:120]}); name a folder that holds it") from error


def _papers(folder: Path, text: Text) -> Iterator[dict[str, Any]]:
    for place, row in rows(table(folder, "corpus_s2orc" if text == "s2orc" else "corpus_clean")):
        name = str(field(row, "corpusid", place))
        if text == "s2orc":
            content = field(row, "content", place)
            if not isinstance(content, dict):
                raise InvalidInput(
                    f"{place}: content is {str(content)[:80]!r}; it is an object of text and annotations"
                )
            yield {"_id": name, "title": _title(content, place), "text": _text(content, "text", place)}
        else:
            key = "full_paper" if text == "full" else "abstract"
            yield {"_id": name, "title": _text(row, "title", place), "text": _text(row, key, place)}


def _text(row: dict[str, Any], key: str, place: str) -> str:
    """A text that may be missing, "" then."""
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{place}: {key} is {str(value)[:80]!r}; it is a text")
    return value or ""


def _title(content: dict[str, Any], place: str) -> str:
    """The title by its annotated place: a JSON list of ``{"start", "end"}`` in the text; "" where there is none."""
    annotations = content.get("annotations") or {}
    annotated = annotations.get("title") if isinstance(annotations, dict) else annotations
    if not annotated:
        return ""
    try:
        first = json.loads(annotated)[0]
        return str(content["text"][int(first["start"]) : int(first["end"])])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidInput(f"{place}: the place of the title is {str(annotated)[:80]!r} ({error!r})") from error
