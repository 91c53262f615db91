"""Settings: who wins, what is refused, and that every key is documented and can be set."""

from __future__ import annotations

import re
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from rag.config import (
    BUILT_IN,
    BUILT_IN_RERANKERS,
    CacheConfig,
    DialectsConfig,
    EncoderConfig,
    GenerationConfig,
    IndexConfig,
    JobsConfig,
    ModelConfig,
    PipelineConfig,
    RemoteConfig,
    RerankerConfig,
    SelectionConfig,
    ServerConfig,
    Settings,
    load_settings,
    parse_overrides,
    settings_from,
)
from rag.errors import InvalidConfig, PipelineNotFound
from rag.selection_table import Weights

TABLES: dict[str, type] = {
    "encoder": EncoderConfig,
    "model": ModelConfig,
    "cache": CacheConfig,
    "index": IndexConfig,
    "generation": GenerationConfig,
    "selection": SelectionConfig,
    "selection.weights": Weights,
    "remote": RemoteConfig,
    "dialects": DialectsConfig,
    "server": ServerConfig,
    "jobs": JobsConfig,
    "pipeline.ask": PipelineConfig,
    "reranker.prp": RerankerConfig,
}
NAMED = {"pipeline.ask": BUILT_IN["ask"], "reranker.prp": BUILT_IN_RERANKERS["prp"]}
KEYS = [
    (table, field.name)
    for table, kind in TABLES.items()
    for field in fields(kind)
    if f"{table}.{field.name}" not in TABLES
]
READ_BY = {
    f"reranker.prp.{key}": f"reranker.{kind}"
    for kind in ("icr", "setwise", "listwise")
    for key in BUILT_IN_RERANKERS[kind].keys
    if key not in BUILT_IN_RERANKERS["prp"].keys
}
"""The reranker that reads a key where prp does not."""
WEIGHTS = {f"selection.weights.{field.name}": 0.05 for field in fields(Weights)}

# A value for each key that no built-in default has.
OTHER: dict[str, Any] = {
    "model": "e5", "device": "cuda:1", "dtype": "bfloat16", "threads": 3, "batch_size": 7, "trust_remote_code": True,
    "chunking": "headings", "chunk_tokens": 99, "chunk_overlap": 9, "duplicates": "skip", "k1": 1.2, "b": 0.75,
    "java_heap_mb": 512, "vectors": "hnsw", "exact_up_to": 9, "hnsw_m": 16, "hnsw_ef_construction": 99,
    "hnsw_ef_search": 99, "ivf_lists": 9, "ivf_probes": 9, "pq_bytes": 32, "verify": False,
    "chunk_cache_mb": 9, "base_url": "http://engine/v1", "api_key_env": "MY_KEY", "timeout": 9.5, "max_tokens": 99,
    "temperature": 0.5, "host": "0.0.0.0", "port": 9999, "workers": 9, "queue": 9, "max_wait_ms": 9.0,
    "processes": 9, "published": "10.0.0.1", "arrival_seconds": 9.0, "unready_ms": 9.0, "drain_seconds": 9.0,
    "max_body_mb": 9, "max_documents": 9, "retrieve": ("bm25",), "fuse": "zscore", "weights": (0.25, 0.75),
    "depth": 99, "alpha": 0.25,
    "rerank": "none", "rerank_model": "some/model", "rerank_depth": 9, "select": "mmr", "mmr_lambda": 0.25,
    "order": "document", "k": 9, "budget": 99, "generate": "remote",
    "running": 9, "at_once": 9, "slice_ms": 9.5, "queued": 9, "folders": ("/srv/papers",), "max_upload_mb": 9,
    "max_files": 9, "min_free_mb": 9, "keep_days": 9.5, "keep": 9, "read_ahead": False,
    "deadline_ms": 9.5, "open": True, "open_metrics": True, "origins": ("https://a.example",),
    "rerank_deadline_ms": 9.5, "rerank_max_prefill_tokens": 9, "max_rerank_documents": 9, "max_rerank_chars": 9,
    "name": "lexical", "kind": "icr", "heads": "some-heads", "late": "QA", "best_last": False, "sort": "sliding",
    "group": 9, "window": 15, "stride": 9, "first_stage": 0.25,
    "passage_tokens": 99,
    "store": "memory", "redis_url": "redis://other", "redis_cluster": True, "redis_reads": 9, "redis_timeout": 9.5,
    "redis_pause": 9.5, "ttl": 9.5, "directory": "/states", "disk_mb": 9, "memory_mb": 9, "scheme": "int8",
    "loading": "always", "prefix_order": True, "gate_kl": 0.5, "gate_nll": 0.5, "gate_agreement": 0.5, "gate_tau": 0.5,
    "gate_overlap": 0.5, "variants": 9,
    "hmac_key_env": "MY_SEAL", "tenant_env": "MY_TENANT",
    "mode": "link-16", "warm": True, "reuse": "blend-0.2",
    "top_p": 0.5, "seed": 9, "stop": ("END",), "rows": 9,
    "log": "json", "log_level": "error", "log_queries": True, "tracing": True,
    "most": 9, "evaluations": 99, "milliseconds": 9.5, "model_tokens": 99, "similarity": "encoder", "ordered": True,
    "reranker": "icr", "unknown_models": "default", "max_inputs": 9, "chat_turns": 9, "mcp_tokens": 999,
}  # fmt: skip


