"""What ``kvasir rerank`` reads and prints."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from rag import cli_trace
from rag.assemble import Engine
from rag.errors import InvalidInput, SourceError
from rag.pipeline import check_query, trace
from rag.reranking.given import Passage, as_given, place_of
from rag.runtime.meter import Limits
from rag.values import Query, Ranking


def show_rerank(
    engine: Engine,
    text: str,
    file: str,
    reranker: str,
    model: str,
    top_n: int | None,
    limits: Limits,
    as_json: bool,
) -> None:
    query = Query(text)
    check_query(query, engine.settings.max_query_chars)
    engine.settings.reranker(reranker, model)  # a wrong name is refused before standard input is read
    passages = read_passages(file)
    chosen = engine.reranker(reranker, model=model, depth=max(1, len(passages)), limits=limits)
    started = time.perf_counter()
    ranking = chosen.rerank(query, as_given(passages))
    seconds = time.perf_counter() - started
    rows = results(ranking, passages)[:top_n]
    stages = trace(ranking)[1:]
    if as_json:
        typer.echo(
            json.dumps(
                {"reranker": reranker, "results": rows, "trace": cli_trace.as_json(stages, seconds)},
                ensure_ascii=False,
            )
        )
        return
    for rank, row in enumerate(rows, start=1):
        name = f"{row['id']}  " if row["id"] else ""
        typer.echo(f"{rank:>3}. {row['score']:.3f}  [{row['index']}] {name}{_short(row['title'] or row['text'])}")
    cli_trace.say(stages, seconds)


def results(ranking: Ranking, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """One row a passage, best first; ``index`` counts from 0 in the order in which they were given."""
    return [
        {
            "index": place_of(hit),
            "id": passages[place_of(hit)].id,
            "title": hit.chunk.title,
            "text": hit.chunk.text,
            "score": round(ranking.relevance(hit), 6),
            "raw_score": hit.score,
            "kind": ranking.kind,
        }
        for hit in ranking
    ]


def read_passages(file: str) -> list[Passage]:
    """Passages from a file, or standard input for "-": JSON objects a line, or plain text a line.

    The first line that is not blank decides which. Raises SourceError, InvalidInput with the line's number.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {file!r}: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines or not _is_object(lines[0][1]):
        return [Passage(line.strip()) for _, line in lines]
    return [_passage(line, f"{file}, line {number}") for number, line in lines]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _passage(line: str, place: str) -> Passage:
    rule = 'write {"text": "...", "title": "...", "id": "..."}, of which only the text is needed'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place} is not JSON ({error}); {rule}") from error
    found = row.get("text") if isinstance(row, dict) else None
    if not isinstance(found, str):
        raise InvalidInput(f"{place} has no text; {rule}")
    return Passage(found, str(row.get("title") or ""), str(row.get("id", row.get("_id", ""))))


def _short(text: str, width: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."
