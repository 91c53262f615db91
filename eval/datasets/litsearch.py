"""LitSearch (Ajith et al., 2024): literature search questions over papers, as its authors publish it.

Tables of princeton-nlp/LitSearch: ``query`` (query_set, query, specificity, quality, corpusids), ``corpus_clean``
(corpusid, title, abstract, full_paper) and ``corpus_s2orc`` (corpusid, content of text and annotated places).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from eval.datasets.folder import new_folder, write_qrels, write_rows
from eval.datasets.tables import field, rows, table
from rag.errors import InvalidInput, SourceError

HUB = "princeton-nlp/LitSearch"
Text = Literal["abstract", "full", "s2orc"]
SPECIFICITY = {0: "broad", 1: "specific"}


def import_litsearch(source: str, out: Path, *, text: Text = "abstract") -> int:
    """A BEIR folder of it; returns how many documents it has.

    source  a folder with the tables, or the hub's name of the data set
    text    what a paper is: its abstract; ``full_paper`` of corpus_clean; or the body of corpus_s2orc
    Queries are q1, q2, ... in the file's order, with their attributes as metadata. Besides ``test`` there is a split
    by specificity (``broad``, ``specific``) and one by each query set.
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
            relevant = [(name, str(doc_id), 1) for doc_id in dict.fromkeys(field(row, "corpusids", place))]
            if said["specificity"] not in SPECIFICITY:
                raise InvalidInput(f"{place}: specificity {said['specificity']!r}; it is 0, broad, or 1, specific")
            for split in ("test", SPECIFICITY[said["specificity"]], str(said["query_set"])):
                judged[split] += relevant
        write_rows(made / "queries.jsonl", queries)
        for split, pairs in judged.items():
            write_qrels(made, split, pairs)
    return documents


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
            yield {"_id": name, "title": _title(content, place), "text": content.get("text") or ""}
        else:
            key = "full_paper" if text == "full" else "abstract"
            yield {"_id": name, "title": row.get("title") or "", "text": row.get(key) or ""}


def _title(content: dict[str, Any], place: str) -> str:
    """The title by its annotated place: a JSON list of ``{"start", "end"}`` in the text; "" where there is none."""
    annotated = (content.get("annotations") or {}).get("title")
    if not annotated:
        return ""
    try:
        first = json.loads(annotated)[0]
        return str(content["text"][int(first["start"]) : int(first["end"])])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidInput(f"{place}: the place of the title is {str(annotated)[:80]!r} ({error!r})") from error
