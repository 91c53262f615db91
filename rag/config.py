"""Settings: one TOML file and the environment, read here and nowhere else, checked on construction.

Order of precedence: built-in defaults, the file, environment variables ``KVASIR_<TABLE>__<KEY>``, the call itself.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

from rag.cache_table import CacheConfig
from rag.dialects_table import DialectsConfig
from rag.errors import InvalidConfig, PipelineNotFound
from rag.generation_table import GenerationConfig
from rag.jobs_table import JobsConfig
from rag.selection_table import SelectionConfig
from rag.tables import (
    BUILT_IN,
    BUILT_IN_RERANKERS,
    LEXICAL,
    MAX_K,
    EncoderConfig,
    IndexConfig,
    ModelConfig,
    PipelineConfig,
    RemoteConfig,
    RerankerConfig,
    ServerConfig,
    in_range,
    nearest,
)

__all__ = [
    "BUILT_IN",
    "BUILT_IN_RERANKERS",
    "LEXICAL",
    "MAX_K",
    "CacheConfig",
    "DialectsConfig",
    "EncoderConfig",
    "GenerationConfig",
    "IndexConfig",
    "JobsConfig",
    "ModelConfig",
    "PipelineConfig",
    "RemoteConfig",
    "RerankerConfig",
    "SelectionConfig",
    "ServerConfig",
    "Settings",
    "load_settings",
    "parse_overrides",
    "settings_from",
]

Table = TypeVar("Table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. ``max_query_chars`` bounds a question before any stage sees it.

    The password of ``redis_url`` may stand in a file, which the variable KVASIR_REDIS_PASSWORD_FILE names.
    """

    home: Path = Path("~/.kvasir")
    default_pipeline: str = "hybrid"
    answer_pipeline: str = "ask"
    max_query_chars: int = 8192
    redis_url: str = field(default="", repr=False)
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig = ModelConfig()
    cache: CacheConfig = CacheConfig()
    index: IndexConfig = IndexConfig()
    generation: GenerationConfig = GenerationConfig()
    selection: SelectionConfig = SelectionConfig()
    remote: RemoteConfig = RemoteConfig()
    server: ServerConfig = ServerConfig()
    jobs: JobsConfig = JobsConfig()
    dialects: DialectsConfig = DialectsConfig()
    pipelines: Mapping[str, PipelineConfig] = field(default_factory=lambda: dict(BUILT_IN))
    rerankers: Mapping[str, RerankerConfig] = field(default_factory=lambda: dict(BUILT_IN_RERANKERS))

    def pipeline(self, name: str | None = None, overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
        """The named pipeline with some of its keys replaced. Raises PipelineNotFound, InvalidConfig."""
        chosen = name or self.default_pipeline
        if chosen not in self.pipelines:
            raise PipelineNotFound(f"no pipeline {chosen!r}{nearest(chosen, self.pipelines)}")
        found = self.pipelines[chosen]
        if overrides:
            found = _updated(found, overrides, "pipeline")
        if found.rerank != "none":
            self.reranker(found.rerank, found.rerank_model)
        return found

    def caching(self) -> CacheConfig:
        """[cache] with its store and its Redis URL decided. Raises InvalidConfig for redis without a URL."""
        url = self.cache.redis_url or self.redis_url
        if self.cache.store == "redis" and not url:
            raise InvalidConfig('cache.store = "redis" needs a URL; set KVASIR_REDIS_URL or redis_url in [cache]')
        store = self.cache.store if self.cache.store != "auto" else "redis" if url else "files"
        return replace(self.cache, store=store, redis_url=url)

    def reranker(self, name: str, model: str = "") -> RerankerConfig:
        """The named reranker with the model it will use: ``model``, its own, or the shared language model.

        Raises InvalidConfig for a name that is not configured, and where the reranker needs a model and has none.
        """
        if name == LEXICAL:
            raise InvalidConfig(
                f"{LEXICAL!r} is no reranker but a stand-in for the language model: take the reranker icr with "
                f'--model {LEXICAL}, KVASIR_MODEL__NAME={LEXICAL} or [model] name = "{LEXICAL}"'
            )
        if name not in self.rerankers:
            raise InvalidConfig(f"no reranker {name!r}{nearest(name, self.rerankers)}")
        found = self.rerankers[name]
        chosen = model or found.model or (self.model.name if found.reads else "")
        if found.kind == "cross-encoder" and not chosen:
            raise InvalidConfig(
                f"reranker {name!r} needs rerank_model, or model in [reranker.{name}]: the hub name or local path of a "
                "cross-encoder"
            )
        if found.reads and not chosen:
            raise InvalidConfig(
                f'reranker {name!r} needs a language model, and none is set: write [model] name = "PATH" in the '
                'settings file, set KVASIR_MODEL__NAME or give --model PATH ("embedded" is the small model that comes '
                'with Kvasir, "lexical" a stand-in without a model)'
            )
        return found if chosen == found.model else replace(found, model=chosen)


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
    if environ.get("KVASIR_REDIS_PASSWORD_FILE"):
        raw["redis_url"] = _with_password(raw.get("redis_url", ""), Path(environ["KVASIR_REDIS_PASSWORD_FILE"]))
    return settings_from(raw)


def _with_password(url: str, file: Path) -> str:
    """The URL of Redis with the password that the file holds, for the user it names. Raises InvalidConfig."""
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"KVASIR_REDIS_PASSWORD_FILE: {file} cannot be read; let the server read it") from error
    found = re.fullmatch(r"(rediss?://)([^:@/]*)@(.+)", url)
    if found is None:
        raise InvalidConfig("KVASIR_REDIS_PASSWORD_FILE needs KVASIR_REDIS_URL as redis://USER@HOST:PORT/0")
    return f"{found[1]}{found[2]}:{quote(password, safe='')}@{found[3]}"


