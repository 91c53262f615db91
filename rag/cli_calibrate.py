"""``kvasir models calibrate``: what each cache mode changes on a model, kept as verdicts for mode = "auto"."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli_options import Config, Home, Json, engine_of

if TYPE_CHECKING:
    from rag.assemble import Engine
    from rag.calibration import Case
    from rag.kv.verdicts import Verdict

FIGURES = ("kl", "nll", "agreement", "tau", "overlap")


def calibrate(
    model: Annotated[str, typer.Argument(help="A language model by path or hub name.")],
    collection: Annotated[str, typer.Option(help="The collection whose passages are read.")],
    questions: Annotated[int, typer.Option(min=1, max=10_000, help="Questions at most.")] = 16,
    chunks: Annotated[int, typer.Option(min=2, max=1000, help="Passages of each ranking.")] = 20,
    queries: Annotated[
        Path | None,
        typer.Option(help="Questions, a line each; without them passages' titles, or what their texts begin with."),
    ] = None,
    modes: Annotated[str, typer.Option(help="Modes to measure, with commas between [all that lose something].")] = "",
    answer_tokens: Annotated[int, typer.Option(min=1, max=1024, help="Tokens of each answer.")] = 32,
    seed: Annotated[int, typer.Option(help="Which passages questions are made of.")] = 0,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Measure what cache modes change on a model, beside reading every prompt whole; the verdicts are kept.

    A mode passes where it keeps the bounds of [cache] gate_*; mode = "auto" takes the cheapest that passed. The last
    rows are of int8 and int4 states alone. Another model, dtype or scheme has no verdict before it is measured.
    """
    from rag.calibration import MODES
    from rag.calibration import calibrate as measure
    from rag.cli_chunk_states import progress
    from rag.kv.modes import parse_mode
    from rag.kv.quantize import Scheme
    from rag.kv.verdicts import Verdicts

    engine = engine_of(home, config, model)
    library = engine.caching.library(model)
    chosen = [parse_mode(mode) for mode in (modes.split(",") if modes else MODES)]
    cases = _cases(engine, collection, _questions(engine, collection, queries, questions, seed), chunks)
    scheme = engine.caching.config.scheme
    kept: tuple[Scheme, ...] = ("int8", "int4") if scheme in ("int8", "int4") else (scheme, "int8", "int4")
    with progress("prompts") as shown:
        found = measure(
            library.model,
            cases,
            scheme,
            collection=collection,
            modes=chosen,
            stored=kept,
            answer_tokens=answer_tokens,
            heads=engine.settings.rerankers["icr"].heads,
            progress=shown,
        )
    verdicts = Verdicts(engine.home.root)
    for verdict in found:
        verdicts.put(verdict)
    broken = engine.caching.gate.bounds.broken
    if as_json:
        typer.echo(json.dumps(_as_json(found, broken, str(engine.caching.gate.choose(library).mode))))
        return
    _table(found, broken)
    typer.echo(f'mode = "auto" is {engine.caching.gate.choose(library).mode} for this model and {scheme} states')


def _questions(engine: Engine, collection: str, file: Path | None, count: int, seed: int) -> list[str]:
    """Raises InvalidInput for a file that cannot be read, or has no question."""
    from rag.calibration import made_questions
    from rag.errors import InvalidInput

    if file is None:
        parts = engine.collection(collection).snapshot().store.iterate_chunks()
        return made_questions((chunk for part in parts for _, chunk in part), count, seed)
    try:
        lines = file.expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read ({error}); give a text file with a question a line") from error
    found = [line.strip() for line in lines if line.strip()][:count]
    if not found:
        raise InvalidInput(f"{file} has no question; write one a line")
    return found


def _cases(engine: Engine, collection: str, questions: list[str], depth: int) -> list[Case]:
    """Each question with the passages the default pipeline retrieves for it; those that find none are left out."""
    from rag.calibration import Case
    from rag.values import Query

    pipeline = engine.pipeline(collection, None, {"rerank": "none"})
    found = [(Query(text), pipeline.search(Query(text), min(depth, pipeline.depth))) for text in questions]
    return [
        Case(query, chunks)
        for query, ranking in found
        if (chunks := tuple(hit.chunk for hit in ranking.hits if hit.chunk.content.strip()))
    ]


def _as_json(found: list[Verdict], broken: Callable[[Verdict], tuple[str, ...]], auto: str) -> dict[str, Any]:
    import msgspec

    rows = [msgspec.to_builtins(one) | {"passed": not broken(one), "broken": list(broken(one))} for one in found]
    return {"auto": auto, "verdicts": rows}


def _table(found: list[Verdict], broken: Callable[[Verdict], tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    first = found[0]
    title = f"{first.model}, {first.dtype}: {first.questions} questions, {first.positions} tokens of answers"
    table = Table("mode", "states", *FIGURES, "", title=title)
    for one in found:
        figures = (f"{getattr(one, name):.3g}" for name in FIGURES)
        table.add_row(one.mode, one.scheme, *figures, "; ".join(broken(one)) or "passed")
    Console().print(table)
