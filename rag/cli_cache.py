"""``kvasir cache``: read chunks ahead, look at what is stored, check it and delete it."""

from __future__ import annotations

from typing import Annotated

import typer

from rag.cli_options import Config, Home, Json, ModelName, engine_of

cache = typer.Typer(
    help="Chunk states of language models: read them ahead, count, check and delete them.", rich_markup_mode=None
)

Some = Annotated[str | None, typer.Argument(help="A collection, for its chunks only.")]
RerankerName = Annotated[
    str, typer.Option("--reranker", "-r", help="The reranker they are for [the default pipeline's, or icr].")
]


@cache.command("warm")
def warm(
    name: Annotated[str, typer.Argument(help="Collection, alias or name@version.")],
    model: ModelName = "",
    reranker: RerankerName = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the work.")] = 1,
    batch_tokens: Annotated[int, typer.Option(min=64, max=10_000_000, help="Tokens read and stored together.")] = 8192,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Have the model read all chunks of a collection, so that no question has to. Stopped, it goes on where it was."""
    from rag.cli_chunk_states import show_warm

    show_warm(engine_of(home, config), name, model, reranker, workers, batch_tokens, as_json)


@cache.command("stats")
def stats(
    name: Some = None,
    model: ModelName = "",
    reranker: RerankerName = "",
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """What is stored and where; with a collection, how many of its chunks."""
    from rag.cli_chunk_states import show_stats

    show_stats(engine_of(home, config), name, model, reranker, as_json)


@cache.command("verify")
def verify(
    name: Some = None,
    model: ModelName = "",
    sample: Annotated[int, typer.Option(min=0, help="Values that the model reads again, 0 for none.")] = 16,
    seed: Annotated[int, typer.Option(help="Which sample.")] = 0,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare all checksums, and a sample with what the model reads now; exit code 1 where one differs."""
    from rag.cli_chunk_states import show_verify

    passed = show_verify(engine_of(home, config), name, model, sample, seed, as_json)
    raise typer.Exit(0 if passed else 1)


@cache.command("drop")
def drop(
    name: Some = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Delete chunk states of all models: all there are, or those of a collection's chunks."""
    if not yes:
        of = f"of collection {name!r}" if name else "of all collections that share this store"
        typer.confirm(f"delete the chunk states {of}?", abort=True, err=True)
    from rag.cli_chunk_states import show_drop

    show_drop(engine_of(home, config), name, as_json)