def settings_from(raw: Mapping[str, Any]) -> Settings:
    """Settings from plain values, as TOML gives them. Raises InvalidConfig with the nearest known key."""
    rest = dict(raw)
    pipelines = _named(rest.pop("pipeline", {}), "pipeline", BUILT_IN, PipelineConfig())
    rerankers = _named(rest.pop("reranker", {}), "reranker", BUILT_IN_RERANKERS, RerankerConfig())
    for name, table in raw.get("reranker", {}).items():
        _all_read(name, table, rerankers[name])
    if "none" in rerankers:
        raise InvalidConfig('no reranker can be called "none", which means that nothing is reranked; rename it')
    settings = replace(_updated(Settings(), rest, ""), pipelines=pipelines, rerankers=rerankers)
    in_range("max_query_chars", settings.max_query_chars, 1, 100_000)
    for name in (settings.default_pipeline, settings.answer_pipeline, *pipelines):
        settings.pipeline(name)
    settings.reranker(settings.dialects.reranker)
    return settings


def _named(tables: Any, kind: str, built_in: Mapping[str, Table], new: Table) -> dict[str, Table]:
    """Tables by name: a built-in one starts from itself, another from ``new``."""
    if not isinstance(tables, Mapping):
        raise InvalidConfig(f"{kind}s are tables: write [{kind}.NAME]")
    found = dict(built_in)
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise InvalidConfig(f"{kind}.{name} = {table!r} is no table; write [{kind}.{name}]")
        found[name] = _updated(found.get(name, new), table, f"{kind}.{name}")
    return found


def _all_read(name: str, keys: Iterable[str], chosen: RerankerConfig) -> None:
    """Raises InvalidConfig for a key of [reranker.NAME] that its kind does not read."""
    for key in keys:
        if key not in chosen.keys:
            rule = f"a reranker of kind {chosen.kind} does not read it{nearest(key, chosen.keys)}"
            raise InvalidConfig(f"reranker.{name}.{key}: {rule}")


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


def _plain(value: str) -> Any:
    try:
        return tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return value


def _updated(base: Table, table: Mapping[str, Any], where: str) -> Table:
    """``base`` with the table's keys replaced; unknown keys and wrong types are refused."""
    hints = _hints(type(base))  # type: ignore[arg-type]
    names = [f.name for f in fields(base)]  # type: ignore[arg-type]
    known = [_NAMED.get(name, name) for name in names]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        label = f"{where}.{key}" if where else key
        if key not in known:
            raise InvalidConfig(f"unknown key {label!r}{nearest(key, known)}")
        current = getattr(base, key)
        if hasattr(type(current), "__dataclass_fields__"):
            if not isinstance(value, Mapping):
                raise InvalidConfig(f"{label} = {value!r} is no table; write [{label}]")
            changes[key] = _updated(current, value, label)
        else:
            changes[key] = _checked(label, value, hints[key])
    return replace(base, **changes)  # type: ignore[type-var]


_NAMED = {"pipelines": "pipeline", "rerankers": "reranker"}
"""Fields of Settings that are written as tables of named tables."""


@cache
def _hints(table: type) -> dict[str, Any]:
    """The types of a table's keys; looking them up costs a tenth of a search."""
    return get_type_hints(table)


def _checked(label: str, value: Any, hint: Any) -> Any:
    """The value as the field's type. Raises InvalidConfig."""
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise InvalidConfig(f"{label} = {value!r}{nearest(str(value), [str(a) for a in get_args(hint)])}")
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