def loaded(text: str, tmp_path: Path, environ: dict[str, str] | None = None, home: Path | None = None) -> Settings:
    path = tmp_path / "kvasir.toml"
    path.write_text(text)
    return load_settings(path, home=home, environ=environ or {})


# --- precedence ---


def test_defaults_hold_without_file_and_environment(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path, environ={}) == Settings(home=tmp_path)


def test_environment_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    text = "default_pipeline = 'dense'\n[server]\nport = 1\nworkers = 2\n"
    settings = loaded(text, tmp_path, {"KVASIR_SERVER__PORT": "3"})
    assert (settings.server.port, settings.server.workers, settings.server.queue) == (3, 2, ServerConfig().queue)
    assert settings.default_pipeline == "dense"
    assert loaded(text, tmp_path, {"KVASIR_DEFAULT_PIPELINE": "bm25"}).default_pipeline == "bm25"


def test_a_request_s_overrides_win_over_all(tmp_path: Path) -> None:
    settings = loaded("[pipeline.hybrid]\ndepth = 5\nk = 3\n", tmp_path, {"KVASIR_PIPELINE__HYBRID__K": "4"})
    assert (settings.pipeline().depth, settings.pipeline().k) == (5, 4)
    assert settings.pipeline(overrides={"k": 2}).k == 2
    assert settings.pipeline().k == 4


def test_home_is_the_call_s_then_the_environment_s_then_the_file_s(tmp_path: Path) -> None:
    text, environ = "home = '/from/file'\n", {"KVASIR_HOME": "/from/environment"}
    assert loaded(text, tmp_path, environ, Path("/from/call")).home == Path("/from/call")
    assert loaded(text, tmp_path, {}, Path("/from/call")).home == Path("/from/call")
    assert loaded(text, tmp_path, environ).home == Path("/from/environment")
    assert loaded(text, tmp_path).home == Path("/from/file")
    assert loaded("", tmp_path).home == Path("~/.kvasir")


def test_the_file_is_the_call_s_then_the_environment_s_then_the_home_s(tmp_path: Path) -> None:
    home, other, third = tmp_path / "home", tmp_path / "other.toml", tmp_path / "third.toml"
    home.mkdir()
    for path, port in ((home / "kvasir.toml", 1), (other, 2), (third, 3)):
        path.write_text(f"[server]\nport = {port}\n")
    environ = {"KVASIR_CONFIG": str(other)}
    assert load_settings(home=home, environ={}).server.port == 1
    assert load_settings(home=home, environ=environ).server.port == 2
    assert load_settings(third, home=home, environ=environ).server.port == 3


def test_a_pipeline_of_ones_own_starts_from_the_defaults_and_a_built_in_from_itself(tmp_path: Path) -> None:
    settings = loaded("[pipeline.mine]\nk = 3\n[pipeline.ask]\nk = 3\n", tmp_path)
    assert settings.pipeline("mine") == PipelineConfig(k=3)
    assert settings.pipeline("ask").rerank == BUILT_IN["ask"].rerank == "sentences"


# --- every key ---


