"""The [cache] table: where chunk states are kept, and how they are reused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from rag.errors import InvalidConfig
from rag.tables import cache_mode, in_range


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """[cache] Where the language model's key/value states of chunks are kept.

    mode    how rerankers and answers by the language model reuse them: off (all are read again), full or prefix (the
            model's own), independent, link-16, blend-0.15, ape, craft: the fewer tokens are computed again,
            the more the results differ from the model's own; auto: the cheapest of those that ``kvasir models
            calibrate`` measured on this model and that kept the bounds of the gate, else prefix (or full, where
            the scheme loses something and did not pass)
    gate_kl, gate_nll  the most a mode may change, nats a token: KL divergence of the next token, and how much less
            likely the full prefill's answers become
    gate_agreement, gate_tau, gate_overlap  the least it must keep: of most likely next tokens, Kendall's tau with the
            full prefill's ranking, and of its ten best. All five were reasoned, not tuned
    store   auto (redis where there is a Redis URL, files else), redis, files, memory or none
    redis_url  redis://, rediss:// (TLS) or unix://, with user and password; empty is KVASIR_REDIS_URL
    redis_cluster  the URL is one of a Redis Cluster's nodes;  redis_reads  large reads at once
    redis_timeout  seconds an answer may take;  redis_pause  seconds a server that did not answer is left alone
    ttl     seconds a value stays in Redis, 0 for as long as Redis keeps it
    directory  of the files, empty is chunk_states in the home directory;  disk_mb  the most they take
    memory_mb  the most that is kept in the process, in front of redis and files; 0 for nothing
    loading auto (what the model reads faster than the store gives it is read, by what both took of late), or always
    scheme  how states are stored: bf16, fp16, fp32, int8 (half of it) or int4 (a quarter, for models that allow it)
    variants  how many readings of a passage behind other passages mode craft keeps at most; 0 for none
    warm    passages of added documents are read at once, by the language model of the default pipeline's reranker
    hmac_key_env  the environment variable that holds a secret to seal values with; empty is no seal
    tenant_env    the environment variable that holds a secret of this tenant; who has another shares no entries
    """

    mode: str = "off"
    store: Literal["auto", "redis", "files", "memory", "none"] = "auto"
    redis_url: str = field(default="", repr=False)
    redis_cluster: bool = False
    redis_reads: int = 8
    redis_timeout: float = 2.0
    redis_pause: float = 5.0
    ttl: float = 0.0
    directory: str = ""
    disk_mb: int = 10_000
    memory_mb: int = 512
    gate_kl: float = 0.1
    gate_nll: float = 0.1
    gate_agreement: float = 0.9
    gate_tau: float = 0.7
    gate_overlap: float = 0.8
    loading: Literal["auto", "always"] = "auto"
    scheme: Literal["bf16", "fp16", "fp32", "int8", "int4"] = "bf16"
    variants: int = 3
    warm: bool = False
    hmac_key_env: str = ""
    tenant_env: str = ""

    def __post_init__(self) -> None:
        cache_mode("cache.mode", self.mode)
        if self.redis_url and not self.redis_url.startswith(("redis://", "rediss://", "unix://")):
            raise InvalidConfig("cache.redis_url starts with redis://, rediss:// or unix://")
        in_range("cache.redis_reads", self.redis_reads, 1, 1024)
        in_range("cache.redis_timeout", self.redis_timeout, 0.001, 3600)
        in_range("cache.redis_pause", self.redis_pause, 0, 86_400)
        in_range("cache.ttl", self.ttl, 0, 10 * 365 * 86_400)
        in_range("cache.gate_kl", self.gate_kl, 0, 1000)
        in_range("cache.gate_nll", self.gate_nll, 0, 1000)
        in_range("cache.gate_agreement", self.gate_agreement, 0, 1)
        in_range("cache.gate_tau", self.gate_tau, -1, 1)
        in_range("cache.gate_overlap", self.gate_overlap, 0, 1)
        in_range("cache.variants", self.variants, 0, 16)
        in_range("cache.disk_mb", self.disk_mb, 0, 1_000_000_000)
        in_range("cache.memory_mb", self.memory_mb, 0, 1_000_000_000)

    @property
    def hmac_key(self) -> bytes:
        """The secret. Raises InvalidConfig where the variable is named and not set: no slip leaves values unsealed."""
        return _secret("cache.hmac_key_env", self.hmac_key_env).encode()

    @property
    def tenant(self) -> str:
        """The tenant's salt. Raises InvalidConfig where the variable is named and not set."""
        return _secret("cache.tenant_env", self.tenant_env)


def _secret(key: str, variable: str) -> str:
    if variable and not os.environ.get(variable):
        raise InvalidConfig(f"{key} = {variable!r}, and that variable is not set; set it, or leave {key} empty")
    return os.environ.get(variable, "") if variable else ""
