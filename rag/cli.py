"""``kvasir``: index, search, ask, rerank, serve and keep collections. Imports nothing heavy before a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rag.cli_cache import cache
from rag.cli_calibrate import calibrate
from rag.cli_keys import keys
from rag.cli_language_models import info, use
from rag.cli_models import models, verify
from rag.cli_options import Config, FilterText, Home, Json, ModelName, PipelineName, Sets, engine_of
from rag.errors import KvasirError

app = typer.Typer(
    name="kvasir",
    help="Find, rerank and select passages, and answer from them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
collections = typer.Typer(help="List, describe, alias, export, import and drop collections.", rich_markup_mode=None)
app.add_typer(collections, name="collections")
models.command("calibrate")(calibrate)
models.command("info")(info)
models.command("use")(use)
app.add_typer(models, name="models")
app.add_typer(cache, name="cache")
app.add_typer(keys, name="keys")
app.add_typer(verify, name="verify")


def main() -> None:
    """Entry point: errors of the library are one line on stderr and exit code 2."""
    try:
        app(standalone_mode=True)
    except KvasirError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


@app.command()
def index(
    name: Annotated[str, typer.Argument(help="The collection to build.")],
    source: Annotated[
        list[str], typer.Argument(help="BEIR folder, .jsonl file, folder of files, file, or python-docs.")
    ],
    kind: Annotated[str | None, typer.Option(help="Read the source as beir, jsonl, folder or python-docs.")] = None,
    chunking: Annotated[str | None, typer.Option(help="auto, whole, sentences or headings.")] = None,
    duplicates: Annotated[str | None, typer.Option(help="An id that comes twice: error or skip.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where anything was skipped; the rest is built all the same.")
    ] = False,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Build a collection, or its next version. Stopped, the same command goes on where it was."""
    from rag.cli_index import build_collection

    if build_collection(engine_of(home, config), name, source, kind, chunking, duplicates, as_json) and strict:
        raise typer.Exit(1)