def test_every_key_has_a_value_to_be_tested_with() -> None:
    assert {key for table, key in KEYS if f"{table}.{key}" not in WEIGHTS} == set(OTHER)


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_key_can_be_set_by_the_environment(table: str, key: str) -> None:
    table = READ_BY.get(f"{table}.{key}", table)
    value = WEIGHTS.get(f"{table}.{key}") or OTHER[key]
    text = str(value).lower() if isinstance(value, bool) else str(list(value) if isinstance(value, tuple) else value)
    name = f"KVASIR_{table}.{key}".upper().replace(".", "__")
    room = {"KVASIR_SELECTION__WEIGHTS__RELEVANCE": "0.05"} if f"{table}.{key}" in WEIGHTS else {}
    settings = load_settings(environ={**room, name: text})
    kind, _, named = table.partition(".")
    several = kind in ("pipeline", "reranker")
    section = getattr(settings, f"{kind}s")[named] if several else attrgetter(table)(settings)
    assert getattr(section, key) == value
    before = NAMED.get(table) or (BUILT_IN_RERANKERS[named] if kind == "reranker" else TABLES[table]())
    assert value != getattr(before, key)


@pytest.mark.parametrize("key", ["default_pipeline", "answer_pipeline"])
def test_every_top_level_key_can_be_set_by_the_environment(key: str) -> None:
    assert getattr(load_settings(environ={f"KVASIR_{key.upper()}": "bm25"}), key) == "bm25"


def test_the_rest_of_the_top_level_can_be_set_by_the_environment() -> None:
    settings = load_settings(environ={"KVASIR_MAX_QUERY_CHARS": "99", "KVASIR_REDIS_URL": "redis://r"})
    assert (settings.max_query_chars, settings.redis_url) == (99, "redis://r")


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_key_is_explained_in_its_table_s_docstring(table: str, key: str) -> None:
    assert re.search(rf"(?<![\w-]){key}(?![\w-])", TABLES[table].__doc__ or "")


