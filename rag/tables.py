"""The tables of a settings file: frozen values, each key explained, checked on construction."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from rag.errors import InvalidConfig
from rag.runtime.packaged import EMBEDDED

MAX_K = 10_000
LEXICAL = "lexical"
"""The stand-in for a language model."""
MAX_DEADLINE_MS = 86_400_000.0
MAX_PREFILL = 10**9


Kind = Literal["sentences", "cross-encoder", "icr", "prp", "setwise", "listwise", "pointwise", "likelihood"]
Select = Literal["budget", "fill", "mmr", "greedy", "beam", "local", "mcts", "exact", "search"]
SORTS = {
    "prp": ("heapsort", "allpair", "sliding", "quickselect"),
    "setwise": ("insertion", "heapsort", "tourrank"),
}
"""How the kinds that sort can do it, the default first."""


CACHE_MODES = ("off", "auto", "full", "prefix", "independent", "ape", "link", "blend", "craft")
"""How cached states of passages are put together; a number may follow, as in link-16 (rag.kv.modes)."""


_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.\-\[\]:]+")


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InvalidConfig where the value is outside of [low, high] or no number."""
    if not low <= value <= high:
        raise InvalidConfig(f"{name} = {value}; it lies between {low} and {high}")


def cache_mode(name: str, value: str) -> None:
    """Raises InvalidConfig for a text that names no mode; its numbers are looked at where it is used."""
    if (kind := value.partition("-")[0]) not in CACHE_MODES:
        raise InvalidConfig(f"{name} = {value!r}{nearest(kind, CACHE_MODES)}; link-16 and blend-0.15 have a number")


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the one that was meant perhaps, and all there are."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    there = ", ".join(names)
    return f"; did you mean {close[0]!r}? (known: {there})" if close else f"; known: {there}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """One named pipeline. Every key can be overridden in a request.

    retrieve      bm25, dense, fast-forward: one, or several that are fused
    fuse          rrf, minmax, zscore or theoretical;  weights  one a retriever, [] means equal
    depth         candidates every retriever gives before fusion, and the largest k; the default, like fuse, weights
                  and alpha, was chosen on scifact's train questions
    alpha         share of BM25 in fast-forward
    rerank        none, or the name of a reranker: a built-in one is called as its kind, see [reranker.NAME]
    rerank_model  the reranker's model by hub name or local path, in place of the one it is configured with
    rerank_depth  how many are reranked; those below keep their order behind them
    rerank_deadline_ms, rerank_max_prefill_tokens  where a language model stops, 0 for no limit: the best order so far
                  is then the result, and says so
    select        the best set within the budget, see [selection]: search (greedy, beams, tree and local search
                  together), or one of them: greedy, beam, local, mcts, exact; or budget (fill: by rank while they
                  fit), mmr;  mmr_lambda  1.0 is relevance alone
    order         how selected chunks stand in the prompt: score, best-last or document
    k, budget     results of a search, and tokens of an answer's prompt, where the request names none: sources
                  with their separators, and the fixed words around them; not the question
    generate      extractive, local (the model of [model], table [generation]), or remote (an OpenAI-compatible engine,
                  table [remote])
    """

    retrieve: tuple[Literal["bm25", "dense", "fast-forward"], ...] = ("bm25", "dense")
    fuse: Literal["rrf", "minmax", "zscore", "theoretical"] = "minmax"
    weights: tuple[float, ...] = ()
    depth: int = 500
    alpha: float = 0.6
    rerank: str = "none"
    rerank_model: str = ""
    rerank_depth: int = 20
    rerank_deadline_ms: float = 0.0
    rerank_max_prefill_tokens: int = 0
    select: Select = "search"
    mmr_lambda: float = 0.7
    order: Literal["score", "best-last", "document"] = "score"
    k: int = 10
    budget: int = 1024
    generate: Literal["extractive", "local", "remote"] = "extractive"

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
            in_range(name, getattr(self, name), 1, MAX_K)
        in_range("budget", self.budget, 0, 1_000_000)
        in_range("alpha", self.alpha, 0, 1)
        in_range("mmr_lambda", self.mmr_lambda, 0, 1)
        in_range("rerank_deadline_ms", self.rerank_deadline_ms, 0, MAX_DEADLINE_MS)
        in_range("rerank_max_prefill_tokens", self.rerank_max_prefill_tokens, 0, MAX_PREFILL)


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
        in_range("encoder.threads", self.threads, 0, 1024)
        in_range("encoder.batch_size", self.batch_size, 1, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """[model] The language model that rerankers share.

    name    hub name or local path of a causal language model (Llama, Mistral, Qwen2, Qwen2.5, Qwen3); embedded, the
            small one that comes with Kvasir; lexical, a stand-in that compares words; empty for none
    device  auto (a GPU where there is one), cpu, cuda, cuda:1
    dtype   float32, bfloat16, float16 or auto (bfloat16 where the device computes it natively)
    trust_remote_code  run code that a model brings along
    """

    name: str = EMBEDDED
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: bool = False


_PROMPTS = ("model", "passage_tokens", "reuse")
_KEYS: dict[Kind, tuple[str, ...]] = {
    "sentences": (),
    "cross-encoder": ("model",),
    "icr": (*_PROMPTS, "heads", "late", "best_last"),
    "prp": (*_PROMPTS, "sort", "k"),
    "setwise": (*_PROMPTS, "sort", "k", "group"),
    "listwise": (*_PROMPTS, "window", "stride"),
    "pointwise": _PROMPTS,
    "likelihood": _PROMPTS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerConfig:
    """[reranker.NAME] A reranker; one of each kind is built in under the kind's name.

    kind   sentences (the text encoder over single sentences), cross-encoder, or by a language model: icr (attention),
           prp (pairs), setwise (groups), listwise (windows), pointwise (yes or no), likelihood (of the query)
    model  hub name or local path; empty is [model] name for the kinds with a language model
    heads  icr: auto (the set in the model's own directory, else all), all, the name of a published head set
           (kvasir models list), or a file (kvasir models heads)
    late   icr: IE (find information) or QA (answer a question), the instruction behind the passages
    best_last  icr: the best first-stage hit stands last, nearest to the question
    sort   prp: heapsort, allpair, sliding or quickselect; setwise: insertion, heapsort or tourrank; empty: the first
    k      prp, setwise: how many best are brought to the front;  group  setwise: passages compared with one other
    window, stride  listwise: passages of a prompt, and by how many the next window stands higher
    passage_tokens  tokens of a passage that a language model reads, 0 for the kind's default: icr 512, others 128
    first_stage  share of the first stage's score in the new one, both between 0 and 1; 0 leaves it out
    reuse  how cached states of passages are reused, in place of [cache] mode; off: they are not
    """

    kind: Kind = "icr"
    model: str = ""
    heads: str = "auto"
    late: Literal["IE", "QA"] = "IE"
    best_last: bool = True
    sort: str = ""
    k: int = 10
    group: int = 3
    window: int = 20
    stride: int = 10
    passage_tokens: int = 0
    first_stage: float = 0.0
    reuse: str = ""

    def __post_init__(self) -> None:
        if self.reuse:
            cache_mode("reuse", self.reuse)
        in_range("k", self.k, 1, MAX_K)
        in_range("group", self.group, 1, 22)
        in_range("window", self.window, 2, 20)
        in_range("stride", self.stride, 1, self.window - 1)
        in_range("passage_tokens", self.passage_tokens, 0, 100_000)
        in_range("first_stage", self.first_stage, 0, 1)
        if self.sort and self.sort not in SORTS.get(self.kind, ()):
            known = SORTS.get(self.kind)
            rule = nearest(self.sort, known) if known else f"; a reranker of kind {self.kind} does not sort"
            raise InvalidConfig(f"sort = {self.sort!r}{rule}")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that mean something for its kind."""
        return ("kind", "first_stage", *_KEYS[self.kind])

    @property
    def reads(self) -> bool:
        """True where a language model does the work."""
        return self.kind not in ("sentences", "cross-encoder")


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
        in_range("index.chunk_tokens", self.chunk_tokens, 8, 100_000)
        in_range("index.chunk_overlap", self.chunk_overlap, 0, self.chunk_tokens - 1)
        in_range("index.k1", self.k1, 0, 100)
        in_range("index.b", self.b, 0, 1)
        in_range("index.java_heap_mb", self.java_heap_mb, 64, 1_000_000)
        in_range("index.chunk_cache_mb", self.chunk_cache_mb, 0, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """[remote] An OpenAI-compatible engine for generation.

    base_url  up to and with /v1;  model  as the engine names it
    api_key_env  the environment variable that holds the key, never the key itself
    timeout   seconds until the next piece;  max_tokens, temperature  of an answer
    prefix_order  sources that an earlier prompt began with go first, for engines that keep states of what prompts begin
              with; where a pipeline's order is score, never against best-last or document
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    max_tokens: int = 512
    temperature: float = 0.0
    prefix_order: bool = False

    def __post_init__(self) -> None:
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise InvalidConfig(f"remote.base_url = {self.base_url!r}; it starts with http:// or https://")
        in_range("remote.timeout", self.timeout, 0.1, 3600)
        in_range("remote.max_tokens", self.max_tokens, 1, 1_000_000)
        in_range("remote.temperature", self.temperature, 0, 2)

    @property
    def api_key(self) -> str:
        return os.environ.get(self.api_key_env, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """[server] What ``kvasir serve`` listens on and takes in.

    host, port  the address; port 0 takes a free one
    workers  threads that do the work;  queue  requests that may wait for them, more are told to come back, and so are
    those that would wait longer than max_wait_ms, 0 for no such limit
    processes  how many share the work and the address, each with models and a Java machine of its own
    arrival_seconds  time a request may take to arrive whole, 0 for any time; uploads of jobs only have to keep coming
    unready_ms, drain_seconds  when the server is to end: how long /ready says so before new connections are refused,
    and the most that requests under way may take then
    max_body_mb, max_documents  the largest request, and the most documents in one
    max_rerank_documents, max_rerank_chars  passages of one request to rerank, and characters of all of them together
    log      a line a request on standard error: text, json or off;  log_level  debug, info, warning or error
    log_queries  lines hold the questions too;  tracing  send OpenTelemetry spans where OTEL_* says (extra: tracing)
    deadline_ms  time for a request that names none by X-Request-Deadline-Ms, and the most it can name; 0 for any time.
                 Where it is over, language models stop and the best so far is the answer
    rerank_deadline_ms  time for a reranker's language model, whatever pipeline or request allow, 0 for any time;
                 answers have ``timeout`` in [generation] and [remote]
    published    the address that stands for ``host`` where a container's port is published, "" where it is host itself:
                 on loopback no key is needed, and the names that the server is asked for as are checked
    open         without keys, listen beyond this machine all the same: whoever reaches the port may do everything
    open_metrics  /metrics needs no key
    origins      web pages that may call the server, as https://app.example.com; "*" for all. None: CORS is off
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 0
    queue: int = 256
    max_wait_ms: float = 10_000.0
    processes: int = 1
    arrival_seconds: float = 60.0
    unready_ms: float = 500.0
    drain_seconds: float = 30.0
    max_body_mb: int = 32
    max_documents: int = 10_000
    max_rerank_documents: int = 1000
    max_rerank_chars: int = 4_000_000
    log: Literal["text", "json", "off"] = "off"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_queries: bool = False
    tracing: bool = False
    deadline_ms: float = 0.0
    rerank_deadline_ms: float = 0.0
    published: str = ""
    open: bool = False
    open_metrics: bool = False
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        in_range("server.port", self.port, 0, 65535)
        in_range("server.workers", self.workers, 0, 256)
        in_range("server.queue", self.queue, 1, 100_000)
        in_range("server.max_wait_ms", self.max_wait_ms, 0, MAX_DEADLINE_MS)
        in_range("server.processes", self.processes, 1, 64)
        in_range("server.arrival_seconds", self.arrival_seconds, 0, 86_400)
        in_range("server.unready_ms", self.unready_ms, 0, 600_000)
        in_range("server.drain_seconds", self.drain_seconds, 0, 86_400)
        in_range("server.max_body_mb", self.max_body_mb, 1, 4096)
        in_range("server.max_documents", self.max_documents, 1, 1_000_000)
        in_range("server.max_rerank_documents", self.max_rerank_documents, 1, MAX_K)
        in_range("server.max_rerank_chars", self.max_rerank_chars, 1, 1_000_000_000)
        in_range("server.deadline_ms", self.deadline_ms, 0, MAX_DEADLINE_MS)
        in_range("server.rerank_deadline_ms", self.rerank_deadline_ms, 0, MAX_DEADLINE_MS)
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise InvalidConfig(f'server.origins: {origin!r} is none; write https://app.example.com, or "*"')

    @property
    def address(self) -> str:
        """Where others reach the server."""
        return self.published or self.host

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
BUILT_IN_RERANKERS: dict[str, RerankerConfig] = {kind: RerankerConfig(kind=kind) for kind in get_args(Kind)}
