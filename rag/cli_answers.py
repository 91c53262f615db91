"""What ``search`` and ``ask`` print."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from indexes.filters import Filter, parse_filter
from rag import cli_trace
from rag.assemble import Engine
from rag.config import parse_overrides
from rag.errors import InvalidFilter
from rag.pipeline import trace
from rag.values import Answer, Query, Ranking


def show_search(
    engine: Engine,
    name: str,
    text: str,
    k: int | None,
    pipeline: str | None,
    sets: Sequence[str],
    filter_text: str | None,
    explain: bool,
    as_json: bool,
) -> None:
    chosen = engine.pipeline(name, pipeline, parse_overrides(sets))
    started = time.perf_counter()
    ranking = chosen.search(Query(text, filter=_filter(filter_text)), k)
    seconds = time.perf_counter() - started
    if as_json:
        _print_json({"results": results(ranking, explain), "trace": cli_trace.as_json(trace(ranking), seconds)})
        return
    for row in results(ranking, explain):
        typer.echo(f"{row['rank']:>3}. {row['relevance']:.3f}  {row['chunk_id']}  {_short(row['title'])}")
        typer.echo(textwrap.indent(_short(row["text"], 300), "     "))
        for stage in row.get("explain", []):
            typer.echo(f"       {stage['stage']:<12} rank {stage['rank']:<4} {stage['kind']} {stage['score']:.4f}")
    if not len(ranking):
        typer.echo("nothing found")
    cli_trace.say(trace(ranking), seconds)


def show_answer(
    engine: Engine,
    name: str,
    question: str,
    budget: int | None,
    pipeline: str | None,
    sets: Sequence[str],
    filter_text: str | None,
    as_json: bool,
    explain: bool = False,
) -> None:
    chosen = engine.pipeline(name, pipeline or engine.settings.answer_pipeline, parse_overrides(sets))
    started = time.perf_counter()
    answer = chosen.answer(Query(question, filter=_filter(filter_text)), budget)
    seconds = time.perf_counter() - started
    stages = trace(answer.context.ranking, answer.context.report, answer.report)
    if as_json:
        said = _answer(question, answer) | {"trace": cli_trace.as_json(stages, seconds)}
        choice = {"selection": cli_trace.choice_as_json(answer.context.choice)} if explain else {}
        _print_json(said | choice)
        return
    typer.echo(f"\nQ: {question}\n")
    typer.echo(textwrap.fill(answer.text, 100))
    cited = {citation.number for citation in answer.citations}
    typer.echo(f"\nSources ({answer.context.tokens} of {answer.context.budget} tokens; * cited)")
    for number, hit in enumerate(answer.context.hits, start=1):
        mark = "*" if number in cited else " "
        typer.echo(f" {mark}[{number}] {hit.chunk.id}  {_short(hit.chunk.title or hit.chunk.text, 80)}")
    if explain and answer.context.choice is not None:
        cli_trace.say_choice(answer.context.choice)
    for note in answer.notes:
        typer.echo(f"note: {note}")
    typer.echo("")
    cli_trace.say(stages, seconds)
    typer.echo(
        f"{answer.usage.prompt_tokens} tokens read, {answer.usage.completion_tokens} written ({answer.generator})"
    )


def results(ranking: Ranking, explain: bool) -> list[dict[str, Any]]:
    """One row a hit, best first; with ``explain`` its rank and score at every stage that saw it."""
    rows: list[dict[str, Any]] = []
    for rank, hit in enumerate(ranking, start=1):
        row = {"rank": rank, "relevance": round(ranking.relevance(hit), 6), "score": hit.score, "kind": ranking.kind}
        rows.append({"chunk_id": hit.chunk.id, "title": hit.chunk.title, "text": hit.chunk.text} | row)
    if explain:
        seen = [(stage, {h.chunk.id: (r, h.score) for r, h in enumerate(stage, start=1)}) for stage in ranking.stages()]
        for row in rows:
            row["explain"] = [
                {
                    "stage": s.report.stage,
                    "rank": at[row["chunk_id"]][0],
                    "score": at[row["chunk_id"]][1],
                    "kind": s.kind,
                }
                for s, at in seen
                if row["chunk_id"] in at
            ]
    return rows


def _answer(question: str, answer: Answer) -> dict[str, Any]:
    return {
        "question": question,
        "answer": answer.text,
        "found": answer.found,
        "citations": [asdict(citation) for citation in answer.citations],
        "sources": [
            {"number": n, "chunk_id": hit.chunk.id, "document_id": hit.chunk.doc_id, "text": hit.chunk.text}
            for n, hit in enumerate(answer.context.hits, start=1)
        ],
        "tokens": answer.context.tokens,
        "budget": answer.context.budget,
        "usage": asdict(answer.usage),
        "generator": answer.generator,
        "notes": list(answer.notes),
    }


def _filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    try:
        return parse_filter(json.loads(text))
    except json.JSONDecodeError as error:
        raise InvalidFilter(f'--filter {text[:80]!r} is not JSON ({error}); write {{"year": 2020}}') from error


def _short(text: str, width: int = 70) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