# --- refusals ---


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"servr": {}}, "unknown key 'servr'; did you mean 'server'"),
        ({"server": {"prot": 1}}, "unknown key 'server.prot'; did you mean 'port'"),
        ({"pipeline": {"hybrid": {"dept": 1}}}, "unknown key 'pipeline.hybrid.dept'; did you mean 'depth'"),
        ({"zzz": 1}, "unknown key 'zzz'; known: answer_pipeline"),
        ({"pipelines": {}}, "unknown key 'pipelines'"),
        ({"server": {"port": "80"}}, "server.port = '80'; it takes a whole number"),
        ({"server": {"port": 80.5}}, "server.port = 80.5; it takes a whole number"),
        ({"server": {"port": True}}, "server.port = True; it takes a whole number"),
        ({"index": {"k1": "much"}}, "index.k1 = 'much'; it takes a number"),
        ({"index": {"verify": 1}}, "index.verify = 1; it takes true or false"),
        ({"encoder": {"model": 7}}, "encoder.model = 7; it takes a string"),
        ({"home": 7}, "home = 7; it takes a path"),
        ({"server": 7}, r"server = 7 is no table; write \[server\]"),
        ({"pipeline": 7}, "pipelines are tables"),
        ({"pipeline": {"mine": 7}}, r"pipeline.mine = 7 is no table; write \[pipeline.mine\]"),
        ({"pipeline": {"mine": {"fuse": "rff"}}}, "pipeline.mine.fuse = 'rff'; did you mean 'rrf'"),
        ({"pipeline": {"mine": {"fuse": ["rrf"]}}}, r"pipeline.mine.fuse = \['rrf'\]"),
        ({"pipeline": {"mine": {"retrieve": ["bm25", "dens"]}}}, "did you mean 'dense'"),
        ({"pipeline": {"mine": {"retrieve": []}}}, "name at least one retriever"),
        ({"pipeline": {"mine": {"retrieve": ["bm25", "bm25"]}}}, "each once"),
        ({"pipeline": {"mine": {"retrieve": 7}}}, "it takes a list"),
        ({"pipeline": {"mine": {"weights": [1.0]}}}, "1 weights for 2 retrievers"),
        ({"pipeline": {"mine": {"weights": [0, 0]}}}, "not all 0"),
        ({"pipeline": {"mine": {"weights": [-1, 2]}}}, "weights are at least 0"),
        ({"pipeline": {"mine": {"weights": [float("nan"), 2.0]}}}, "weights are at least 0"),
        ({"pipeline": {"mine": {"k": 0}}}, "k = 0; it lies between 1 and 10000"),
        ({"pipeline": {"mine": {"depth": 10_001}}}, "depth = 10001; it lies between 1 and 10000"),
        ({"pipeline": {"mine": {"budget": -1}}}, "budget = -1; it lies between 0 and 1000000"),
        ({"pipeline": {"mine": {"alpha": 1.1}}}, "alpha = 1.1; it lies between 0 and 1"),
        ({"pipeline": {"mine": {"alpha": float("nan")}}}, "alpha = nan"),
        ({"pipeline": {"mine": {"mmr_lambda": -0.1}}}, "mmr_lambda = -0.1"),
        ({"pipeline": {"mine": {"rerank": "cross-encoder"}}}, "needs rerank_model"),
        ({"pipeline": {"mine": {"rerank": "sentence"}}}, "no reranker 'sentence'; did you mean 'sentences'"),
        ({"pipeline": {"mine": {"rerank": ["icr"]}}}, "it takes a string"),
        (
            {"model": {"name": ""}, "pipeline": {"mine": {"rerank": "icr"}}},
            r'\[model\] name = "PATH".*KVASIR_MODEL__NAME.*--model.*lexical',
        ),
        ({"pipeline": {"mine": {"rerank_deadline_ms": -1}}}, "rerank_deadline_ms = -1.0; it lies between 0"),
        ({"pipeline": {"mine": {"rerank_deadline_ms": float("nan")}}}, "rerank_deadline_ms = nan"),
        ({"pipeline": {"mine": {"rerank_max_prefill_tokens": -1}}}, "rerank_max_prefill_tokens = -1"),
        ({"model": {"nmae": "x"}}, "unknown key 'model.nmae'; did you mean 'name'"),
        ({"model": {"dtype": "float8"}}, "model.dtype = 'float8'; did you mean 'float"),
        ({"rerankr": {}}, "unknown key 'rerankr'; did you mean 'reranker'"),
        ({"rerankers": {}}, "unknown key 'rerankers'"),
        ({"reranker": 7}, "rerankers are tables"),
        ({"reranker": {"mine": 7}}, r"reranker.mine = 7 is no table; write \[reranker.mine\]"),
        ({"reranker": {"none": {}}}, 'no reranker can be called "none"'),
        ({"reranker": {"mine": {"kind": "ircr"}}}, "reranker.mine.kind = 'ircr'; did you mean 'icr'"),
        ({"reranker": {"mine": {"head": "all"}}}, "unknown key 'reranker.mine.head'; did you mean 'heads'"),
        ({"reranker": {"mine": {"sort": "heapsort"}}}, "a reranker of kind icr does not sort"),
        ({"reranker": {"prp": {"sort": "heapsrt"}}}, "sort = 'heapsrt'; did you mean 'heapsort'"),
        ({"reranker": {"setwise": {"sort": "allpair"}}}, "known: heapsort, insertion, tourrank"),
        ({"reranker": {"setwise": {"group": 23}}}, "group = 23; it lies between 1 and 22"),
        ({"reranker": {"listwise": {"window": 21}}}, "window = 21; it lies between 2 and 20"),
        ({"reranker": {"listwise": {"stride": 20}}}, "stride = 20; it lies between 1 and 19"),
        ({"reranker": {"prp": {"k": 0}}}, "k = 0; it lies between 1 and 10000"),
        ({"reranker": {"icr": {"passage_tokens": -1}}}, "passage_tokens = -1"),
        ({"index": {"chunk_tokens": 32, "chunk_overlap": 32}}, "index.chunk_overlap = 32; it lies between 0 and 31"),
        ({"remote": {"base_url": "engine:8000"}}, "starts with http:// or https://"),
        ({"remote": {"temperature": float("nan")}}, "remote.temperature = nan"),
        ({"server": {"port": 65_536}}, "server.port = 65536; it lies between 0 and 65535"),
        ({"max_query_chars": 0}, "max_query_chars = 0"),
        ({"cache": {"store": "file"}}, "cache.store = 'file'; did you mean 'files'"),
        ({"cache": {"scheme": "int9"}}, "cache.scheme = 'int9'; did you mean 'int"),
        ({"cache": {"redis_url": "http://r"}}, "starts with redis://, rediss:// or unix://"),
        ({"cache": {"redis_timeout": 0}}, "cache.redis_timeout = 0"),
        ({"cache": {"ttl": -1}}, "cache.ttl = -1"),
        ({"cache": {"disk_mb": -1}}, "cache.disk_mb = -1"),
    ],
)
def test_refuses_with_the_value_the_rule_and_the_nearest_key(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        settings_from(raw)


def test_a_default_pipeline_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(PipelineNotFound, match="no pipeline 'hybird'; did you mean 'hybrid'"):
        settings_from({"default_pipeline": "hybird"})
    with pytest.raises(PipelineNotFound, match="no pipeline 'aks'; did you mean 'ask'"):
        settings_from({"answer_pipeline": "aks"})


def test_a_broken_file_is_named_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"kvasir.toml is not TOML: .*line 2"):
        loaded("[server]\nport = = 1\n", tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="there is no settings file"):
        load_settings(tmp_path / "none.toml", environ={})
    with pytest.raises(InvalidConfig, match=r"cannot be read \(Is a directory\)"):
        load_settings(tmp_path, environ={})
    (tmp_path / "latin.toml").write_bytes(b"home = '\xff'")
    with pytest.raises(InvalidConfig, match="is not TOML"):
        load_settings(tmp_path / "latin.toml", environ={})


