"""Settings: one TOML file and the environment, read here and nowhere else, checked on construction.

Order of precedence: built-in defaults, the file, environment variables ``KVASIR_<TABLE>__<KEY>``, the call itself.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rag.errors import InvalidConfig, PipelineNotFound

MAX_K = 10_000


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidConfig(f"{name} = {value}; it lies between {low} and {high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """One named pipeline. Every key can be overridden in a request.

    retrieve      bm25, dense, fast-forward: one, or several that are fused
    fuse          rrf, minmax, zscore or theoretical;  weights  one a retriever, [] means equal
    depth         candidates every retriever gives before fusion, and the largest k; the default, like fuse, weights
                  and alpha, was chosen on scifact's train questions
    alpha         share of BM25 in fast-forward
    rerank        none, sentences (the text encoder over single sentences) or cross-encoder
    rerank_model  the cross-encoder, by hub name or local path
    rerank_depth  how many are reranked; those below keep their order behind them
    select        budget (fill) or mmr;  mmr_lambda  1.0 is relevance alone
    order         how selected chunks stand in the prompt: score, best-last or document
    k, budget     results of a search, and tokens of context for an answer, where the request names none
    generate      extractive, or remote (an OpenAI-compatible engine, table [remote])
    """

    retrieve: tuple[Literal["bm25", "dense", "fast-forward"], ...] = ("bm25", "dense")
    fuse: Literal["rrf", "minmax", "zscore", "theoretical"] = "minmax"
    weights: tuple[float, ...] = ()
    depth: int = 500
    alpha: float = 0.6
    rerank: Literal["none", "sentences", "cross-encoder"] = "none"
    rerank_model: str = ""
    rerank_depth: int = 20
    select: Literal["budget", "mmr"] = "budget"
    mmr_lambda: float = 0.7
    order: Literal["score", "best-last", "document"] = "score"
    k: int = 10
    budget: int = 1024
    generate: Literal["extractive", "remote"] = "extractive"

    def __post_init__(self) -> None:
        if not self.retrieve or len(set(self.retrieve)) != len(self.retrieve):
            raise InvalidConfig(f"retrieve = {list(self.retrieve)}; name at least one retriever, each once")
        if self.weights and len(self.weights) != len(self.retrieve):
            raise InvalidConfig(
                f"{len(self.weights)} weights for {len(self.retrieve)} retrievers; give one a retriever"
            )
        if any(not 0 <= weight < 1e6 for weight in self.weights) or (self.weights and not sum(self.weights)):
            raise InvalidConfig(f"weights = {list(self.weights)}; weights are at least 0 and not all 0")
        for name in ("depth", "rerank_depth", "k"):
            _in_range(name, getattr(self, name), 1, MAX_K)
        _in_range("budget", self.budget, 0, 1_000_000)
        _in_range("alpha", self.alpha, 0, 1)
        _in_range("mmr_lambda", self.mmr_lambda, 0, 1)
        if self.rerank == "cross-encoder" and not self.rerank_model:
            raise InvalidConfig('rerank = "cross-encoder" needs rerank_model: a hub name or a local path')


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """[encoder] The text encoder.

    model       hub name or local path of a sentence-transformers model; the default is packaged
    device      auto (a GPU where there is one), cpu, cuda, cuda:1
    dtype       of passages: float32, bfloat16 or auto (bfloat16 where the device computes it natively)
    threads     CPU threads of torch, 0 leaves its own choice;  batch_size  texts encoded at once
    trust_remote_code  run code that a model brings along
    """

    model: str = "all-MiniLM-L6-v2"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 0
    batch_size: int = 32
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        _in_range("encoder.threads", self.threads, 0, 1024)
        _in_range("encoder.batch_size", self.batch_size, 1, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """[index] What a build makes, and how it is opened.

    chunking  auto (whole documents for test collections, headings for folders, sentences else), whole,
              sentences or headings;  chunk_tokens, chunk_overlap  in tokens of the text encoder
    duplicates  an id that comes twice: error, or skip all but the first
    k1, b     of BM25;  java_heap_mb  the most memory Lucene's Java machine takes
    vectors   auto, exact, hnsw or ivfpq;  exact_up_to  chunks searched exactly under auto
    hnsw_m, hnsw_ef_construction, hnsw_ef_search  links a vector, and candidates while building and searching
    ivf_lists, ivf_probes, pq_bytes  cells (0: by size), cells searched, bytes a vector
    verify    read every file and compare checksums when a collection is opened
    chunk_cache_mb  chunks kept in memory, a collection
    """

    chunking: Literal["auto", "whole", "sentences", "headings"] = "auto"
    chunk_tokens: int = 200
    chunk_overlap: int = 32
    duplicates: Literal["error", "skip"] = "error"
    k1: float = 0.9
    b: float = 0.4
    java_heap_mb: int = 1024
    vectors: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    exact_up_to: int = 50_000
    hnsw_m: int = 32
    hnsw_ef_construction: int = 200
    hnsw_ef_search: int = 128
    ivf_lists: int = 0
    ivf_probes: int = 32
    pq_bytes: int = 64
    verify: bool = True
    chunk_cache_mb: int = 256

    def __post_init__(self) -> None:
        _in_range("index.chunk_tokens", self.chunk_tokens, 8, 100_000)
        _in_range("index.chunk_overlap", self.chunk_overlap, 0, self.chunk_tokens - 1)
        _in_range("index.k1", self.k1, 0, 100)
        _in_range("index.b", self.b, 0, 1)
        _in_range("index.java_heap_mb", self.java_heap_mb, 64, 1_000_000)
        _in_range("index.chunk_cache_mb", self.chunk_cache_mb, 0, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """[remote] An OpenAI-compatible engine for generation.

    base_url  up to and with /v1;  model  as the engine names it
    api_key_env  the environment variable that holds the key, never the key itself
    timeout   seconds until the next piece;  max_tokens, temperature  of an answer
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    max_tokens: int = 512
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise InvalidConfig(f"remote.base_url = {self.base_url!r}; it starts with http:// or https://")
        _in_range("remote.timeout", self.timeout, 0.1, 3600)
        _in_range("remote.max_tokens", self.max_tokens, 1, 1_000_000)
        _in_range("remote.temperature", self.temperature, 0, 2)

    @property
    def api_key(self) -> str:
        return os.environ.get(self.api_key_env, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """[server] What ``kvasir serve`` listens on and takes in.

    host, port  the address; port 0 takes a free one
    workers  threads that do the work;  queue  requests that may wait for them, more are told to come back
    max_body_mb, max_documents  the largest request, and the most documents in one
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 0
    queue: int = 256
    max_body_mb: int = 32
    max_documents: int = 10_000

    def __post_init__(self) -> None:
        _in_range("server.port", self.port, 0, 65535)
        _in_range("server.workers", self.workers, 0, 256)
        _in_range("server.queue", self.queue, 1, 100_000)
        _in_range("server.max_body_mb", self.max_body_mb, 1, 4096)
        _in_range("server.max_documents", self.max_documents, 1, 1_000_000)

    @property
    def threads(self) -> int:
        """``workers``, or for 0 one a CPU core and at least two."""
        return self.workers or max(2, os.cpu_count() or 2)


BUILT_IN: dict[str, PipelineConfig] = {
    "bm25": PipelineConfig(retrieve=("bm25",)),
    "dense": PipelineConfig(retrieve=("dense",)),
    "hybrid": PipelineConfig(),
    "fast-forward": PipelineConfig(retrieve=("fast-forward",), depth=1000),
    "ask": PipelineConfig(rerank="sentences", k=10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. ``max_query_chars`` bounds a question before any stage sees it."""

    home: Path = Path("~/.kvasir")
    default_pipeline: str = "hybrid"
    answer_pipeline: str = "ask"
    max_query_chars: int = 8192
    redis_url: str = ""
    encoder: EncoderConfig = EncoderConfig()
    index: IndexConfig = IndexConfig()
    remote: RemoteConfig = RemoteConfig()
    server: ServerConfig = ServerConfig()
    pipelines: Mapping[str, PipelineConfig] = field(default_factory=lambda: dict(BUILT_IN))

    def pipeline(self, name: str | None = None, overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
        """The named pipeline with some of its keys replaced. Raises PipelineNotFound, InvalidConfig."""
        chosen = name or self.default_pipeline
        if chosen not in self.pipelines:
            raise PipelineNotFound(f"no pipeline {chosen!r}{_nearest(chosen, self.pipelines)}")
        return _updated(self.pipelines[chosen], overrides, "pipeline") if overrides else self.pipelines[chosen]


def load_settings(
    path: Path | None = None, *, home: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings from ``path`` (or KVASIR_CONFIG, or kvasir.toml in the home directory if there) and the environment."""
    environ = os.environ if environ is None else environ
    root = home or Path(environ.get("KVASIR_HOME") or "~/.kvasir")
    file = path or (Path(environ["KVASIR_CONFIG"]) if environ.get("KVASIR_CONFIG") else None)
    if file is None and (root.expanduser() / "kvasir.toml").is_file():
        file = root.expanduser() / "kvasir.toml"
    raw = _read_toml(file) if file else {}
    _overlay(raw, environ)
    if home or environ.get("KVASIR_HOME") or "home" not in raw:
        raw["home"] = str(root)
    return settings_from(raw)


def settings_from(raw: Mapping[str, Any]) -> Settings:
    """Settings from plain values, as TOML gives them. Raises InvalidConfig with the nearest known key."""
    rest = dict(raw)
    named = rest.pop("pipeline", {})
    if not isinstance(named, Mapping):
        raise InvalidConfig("pipelines are tables: write [pipeline.NAME]")
    pipelines = dict(BUILT_IN)
    for name, table in named.items():
        if not isinstance(table, Mapping):
            raise InvalidConfig(f"pipeline.{name} = {table!r} is no table; write [pipeline.{name}]")
        pipelines[name] = _updated(pipelines.get(name, PipelineConfig()), table, f"pipeline.{name}")
    settings = replace(_updated(Settings(), rest, ""), pipelines=pipelines)
    settings.pipeline(settings.default_pipeline)
    settings.pipeline(settings.answer_pipeline)
    _in_range("max_query_chars", settings.max_query_chars, 1, 100_000)
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidConfig(f"there is no settings file {path}; write one or leave KVASIR_CONFIG unset") from None
    except OSError as error:
        raise InvalidConfig(f"the settings file {path} cannot be read ({error.strerror}); name another") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path} is not TOML: {error}") from error


_ENVIRONMENT = {
    f"KVASIR_{key.upper()}": key for key in ("default_pipeline", "answer_pipeline", "max_query_chars", "redis_url")
}


def _overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    """KVASIR_SERVER__PORT=9000 sets server.port, KVASIR_PIPELINE__ASK__K=5 pipeline.ask.k.

    A value reads as TOML where it can, as a plain string otherwise.
    """
    for name, value in environ.items():
        if name in _ENVIRONMENT:
            key = _ENVIRONMENT[name]
            raw[key] = _plain(value) if key == "max_query_chars" else value
        elif name.startswith("KVASIR_") and "__" in name:
            *path, key = name.removeprefix("KVASIR_").lower().split("__")
            table = raw
            for part in path:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise InvalidConfig(f"{part} = {table!r} is no table, but {name} sets a key of it")
            table[key] = _plain(value)


def parse_overrides(sets: Sequence[str]) -> dict[str, Any]:
    """Pipeline keys from ``key=value`` strings; a value reads as TOML where it can."""
    overrides = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidConfig(f"{text!r} sets nothing; write key=value, for example depth=200")
        overrides[key.strip()] = _plain(value.strip())
    return overrides


Table = TypeVar("Table")


def _plain(value: str) -> Any:
    try:
        return tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return value


def _updated(base: Table, table: Mapping[str, Any], where: str) -> Table:
    """``base`` with the table's keys replaced; unknown keys and wrong types are refused."""
    hints = _hints(type(base))  # type: ignore[arg-type]
    known = [f.name for f in fields(base) if f.name != "pipelines"]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        label = f"{where}.{key}" if where else key
        if key not in known:
            raise InvalidConfig(f"unknown key {label!r}{_nearest(key, known)}")
        current = getattr(base, key)
        if hasattr(type(current), "__dataclass_fields__"):
            if not isinstance(value, Mapping):
                raise InvalidConfig(f"{label} = {value!r} is no table; write [{label}]")
            changes[key] = _updated(current, value, label)
        else:
            changes[key] = _checked(label, value, hints[key])
    return replace(base, **changes)  # type: ignore[type-var]


@cache
def _hints(table: type) -> dict[str, Any]:
    """The types of a table's keys; looking them up costs a tenth of a search."""
    return get_type_hints(table)


def _checked(label: str, value: Any, hint: Any) -> Any:
    """The value as the field's type. Raises InvalidConfig."""
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise InvalidConfig(f"{label} = {value!r}{_nearest(str(value), [str(a) for a in get_args(hint)])}")
        return value
    if origin is tuple:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple):
            raise InvalidConfig(f"{label} = {value!r}; it takes a list")
        return tuple(_checked(label, element, get_args(hint)[0]) for element in values)
    if origin in (Union, types.UnionType):
        return None if value is None else _checked(label, value, get_args(hint)[0])
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InvalidConfig(f"{label} = {value!r}; it takes {_TYPE_NAMES.get(hint, hint.__name__)}")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", Path: "a path"}


def _nearest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    there = ", ".join(sorted(known))
    return f"; did you mean {close[0]!r}? (known: {there})" if close else f"; known: {there}"
