"""Redis that is down, dies, is slow, evicts, lies, wants a password or TLS, or is a cluster: always a real server."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from rag.errors import CacheUnavailable, InvalidConfig
from rag.kv.circuit import Circuit
from rag.kv.key import chunk_key
from rag.kv.redis import RedisStore
from rag.kv.segments import PIECE_BYTES
from rag.kv.store import Value
from tests.rag.kv.chunks import FINGERPRINT, value
from tests.redis_server import RedisServer, free_port

KEYS = [chunk_key([n], FINGERPRINT) for n in range(1, 60)]
LARGE = 2 * PIECE_BYTES + 1000


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    shared.raw().flushall()
    return shared


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    opened = RedisStore(server.url, timeout=10)
    yield opened
    opened.close()


# --- what stands in the server ---


def test_a_value_stands_as_it_is_and_a_large_one_in_pieces_of_one_slot(server: RedisServer, store: RedisStore) -> None:
    store.put(KEYS[0], value(1))
    store.put(KEYS[1], value(2, LARGE))
    raw = server.raw()
    assert raw.get(KEYS[0]) == value(1)
    names = sorted(name.decode() for name in raw.keys("*"))
    assert names == sorted([KEYS[0], KEYS[1], f"{KEYS[1]}:s1", f"{KEYS[1]}:s2"])
    assert max(raw.strlen(name) for name in names) == PIECE_BYTES
    assert store.stats().nbytes == sum(raw.strlen(name) for name in names)
    assert store.delete([KEYS[1]]) == 1
    assert raw.keys("*") == [KEYS[0].encode()]


def test_values_live_for_their_time(server: RedisServer) -> None:
    store = RedisStore(server.url, ttl=100)
    store.put(KEYS[0], value(1))
    store.put(KEYS[1], value(2, LARGE))
    raw = server.raw()
    assert all(99_000 < raw.pttl(name) <= 100_000 for name in raw.keys("*"))
    brief = RedisStore(server.url, ttl=0.05)
    brief.put(KEYS[2], value(3))
    time.sleep(0.1)
    assert brief.get(KEYS[2]) is None


@pytest.mark.parametrize("gone", ["", ":s1", ":s2"])
def test_a_value_with_a_piece_gone_is_a_miss_and_its_rest_is_deleted(
    server: RedisServer, store: RedisStore, gone: str
) -> None:
    store.put(KEYS[0], value(1, LARGE))
    server.raw().delete(KEYS[0] + gone)
    assert not store.contains(KEYS[0])
    assert store.get(KEYS[0]) is None
    if gone:
        assert server.raw().keys("*") == []
    assert store.put(KEYS[0], value(2, LARGE))
    assert bytes(store.get(KEYS[0]) or b"") == value(2, LARGE)


def test_pieces_that_nobody_knows_of_are_deleted_too(server: RedisServer, store: RedisStore) -> None:
    store.put(KEYS[0], value(1, LARGE))
    server.raw().delete(KEYS[0])
    store.delete([KEYS[0]])
    assert server.raw().keys("*") == []


def test_pieces_of_two_writers_are_a_miss(server: RedisServer, store: RedisStore) -> None:
    store.put(KEYS[0], value(1, LARGE))
    first = server.raw().get(f"{KEYS[0]}:s1")
    store.delete([KEYS[0]])
    store.put(KEYS[0], value(1, LARGE))
    server.raw().set(f"{KEYS[0]}:s1", first)
    assert store.get(KEYS[0]) is None
    assert "do not fit each other" in store.stats().trouble


def test_of_two_that_write_a_large_value_at_once_the_last_is_read(server: RedisServer, store: RedisStore) -> None:
    class Interrupted(RedisStore):
        def _set(self, client: Any, name: str, piece: Value, nx: bool = False) -> None:
            if name.endswith(":s1"):
                store.put(KEYS[0], value(1, LARGE))
            super()._set(client, name, piece, nx)

    assert Interrupted(server.url, timeout=10).put(KEYS[0], value(2, LARGE))
    assert bytes(store.get(KEYS[0]) or b"") == value(2, LARGE)


def test_other_names_in_the_server_are_left_alone(server: RedisServer, store: RedisStore) -> None:
    server.raw().set("session:1", "x")
    store.put(KEYS[0], value(1))
    assert list(store.keys()) == [KEYS[0]]
    assert store.stats().entries == 1


# --- a server that does not answer ---


def test_a_server_that_is_down_costs_one_try_an_interval_and_is_found_when_it_comes() -> None:
    now = [0.0]
    port = free_port()
    store = RedisStore(f"redis://127.0.0.1:{port}/0", circuit=Circuit(5.0, lambda: now[0]))
    with pytest.raises(CacheUnavailable, match="Redis does not answer"):
        store.get(KEYS[0])
    with RedisServer(port=port):
        with pytest.raises(CacheUnavailable, match="left alone"):
            store.put(KEYS[0], value(1))
        now[0] = 5.0
        assert store.put(KEYS[0], value(1))
        assert bytes(store.get(KEYS[0]) or b"") == value(1)
        stats = store.stats()
        assert (stats.errors, stats.hits) == (2, 1)
        assert store.circuit.state == "closed"


def test_a_server_that_started_again_is_spoken_to_at_once(own: RedisServer) -> None:
    store = RedisStore(own.url)
    store.put(KEYS[0], value(1))
    own.stop()
    own.start()
    assert store.get(KEYS[0]) is None
    assert store.put(KEYS[0], value(1))


def test_a_slow_server_costs_one_timeout(own: RedisServer) -> None:
    store = RedisStore(own.url, timeout=0.2, interval=60)
    store.put(KEYS[0], value(1))
    own.raw().execute_command("CLIENT", "PAUSE", "1500")
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(CacheUnavailable):
            store.get(KEYS[0])
    assert 0.15 < time.monotonic() - started < 1.2
    assert "imeout" in store.circuit.trouble


def test_a_server_that_sleeps_comes_back_without_a_mixed_up_answer(own: RedisServer) -> None:
    store = RedisStore(own.url, timeout=0.1, interval=0.0)
    for n in range(3):
        store.put(KEYS[n], value(n, 1000))
    threading.Thread(target=lambda: own.raw().execute_command("DEBUG", "SLEEP", "0.5"), daemon=True).start()
    failed, until = 0, time.monotonic() + 1.5
    while time.monotonic() < until:
        for n in range(3):
            try:
                assert bytes(store.get(KEYS[n]) or b"") == value(n, 1000)
            except CacheUnavailable:
                failed += 1
    assert failed > 0
    assert bytes(store.get(KEYS[2]) or b"") == value(2, 1000)


@pytest.mark.parametrize("what", ["get", "put"])
def test_a_server_that_dies_within_a_request_does_not_answer(own: RedisServer, what: str) -> None:
    """A proxy lets half of the bytes through; then the server is killed."""
    RedisStore(own.url).put(KEYS[0], value(1, 4_000_000))
    with Proxy(own.port, limit=2_000_000, cut=own.stop) as proxy:
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}/0", timeout=5)
        with pytest.raises(CacheUnavailable, match="Redis does not answer"):
            store.get(KEYS[0]) if what == "get" else store.put(KEYS[1], value(2, 4_000_000))
        assert store.circuit.state == "open"


def test_only_so_many_large_reads_run_at_once(own: RedisServer) -> None:
    store = RedisStore(own.url, timeout=0.3, reads=1, interval=0)
    store.put(KEYS[0], value(1))
    said = []

    def ask() -> None:
        try:
            store.get(KEYS[0])
        except CacheUnavailable as error:
            said.append(str(error))

    own.raw().execute_command("CLIENT", "PAUSE", "800")
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any("busy with other reads" in one for one in said)
    time.sleep(0.6)
    assert bytes(store.get(KEYS[0]) or b"") == value(1)


# --- a server that will not ---


def test_under_maxmemory_no_half_value_is_ever_given(own: RedisServer) -> None:
    own.raw().config_set("maxmemory", "48mb")
    own.raw().config_set("maxmemory-policy", "allkeys-lfu")
    store = RedisStore(own.url, timeout=10)
    values = {key: value(n, LARGE if n % 2 else 3_000_000) for n, key in enumerate(KEYS[:14])}
    for turn in range(2):
        for key, stored in values.items():
            store.put(key, stored)
            for asked in (key, KEYS[turn]):
                found = store.get(asked)
                assert found is None or bytes(found) == values[asked]
    stats = store.stats()
    assert stats.misses > 0
    assert stats.nbytes < 48 * 2**20
    assert int(own.raw().info("stats")["evicted_keys"]) > 0


def test_a_full_server_refuses_values_and_goes_on_reading(own: RedisServer) -> None:
    store = RedisStore(own.url)
    store.put(KEYS[0], value(1))
    own.raw().config_set("maxmemory", "1mb")
    with pytest.raises(CacheUnavailable, match=r"Redis refuses .*(OOM|maxmemory)"):
        store.put(KEYS[1], value(2, 2_000_000))
    assert bytes(store.get(KEYS[0]) or b"") == value(1)
    assert store.circuit.state == "closed"


def test_what_is_no_string_under_our_name_does_not_answer(server: RedisServer, store: RedisStore) -> None:
    server.raw().lpush(KEYS[0], "x")
    with pytest.raises(CacheUnavailable, match="WRONGTYPE"):
        store.get(KEYS[0])
    assert store.get(KEYS[1]) is None
    assert store.delete([KEYS[0]]) == 1


def test_a_user_with_a_password_is_let_in_and_another_is_not(own: RedisServer) -> None:
    own.raw().execute_command("ACL", "SETUSER", "kvasir", "on", ">s3cret", "~kv1:*", "+@all")
    own.raw().execute_command("ACL", "SETUSER", "default", "off")
    store = RedisStore(f"redis://kvasir:s3cret@127.0.0.1:{own.port}/0")
    assert store.put(KEYS[0], value(1))
    assert bytes(store.get(KEYS[0]) or b"") == value(1)
    for who in ("", "kvasir:wrong@"):
        stranger = RedisStore(f"redis://{who}127.0.0.1:{own.port}/0")
        with pytest.raises(CacheUnavailable) as refused:
            stranger.get(KEYS[0])
        assert "wrong" not in str(refused.value)


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="write redis://HOST"):
        RedisStore("http://127.0.0.1")


def test_both_protocols_speak(server: RedisServer) -> None:
    for protocol in (2, 3):
        store = RedisStore(f"{server.url}?protocol={protocol}")
        store.put(KEYS[protocol], value(protocol, LARGE))
        found = store.get_many([KEYS[protocol], KEYS[0]])
        assert bytes(found[0] or b"") == value(protocol, LARGE)
        assert found[1] is None
        store.close()


# --- TLS and clusters ---


def test_tls_with_the_server_s_certificate_and_not_without(server: RedisServer, tmp_path: Path) -> None:
    """The server here may be built without TLS: a proxy in front of it speaks it."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    try:
        made = [*command, "-keyout", str(key), "-out", str(certificate), "-days", "2", *names]
        subprocess.run(made, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl here to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Proxy(server.port, context=context) as proxy:
        store = RedisStore(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificate}", timeout=10)
        assert store.put(KEYS[0], value(1, LARGE))
        assert bytes(store.get(KEYS[0]) or b"") == value(1, LARGE)
        store.close()
        stranger = RedisStore(f"rediss://127.0.0.1:{proxy.port}/0")
        with pytest.raises(CacheUnavailable, match="certificate"):
            stranger.get(KEYS[0])


def test_a_cluster_is_spoken_to_and_may_be_down_at_the_start() -> None:
    port = free_port() % 50_000 + 1_024  # its bus listens 10,000 above
    server = RedisServer("--cluster-enabled", "yes", port=port)
    store = RedisStore(server.url, cluster=True, timeout=5, interval=0)
    with pytest.raises(CacheUnavailable):
        store.get(KEYS[0])
    with server:
        raw = server.raw()
        raw.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        until = time.monotonic() + 10
        while raw.execute_command("CLUSTER INFO")["cluster_state"] != "ok" and time.monotonic() < until:
            time.sleep(0.05)
        for n in range(3):
            assert store.put(KEYS[n], value(n, LARGE if n == 2 else 1000))
        found = store.get_many(KEYS[:4])
        assert [one and bytes(one) for one in found] == [value(0, 1000), value(1, 1000), value(2, LARGE), None]
        assert sorted(store.keys()) == sorted(KEYS[:3])
        assert store.contains(KEYS[2])
        assert store.stats().entries == 3
        assert store.delete(KEYS[:4]) == 3
        assert raw.dbsize() == 0
        store.close()


class Proxy:
    """A port in front of another: with TLS, or cut off, with a callback, once so many bytes went either way."""

    def __init__(
        self, behind: int, *, context: ssl.SSLContext | None = None, limit: int = 0, cut: object = None
    ) -> None:
        self._behind, self._context, self._limit, self._cut = behind, context, limit, cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._passed = 0

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                near, _ = self._listener.accept()
                try:
                    if self._context:
                        near = self._context.wrap_socket(near, server_side=True)
                    far = socket.create_connection(("127.0.0.1", self._behind))
                except OSError:
                    near.close()
                    continue
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                self._passed += len(data)
                if self._limit and self._passed > self._limit:
                    assert callable(self._cut)
                    self._cut()
                    break
                other.sendall(data)
        except (OSError, RedisError):
            pass
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