def test_an_environment_key_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"unknown key 'server\.prot'; did you mean 'port'"):
        load_settings(environ={"KVASIR_SERVER__PROT": "1"})


def test_an_environment_key_of_what_the_file_says_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="server = 7 is no table, but KVASIR_SERVER__PORT sets a key of it"):
        loaded("server = 7\n", tmp_path, {"KVASIR_SERVER__PORT": "1"})


def test_other_programs_variables_are_left_alone() -> None:
    assert load_settings(environ={"PATH": "x", "KVASIRX__A": "1", "KVASIR_TEST_DATA": "x"}) == settings_from({})


# --- overrides ---


def test_overrides_read_as_toml_where_they_can() -> None:
    assert parse_overrides(["depth=200", "fuse = rrf", "weights=[1, 2.5]", "retrieve=['bm25']", "x=a=b"]) == {
        "depth": 200,
        "fuse": "rrf",
        "weights": [1, 2.5],
        "retrieve": ["bm25"],
        "x": "a=b",
    }


@pytest.mark.parametrize("text", ["depth", "=3", ""])
def test_an_override_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="sets nothing; write key=value"):
        parse_overrides([text])


def test_a_reranker_takes_the_pipeline_s_model_then_its_own_then_the_shared_one() -> None:
    raw = {"model": {"name": "shared"}, "reranker": {"own": {"kind": "prp", "model": "its-own"}, "plain": {}}}
    settings = settings_from(raw)
    assert settings.reranker("own", "pipeline-s").model == "pipeline-s"
    assert settings.reranker("own").model == "its-own"
    assert settings.reranker("plain").model == "shared"
    assert settings.reranker("plain").kind == RerankerConfig().kind == "icr"


def test_the_shared_language_model_is_no_cross_encoder() -> None:
    settings = settings_from({"model": {"name": "shared"}})
    with pytest.raises(InvalidConfig, match="needs rerank_model"):
        settings.reranker("cross-encoder")
    assert settings.reranker("cross-encoder", "ce").model == "ce"
    assert settings.reranker("sentences").model == ""


def test_a_reranker_of_every_kind_is_built_in() -> None:
    assert all(name == reranker.kind for name, reranker in settings_from({}).rerankers.items())
    assert len(BUILT_IN_RERANKERS) == 8


def test_an_unknown_reranker_in_an_override_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidConfig, match="no reranker 'cross-encodr'; did you mean 'cross-encoder'"):
        settings_from({}).pipeline("hybrid", {"rerank": "cross-encodr"})
    with pytest.raises(InvalidConfig, match=r"needs a language model.*lexical"):
        settings_from({"model": {"name": ""}}).pipeline("hybrid", {"rerank": "icr"})
    assert settings_from({}).reranker("icr").model == "embedded"
    assert settings_from({}).pipeline("hybrid", {"rerank": "icr", "rerank_model": "lexical"}).rerank == "icr"


def test_an_override_is_checked_as_the_file_is() -> None:
    settings = settings_from({})
    with pytest.raises(InvalidConfig, match=r"unknown key 'pipeline\.dept'; did you mean 'depth'"):
        settings.pipeline("hybrid", {"dept": 1})
    with pytest.raises(InvalidConfig, match="k = 0"):
        settings.pipeline("hybrid", {"k": 0})
    with pytest.raises(PipelineNotFound, match="no pipeline 'hybird'; did you mean 'hybrid'"):
        settings.pipeline("hybird")


def test_the_key_is_read_from_the_variable_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    remote = RemoteConfig(api_key_env="MY_KEY")
    assert remote.api_key == "s3cret"
    assert "s3cret" not in repr(remote)


# --- where states are kept ---


def test_states_are_kept_in_files_and_in_redis_where_a_url_is_set() -> None:
    assert settings_from({}).caching().store == "files"
    shared = settings_from({"redis_url": "redis://r"}).caching()
    assert (shared.store, shared.redis_url) == ("redis", "redis://r")
    own = settings_from({"redis_url": "redis://r", "cache": {"redis_url": "rediss://own"}}).caching()
    assert (own.store, own.redis_url) == ("redis", "rediss://own")
    assert settings_from({"redis_url": "redis://r", "cache": {"store": "files"}}).caching().store == "files"


