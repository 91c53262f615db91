"""What ``kvasir cache`` does and prints; progress goes to stderr, so that stdout stays for results."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from queue import Empty
from typing import Any

import typer

from rag.assemble import Engine
from rag.config import Settings
from rag.errors import CacheUnavailable, InvalidConfig, KvasirError
from rag.kv.audit import Audit, check_values, compare
from rag.kv.key import chunk_prefix
from rag.kv.slots import partner
from rag.kv.tiered import TieredStore
from rag.kv.tokenizers import tokenizer_of
from rag.kv.warm import Warmed, warm
from rag.runtime.meter import Meter

Ids = tuple[int, ...]
Shown = Callable[[int, int], None]
MAX_SHOWN = 20


# --- warm ---


def show_warm(
    engine: Engine, name: str, model: str, reranker: str, workers: int, batch_tokens: int, as_json: bool
) -> None:
    store = _store(engine)
    if all(tier.name == "memory" for tier in store.tiers):
        raise InvalidConfig('cache.store = "memory" ends with the process; choose files or redis to read chunks ahead')
    if workers == 1:
        with progress() as shown:
            done = _warmed(engine, name, model, reranker, batch_tokens, os.getpid(), shown)
    else:
        done = _together(engine.settings, name, model, reranker, workers, batch_tokens)
    if as_json:
        typer.echo(json.dumps({"collection": name, "workers": workers} | asdict(done) | {"speed": round(done.speed)}))
        return
    typer.echo(
        f"{done.chunks} chunks: {done.there} were there, {done.read} read "
        f"({done.tokens} tokens in {done.seconds:.1f} s, {done.speed:.0f} a second)"
    )


def _warmed(engine: Engine, name: str, model: str, reranker: str, batch_tokens: int, seed: int, shown: Shown) -> Warmed:
    form = engine.caching.form(reranker)
    library = engine.caching.library(model)
    store = engine.collection(name).snapshot().store
    wanted: set[Ids] = set()
    for part in store.iterate_chunks():
        wanted.update(engine.caching.passages(library, [chunk for _, chunk in part], form))
    return warm(library, sorted(wanted), Meter(), batch_tokens=batch_tokens, seed=seed, progress=shown)


def _together(settings: Settings, name: str, model: str, reranker: str, workers: int, batch_tokens: int) -> Warmed:
    """Several processes, each with its own model; they share the CPU's cores."""
    import torch

    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    threads = max(1, torch.get_num_threads() // workers)
    asked = (settings, name, model, reranker, batch_tokens, threads)
    processes = [context.Process(target=_work, args=(reports, seed, *asked), daemon=True) for seed in range(workers)]
    for process in processes:
        process.start()
    done: list[Warmed] = []
    with progress() as shown:
        furthest = 0
        while len(done) < workers:
            try:
                said = reports.get(timeout=1)
            except Empty:
                if any(process.exitcode for process in processes):
                    raise CacheUnavailable(
                        "a worker ended before its work; run it again, what is stored stays"
                    ) from None
                continue
            match said:
                case Warmed():
                    done.append(said)
                case (int(), int()):
                    furthest = max(furthest, said[0])
                    shown(furthest, said[1])
                case str():
                    raise CacheUnavailable(said)
    for process in processes:
        process.join()
    read = sum(one.read for one in done)
    tokens, seconds = sum(one.tokens for one in done), max(one.seconds for one in done)
    chunks = done[0].chunks
    return Warmed(chunks=chunks, there=max(0, chunks - read), read=read, tokens=tokens, seconds=seconds)


def _work(
    reports: Any, seed: int, settings: Settings, name: str, model: str, reranker: str, batch_tokens: int, threads: int
) -> None:
    """The work of one process: its progress, then what it did, or why it could not."""
    import torch

    torch.set_num_threads(threads)
    engine = Engine(settings)
    try:
        done = _warmed(engine, name, model, reranker, batch_tokens, seed, lambda *said: reports.put(said))
    except KvasirError as error:
        reports.put(str(error))
        return
    finally:
        engine.caching.close()
    reports.put(done)


@contextmanager
def progress(what: str = "tokens") -> Iterator[Shown]:
    """A bar with their number a second and the remaining time on a terminal; else a line a tenth."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        seen = [-1]

        def say(done: int, total: int) -> None:
            tenth = 10 * done // total if total else 10
            if tenth > seen[0]:
                seen[0] = tenth
                sys.stderr.write(f"read {done}/{total} {what}\n")

        yield say
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task(what, total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = bars.tasks[task].speed
            bars.update(task, completed=done, total=total, rate=f"{speed:.3g} {what}/s" if speed else "")

        yield show


# --- stats, verify, drop ---


def show_stats(engine: Engine, name: str | None, model: str, reranker: str, as_json: bool) -> None:
    store = _store(engine)
    tiers = [asdict(tier) for tier in store.tiers_stats()]
    kinds = Counter(partner(name)[0] for name in store.keys("kv"))
    said: dict[str, Any] = {"store": store.name, "tiers": tiers, "variants": kinds["c"]}
    if name is not None:
        said["collection"] = _coverage(engine, store, name, model, reranker)
    if as_json:
        typer.echo(json.dumps(said))
        return
    for tier in tiers:
        trouble = f"  trouble: {tier['trouble']}" if tier["trouble"] else ""
        typer.echo(f"{tier['name']:>8}  {tier['entries']} values, {tier['nbytes'] / 2**20:.1f} MiB{trouble}")
    if kinds["c"]:
        typer.echo(f"{kinds['c']} values are variants, read behind other passages, and {kinds['i']} are their index")
    if name is not None:
        found = said["collection"]
        typer.echo(f"{name}: {found['stored']} of {found['chunks']} chunks stored ({found['share']:.1%})")


def _coverage(engine: Engine, store: TieredStore, name: str, model: str, reranker: str) -> dict[str, Any]:
    """Chunks of a collection with states of any model that has this tokenizer; no weights are loaded for it."""
    chosen = model or engine.settings.model.name
    if not chosen:
        raise InvalidConfig("whose tokens name the chunks? give --model, or set [model] name")
    tokenizer, form = tokenizer_of(chosen), engine.caching.form(reranker)
    names = {name[: name.find("}") + 2] for name in store.keys("kv") if partner(name)[0] != "i"}
    there: list[bool] = []
    for part in engine.collection(name).snapshot().store.iterate_chunks():
        ids = form.ids(tokenizer, [chunk for _, chunk in part])
        there += [chunk_prefix(one) in names for one in ids if one]
    share = sum(there) / len(there) if there else 0.0
    return {"name": name, "chunks": len(there), "stored": sum(there), "share": round(share, 4)}


def show_verify(engine: Engine, name: str | None, model: str, sample: int, seed: int, as_json: bool) -> bool:
    """Prints what was found; True where all is right."""
    store = _store(engine)
    before = store.failures[0]
    names = sorted(store.keys("kv"))
    if name is not None:
        names = _of_collection(engine, name, model, names)
    found = check_values(store, names, engine.caching.config.hmac_key)
    if store.failures[0] > before:
        raise CacheUnavailable(store.failures[1])
    if sample and (model or engine.settings.model.name):
        compare(engine.caching.library(model), names, sample, seed, found)
    _say(found, sample, as_json)
    return found.passed


def _of_collection(engine: Engine, name: str, model: str, names: list[str]) -> list[str]:
    chosen = model or engine.settings.model.name
    if not chosen:
        raise InvalidConfig("whose tokens name the chunks? give --model, or set [model] name")
    tokenizer, kept = tokenizer_of(chosen), list[str]()
    by_chunk: dict[str, list[str]] = {}
    for one in names:
        by_chunk.setdefault(one[: one.find("}") + 2], []).append(one)
    forms = {engine.caching.form(each) for each, one in engine.settings.rerankers.items() if one.reads}
    for part in engine.collection(name).snapshot().store.iterate_chunks():
        for form in forms:
            for ids in form.ids(tokenizer, [chunk for _, chunk in part]):
                kept += by_chunk.pop(chunk_prefix(ids), []) if ids else []
    return sorted(kept)


def _say(found: Audit, sample: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"passed": found.passed}))
        return
    for name, why in list(found.damaged.items())[:MAX_SHOWN]:
        typer.echo(f"damaged: {name}: {why}")
    for name in found.wrong[:MAX_SHOWN]:
        typer.echo(f"not what the model reads: {name}")
    typer.echo(f"{found.values} values, {len(found.damaged)} damaged")
    if found.variants or found.apart:
        typer.echo(f"{found.variants} variants; {found.apart} of them or of their index stand alone, and are mended")
    if found.compared:
        differ = found.compared - found.same
        typer.echo(
            f"{found.compared} read again: {found.same} the same to the last bit, {differ} others differ by at most "
            f"{found.largest:.1e} (tolerance {found.tolerance:g})"
        )
    elif sample:
        typer.echo("none was read again: no values of this model and these settings, or no model is set (--model)")
    typer.echo("PASS" if found.passed else "FAIL: damaged values are read anew when they are asked for")


def show_drop(engine: Engine, name: str | None, as_json: bool) -> None:
    store = _store(engine)
    if name is None:
        before = store.failures[0]
        values = store.delete(sorted(store.keys("kv")))
        if store.failures[0] > before:
            raise CacheUnavailable(store.failures[1])
    else:
        forgotten = engine.caching.drop(engine.collection(name))
        if forgotten.trouble:
            raise CacheUnavailable(forgotten.trouble)
        values = forgotten.values
    typer.echo(json.dumps({"deleted": values}) if as_json else f"deleted {values} values")


def _store(engine: Engine) -> TieredStore:
    store = engine.caching.store
    if store is None:
        raise InvalidConfig('nothing is kept with cache.store = "none"; choose files, redis or memory in [cache]')
    return store