@app.command()
def search(
    name: Annotated[str, typer.Argument(help="Collection, alias or name@version.")],
    query: str,
    k: Annotated[int | None, typer.Option("-k", help="How many results.")] = None,
    pipeline: PipelineName = None,
    sets: Sets = None,
    filter_text: FilterText = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show each hit's rank and score at every stage.")] = False,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the best chunks for a query."""
    from rag.cli_answers import show_search

    show_search(engine_of(home, config), name, query, k, pipeline, sets or [], filter_text, explain, as_json)


@app.command()
def ask(
    name: Annotated[str, typer.Argument(help="Collection, alias or name@version.")],
    question: str,
    budget: Annotated[int | None, typer.Option(help="Tokens of sources the answer may be made from.")] = None,
    selector: Annotated[
        str | None, typer.Option(help="Who chooses the sources: budget, mmr, search, greedy, beam, local, mcts, exact.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each candidate is a source or not.")] = False,
    generate: Annotated[str | None, typer.Option(help="Who answers: extractive, local or remote.")] = None,
    model: ModelName = "",
    pipeline: PipelineName = None,
    sets: Sets = None,
    filter_text: FilterText = None,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Answer a question with citations."""
    from rag.cli_answers import show_answer

    named = {"generate": generate, "select": selector}
    chosen = [*(sets or []), *(f"{key}={value}" for key, value in named.items() if value)]
    engine = engine_of(home, config, model)
    show_answer(engine, name, question, budget, pipeline, chosen, filter_text, as_json, explain)


@app.command()
def rerank(
    query: str,
    file: Annotated[
        str, typer.Argument(help='Passages: a file of {"text", "title", "id"} or plain text a line; - reads stdin.')
    ] = "-",
    reranker: Annotated[str, typer.Option("--reranker", "-r", help="A reranker's name: kvasir models list.")] = "icr",
    model: ModelName = "",
    top_n: Annotated[int | None, typer.Option(min=1, help="Show the best only.")] = None,
    deadline_ms: Annotated[float, typer.Option(min=0, max=86_400_000, help="Stop a language model after that.")] = 0.0,
    max_prefill_tokens: Annotated[int, typer.Option(min=0, help="Most tokens it may compute, 0 for no limit.")] = 0,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Order passages by their relevance to a query; needs no collection."""
    from rag.cli_rerank import show_rerank
    from rag.runtime.meter import Limits

    limits = Limits(deadline_ms, max_prefill_tokens)
    show_rerank(engine_of(home, config), query, file, reranker, model, top_n, limits, as_json)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind, 0 for a free one [8080].")] = None,
    processes: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that share the work [1].")] = None,
    home: Home = None,
    config: Config = None,
) -> None:
    """Serve all collections over HTTP."""
    import signal
    from dataclasses import replace
    from importlib import import_module

    from rag.config import load_settings

    settings = load_settings(config, home=home)
    server = settings.server
    given = {"host": host, "port": port, "processes": processes}
    server = replace(server, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    for ending in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it has finished
        signal.signal(ending, lambda *_: sys.exit(0))
    # by name: rag lies below api, and only this door leads up
    import_module("api.serve").serve(replace(settings, server=server))


@app.command()
def mcp(home: Home = None, config: Config = None) -> None:
    """Offer search, rerank, answer and collections to a language model's client, over standard input and output."""
    from importlib import import_module

    from rag.config import load_settings

    import_module("api.mcp.stdio").serve(load_settings(config, home=home))


@app.command()
def demo(
    question: Annotated[str, typer.Argument()] = "How do I parse a date from a string?",
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Index the Python standard library's documentation, once, and ask it a question."""
    from rag.cli_index import build_demo

    engine = engine_of(home, config)
    build_demo(engine, as_json)
    from rag.cli_answers import show_answer

    show_answer(engine, "python-docs", question, None, None, [], None, as_json)


@collections.command("list")
def list_collections(home: Home = None, as_json: Json = False) -> None:
    """All collections, and the aliases that point at them."""
    from rag.cli_collections import show_list

    show_list(engine_of(home, None), as_json)


@collections.command("show")
def show_collection(name: str, home: Home = None, as_json: Json = False) -> None:
    """What one collection holds and how it was built."""
    from rag.cli_collections import show_one

    show_one(engine_of(home, None), name, as_json)


@collections.command("drop")
def drop_collection(
    name: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, home: Home = None
) -> None:
    """Delete a collection with all its versions."""
    engine = engine_of(home, None)
    engine.home.current(name)
    if not yes:
        typer.confirm(f"delete collection {name!r} and all its versions?", abort=True)
    from rag.cli_collections import drop

    drop(engine, name)


@collections.command("alias")
def alias_collection(
    alias: str,
    target: Annotated[str | None, typer.Argument(help="Collection or name@version.")] = None,
    remove: Annotated[bool, typer.Option("--remove")] = False,
    home: Home = None,
) -> None:
    """Point an alias at a collection or a version, atomically."""
    if (target is None) != remove:
        raise typer.BadParameter("give a target, or --remove")
    engine_of(home, None).home.set_alias(alias, target)


@collections.command("export")
def export_collection(name: str, archive: Path, home: Home = None) -> None:
    """Write one version into one .tar.gz archive."""
    from indexes.archive import export_archive

    export_archive(engine_of(home, None).home, name, archive)


@collections.command("import")
def import_collection(name: str, archive: Path, home: Home = None) -> None:
    """Publish an exported archive as a collection's next version."""
    from indexes.archive import import_archive

    place = import_archive(engine_of(home, None).home, name, archive)
    typer.echo(f"{place.name}@{place.version}")


@collections.command("delete")
def delete_documents(name: str, doc_ids: list[str], home: Home = None, as_json: Json = False) -> None:
    """Delete documents from a collection; they are gone everywhere at once."""
    from rag.cli_collections import show_delete

    show_delete(engine_of(home, None), name, doc_ids, as_json)


@collections.command("add")
def add_documents(
    name: str,
    source: list[str],
    kind: Annotated[str | None, typer.Option(help="Read the source as beir, jsonl, folder or python-docs.")] = None,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Add a source's documents without a rebuild; an id that is already there is replaced."""
    from rag.cli_collections import show_add

    show_add(engine_of(home, config), name, source, kind, as_json)