def test_redis_without_a_url_is_refused_when_states_are_wanted() -> None:
    settings = settings_from({"cache": {"store": "redis"}})
    with pytest.raises(InvalidConfig, match="set KVASIR_REDIS_URL"):
        settings.caching()


def test_a_password_in_the_url_is_not_shown() -> None:
    assert "s3cret" not in repr(CacheConfig(redis_url="redis://user:s3cret@r"))


def test_a_seal_that_is_named_and_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_SEAL", raising=False)
    sealed = CacheConfig(hmac_key_env="MY_SEAL", tenant_env="MY_SEAL")
    for secret in ("hmac_key", "tenant"):
        with pytest.raises(InvalidConfig, match=f"cache.{secret}_env = 'MY_SEAL', and that variable is not set"):
            getattr(sealed, secret)
    monkeypatch.setenv("MY_SEAL", "s3cret")
    assert (sealed.hmac_key, sealed.tenant) == (b"s3cret", "s3cret")
    assert (CacheConfig().hmac_key, CacheConfig().tenant) == (b"", "")


@pytest.mark.parametrize("table", [{"cache": {"mode": "lnik-16"}}, {"reranker": {"prp": {"reuse": "lnik-16"}}}])
def test_a_cache_mode_that_is_none_is_refused_with_the_nearest(table: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="did you mean 'link'"):
        settings_from(table)


def test_weights_and_limits_of_selection_are_settings() -> None:
    raw = {"selection": {"evaluations": 50, "weights": {"bridge": 0.1, "likelihood": 0.1}}}
    chosen = settings_from(raw).selection
    assert (chosen.evaluations, chosen.weights.bridge, chosen.weights.likelihood) == (50, 0.1, 0.1)
    assert chosen.weights.coverage == Weights().coverage
    environ = {"KVASIR_SELECTION__WEIGHTS__TOKENS": "0.2"}
    assert load_settings(environ=environ).selection.weights.tokens == 0.2
    with pytest.raises(InvalidConfig, match="the benefits sum to"):
        settings_from({"selection": {"weights": {"likelihood": 0.5}}})
    with pytest.raises(InvalidConfig, match="one of them limits a search"):
        settings_from({"selection": {"evaluations": 0}})
    with pytest.raises(InvalidConfig, match=r"selection\.weights\.brige"):
        settings_from({"selection": {"weights": {"brige": 0.1}}})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"kind": "sentences", "heads": "all"},
            "mine.heads: a reranker of kind sentences does not read it; known: first_stage, kind",
        ),
        ({"kind": "prp", "group": 4}, "mine.group: a reranker of kind prp does not read it"),
        ({"kind": "listwise", "late": "QA"}, "mine.late: a reranker of kind listwise does not read it"),
        ({"sort": "heapsort"}, "sort = 'heapsort'; a reranker of kind icr does not sort"),
    ],
)
def test_a_key_that_its_kind_of_reranker_does_not_read_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(message)):
        settings_from({"reranker": {"mine": table}})


def test_every_kind_of_reranker_reads_its_own_keys() -> None:
    """Each key is read by some kind, and what a kind reads can be set."""
    read = set[str]()
    for kind in BUILT_IN_RERANKERS:
        chosen = BUILT_IN_RERANKERS[kind]
        given = {key: getattr(chosen, key) for key in chosen.keys}
        assert settings_from({"reranker": {kind: given}}).rerankers[kind] == chosen
        read.update(chosen.keys)
    assert read == {field.name for field in fields(RerankerConfig)}


def test_the_password_of_redis_may_stand_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss/word:1\n")
    given = {"KVASIR_REDIS_URL": "redis://kvasir@cache:6379/0", "KVASIR_REDIS_PASSWORD_FILE": str(secret)}
    chosen = load_settings(environ=given)
    assert chosen.redis_url == "redis://kvasir:p%40ss%2Fword%3A1@cache:6379/0"
    assert "p%40ss" not in repr(chosen)
    with pytest.raises(InvalidConfig, match="needs KVASIR_REDIS_URL as redis://USER@HOST"):
        load_settings(environ=given | {"KVASIR_REDIS_URL": "redis://cache:6379/0"})
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_settings(environ=given | {"KVASIR_REDIS_PASSWORD_FILE": str(tmp_path / "none")})
