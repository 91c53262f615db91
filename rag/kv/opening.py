"""From settings to a store: the one place where a store's name meets its class."""

from __future__ import annotations

from pathlib import Path

from rag.cache_table import CacheConfig
from rag.kv.disk import DiskStore
from rag.kv.memory import MemoryStore
from rag.kv.redis import RedisStore
from rag.kv.store import ChunkCacheStore
from rag.kv.tiered import TieredStore


def open_store(config: CacheConfig, home: Path) -> TieredStore | None:
    """The store that ``Settings.caching()`` names, memory in front of it; None where nothing is to be kept.

    Nothing is connected to and no directory made before the first call. Raises InvalidConfig for a URL that is none.
    """
    tiers: list[ChunkCacheStore] = []
    if config.memory_mb and config.store != "none":
        tiers.append(MemoryStore(config.memory_mb * 10**6))
    if config.store == "redis":
        tiers.append(
            RedisStore(
                config.redis_url,
                cluster=config.redis_cluster,
                ttl=config.ttl or None,
                timeout=config.redis_timeout,
                reads=config.redis_reads,
                interval=config.redis_pause,
            )
        )
    elif config.store in ("files", "auto"):
        directory = Path(config.directory).expanduser() if config.directory else home.expanduser() / "chunk_states"
        tiers.append(DiskStore(directory, config.disk_mb * 10**6))
    return TieredStore(tiers) if tiers else None
