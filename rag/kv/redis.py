"""The tier that machines share: Redis over TCP, TLS or a unix socket, alone or as a cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Any, Concatenate, ParamSpec, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from rag.errors import BadCache, CacheUnavailable, InvalidConfig
from rag.kv import segments
from rag.kv.circuit import Circuit
from rag.kv.store import StoreStats, Tally, Value
from rag.kv.wire import fetch

P = ParamSpec("P")
T = TypeVar("T")
_DEAD = (RedisConnectionError, RedisTimeoutError, OSError, ClusterDownError, RedisClusterException)
_GENERATION = "generation:kv"
"""No name of a value begins so."""
_AT_ONCE = 8
"""Values asked for before the first is read."""


class RedisStore:
    """Values in Redis, which evicts by itself; set ``maxmemory`` and ``allkeys-lfu`` there, persistence off.

    url       redis://, rediss:// or unix://, with user and password (ACL), database, ssl_ca_certs, protocol
    cluster   the url is one of a Redis Cluster's nodes; a chunk's pieces share a slot
    ttl       seconds a value lives from its writing, None for ever
    timeout   seconds a connection, a request and each part of an answer may take
    reads     large reads at once, as Redis keeps whole answers in memory until they are taken
    interval  seconds that a server which did not answer is left alone
    """

    def __init__(
        self,
        url: str,
        *,
        cluster: bool = False,
        ttl: float | None = None,
        timeout: float = 2.0,
        reads: int = 8,
        interval: float = 5.0,
        circuit: Circuit | None = None,
    ) -> None:
        self.name, self.circuit = "redis", circuit or Circuit(interval)
        self._ttl = None if ttl is None else max(1, round(ttl * 1000))
        self._timeout, self._cluster, self._url = timeout, cluster, url
        self._reads, self._lock, self._tally = BoundedSemaphore(reads), Lock(), Tally()
        self._client: Any = None if cluster else self._connected()

    def get(self, key: str) -> Value | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[Value | None]:
        found: list[Value | None] = []
        with self._reading():
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                for key, first in zip(some, self._fetch(some), strict=True):
                    found.append(self._tally.found(self._whole(key, first)))
        return found

    def put(self, key: str, value: Value, cost: float = 1.0) -> bool:
        try:
            first, *rest = segments.split(value)
        except ValueError:
            self._tally.refused += 1
            return False
        names = segments.names(key, len(rest) + 1)
        if rest and self._call(lambda client: client.exists(key)):
            return True
        for name, piece in zip(names, rest, strict=True):
            self._call(self._set, name, piece)
        # Two that write one value in pieces at once: the last first piece wins, and is a miss if the rest are not its.
        self._call(self._set, key, first, nx=not rest)
        self._tally.puts += 1
        return True

    def delete(self, keys: Sequence[str]) -> int:
        there = 0
        once = list(dict.fromkeys(keys))
        for start in range(0, len(once), 100):
            there += sum(self._call(self._unlink, once[start : start + 100]))
        return there

    def contains(self, key: str) -> bool:
        head = self._call(lambda client: client.getrange(key, 0, 63))
        try:
            count = segments.pieces_of(head) if head else 0
        except BadCache:
            return False
        rest = segments.names(key, count)
        return count == 1 or (count > 1 and self._call(lambda client: client.exists(*rest)) == len(rest))

    def generation(self) -> bytes:
        found: bytes | None = self._call(lambda client: client.get(_GENERATION))
        return found or b""

    def outdate(self) -> None:
        self._call(lambda client: client.set(_GENERATION, os.urandom(16)))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (name for name in self._names(prefix) if not segments.is_piece(name))

    def stats(self) -> StoreStats:
        """Counters, and sizes of all values; scans the whole server."""
        names = self._names("")
        entries = sum(not segments.is_piece(name) for name in names)
        return self._tally.stats(self.name, entries, sum(self._call(self._lengths, names)))

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
            if self._cluster:
                client.disconnect_connection_pools()

    def _whole(self, key: str, first: Value | None) -> Value | None:
        """The value that begins so; what is left of a broken one is deleted."""
        if first is None:
            return None
        try:
            count = segments.pieces_of(first)
            return first if count == 1 else segments.join([first, *self._fetch(segments.names(key, count))])
        except BadCache as error:
            self._tally.trouble = str(error)
            self.delete([key])
            return None

    def _fetch(self, keys: Sequence[str]) -> list[Value | None]:
        if self._cluster:
            return self._call(lambda client: [client.get(key) for key in keys])

        def read(client: redis.Redis) -> list[Value | None]:
            connection = client.connection_pool.get_connection()
            try:
                return list(fetch(connection, keys))
            finally:
                client.connection_pool.release(connection)

        return self._call(read)

    def _names(self, prefix: str) -> list[str]:
        pattern = re.sub(r"([\[\]*?\\])", r"\\\1", prefix or "kv") + "*"
        found = self._call(lambda client: list(client.scan_iter(match=pattern, count=1000)))
        return list(dict.fromkeys(name.decode(errors="replace") for name in found))

    def _set(self, client: Any, name: str, piece: Value, nx: bool = False) -> None:
        client.set(name, piece, px=self._ttl, nx=nx)

    def _unlink(self, client: Any, keys: Sequence[str]) -> list[int]:
        """For every key 1 where it was there; pieces go too, those nobody knows of as well."""
        if self._cluster:  # its pipelines take one name a command
            for key in keys:
                client.unlink(*segments.names(key))
            return [int(client.unlink(key)) for key in keys]
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.unlink(key)
                pipeline.unlink(*segments.names(key))
            return list(pipeline.execute())[::2]

    @staticmethod
    def _lengths(client: Any, names: Sequence[str]) -> list[int]:
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.strlen(name)
            return list(pipeline.execute())

    def _connected(self) -> Any:
        options: dict[str, Any] = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
        }
        try:
            if not self._cluster:
                return redis.Redis.from_url(self._url, **{"protocol": 2, **options})
            return redis.RedisCluster.from_url(self._url, **{**options, "retry": Retry(NoBackoff(), 1)})
        except ValueError as error:
            raise InvalidConfig(f"the Redis URL cannot be read ({error}); write redis://HOST:PORT/0") from None

    def _call(self, work: Callable[Concatenate[Any, P], T], *args: P.args, **named: P.kwargs) -> T:
        """What the client gives. Raises CacheUnavailable; a connection that had died meanwhile is replaced once."""
        try:
            with self.circuit.call("Redis", _DEAD):
                with self._lock:
                    client = self._client = self._client or self._connected()
                try:
                    return work(client, *args, **named)
                except RedisConnectionError:
                    return work(client, *args, **named)
        except CacheUnavailable as error:
            self._tally.failed(str(error))
            raise
        except RedisError as error:  # it answers, but will not: no room, no permission
            self._tally.failed(f"{type(error).__name__}: {error}")
            raise CacheUnavailable(f"Redis refuses ({error})") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if not self._reads.acquire(timeout=self._timeout):
            self._tally.failed("too many reads at once")
            raise CacheUnavailable("Redis is busy with other reads; more can run at once with cache.redis_reads")
        try:
            yield
        finally:
            self._reads.release()
