"""Keys: hashed, their owner's alone, crash-safe, and refused when they are unknown, revoked or expired."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rag.cli import app
from rag.errors import InvalidInput
from rag.keys import FILE, SCOPES, KeyFile, KeysDamaged, Rate, Ring, parse_rate


def test_a_key_is_found_by_its_secret_and_by_nothing_else(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, secret = file.create("one", "read", collections=["a", "b", "a"], rate="60/min", concurrency=4)
    other, _ = file.create("two", "admin", tenant="acme")
    ring = Ring(file)
    assert ring.refresh()
    assert ring.find(secret) == key
    assert key.collections == ("a", "b")
    for wrong in ("", "kv_", secret[:-1], secret + "x", secret.replace(key.id, other.id), secret.upper(), "é" * 60):
        assert ring.find(wrong) is None, wrong


def test_the_file_holds_the_hash_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key, secret = KeyFile(tmp_path).create("one", "read")
    finally:
        os.umask(before)
    content = (tmp_path / FILE).read_text()
    assert secret not in content
    assert secret.rpartition("_")[2] not in content
    assert hashlib.sha256(secret.encode()).hexdigest() in content
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert len(secret) == len(f"kv_{key.id}_") + 43  # 256 bits in base64 without padding


def test_what_a_scope_may_do_contains_what_those_below_may(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    keys = [file.create(scope, scope)[0] for scope in SCOPES]
    assert [[key.may(scope) for scope in SCOPES] for key in keys] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def asks(ring: Ring) -> bool:
    return ring.asked


def test_a_revoked_key_is_gone_at_the_next_look_and_the_doors_stay_shut(tmp_path: Path) -> None:
    file, ring = KeyFile(tmp_path), Ring(KeyFile(tmp_path))
    ring.refresh()
    assert not asks(ring)
    _, secret = file.create("one", "read")
    assert ring.refresh()
    assert asks(ring)
    assert ring.find(secret)
    assert not ring.refresh()
    file.revoke("one")
    ring.refresh()
    assert ring.find(secret) is None
    file.path.unlink()
    ring.refresh()
    assert asks(ring), "a file that vanished opens nothing"


def test_a_key_ends_when_it_expires(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, secret = file.create("one", "read", expires="90d")
    ring = Ring(file)
    ring.refresh()
    end = datetime.fromisoformat(key.expires)
    assert timedelta(days=89) < end - datetime.now(UTC) <= timedelta(days=90)
    assert ring.find(secret, end - timedelta(seconds=1))
    assert ring.find(secret, end) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version": 2, "keys": []}', b'{"version": 1, "keys": [{}]}', b"\xff"]
)
def test_a_damaged_file_lets_nobody_in_and_is_not_written_over(tmp_path: Path, content: bytes) -> None:
    file = KeyFile(tmp_path)
    _, secret = file.create("one", "read")
    ring = Ring(file)
    ring.refresh()
    file.path.write_bytes(content)
    ring.refresh()
    assert ring.trouble
    assert ring.find(secret) is None
    with pytest.raises(KeysDamaged, match="mend it"):
        file.create("two", "read")
    assert file.path.read_bytes() == content


def test_a_file_that_can_be_read_again_opens_the_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner or mode is set right: neither changes its content, size or time."""
    file = KeyFile(tmp_path)
    _, secret = file.create("one", "read")
    ring, readable = Ring(file), Path.read_bytes

    def refuses(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuses)
    ring.refresh()
    assert ring.trouble
    assert ring.find(secret) is None
    monkeypatch.setattr(Path, "read_bytes", readable)
    ring.refresh()
    assert (ring.trouble, ring.find(secret) is not None) == ("", True)
    assert not ring.refresh(), "once it was read it is only looked at"


def test_keys_made_at_once_are_all_there(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: KeyFile(tmp_path).create(f"key-{n}", "read"), range(24)))
    assert {key.id for key in KeyFile(tmp_path).read()} == {key.id for key, _ in made}
    assert not list(tmp_path.glob(".keys*"))


def test_killed_while_writing_the_keys_before_stay(tmp_path: Path) -> None:
    """The writer dies between its temporary file and the rename."""
    _, secret = KeyFile(tmp_path).create("one", "read")
    program = (
        "import os, pathlib, sys\nfrom rag.keys import KeyFile\n"
        "pathlib.Path.replace = lambda *_: os._exit(9)\nKeyFile(pathlib.Path(sys.argv[1])).create('two', 'read')"
    )
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert died.returncode == 9
    ring = Ring(KeyFile(tmp_path))
    ring.refresh()
    assert ring.find(secret)
    assert KeyFile(tmp_path).create("three", "read")[0].name == "three"


def test_values_that_are_none_are_refused_with_the_rule(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.create("taken", "read")
    for match, wrong in (
        ("no collection name", {"collections": ["../x"]}),
        ("no collection named", {"collections": []}),
        ("no tenant name", {"tenant": "../other"}),
        ("60/min", {"rate": "60 a minute"}),
        ("60/min", {"rate": "0/s"}),
        ("0 .any number. and", {"concurrency": -1}),
        ("is past", {"expires": "2001-01-01"}),
        ("90d", {"expires": "soon"}),
    ):
        with pytest.raises(InvalidInput, match=match):
            file.create("new", "read", **wrong)
    with pytest.raises(InvalidInput, match="'my key' is no key name"):
        file.create("my key", "read")
    with pytest.raises(InvalidInput, match="choose another name"):
        file.create("taken", "read")
    with pytest.raises(InvalidInput, match="take one of read, write, admin"):
        file.create("new", "root")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"no key 'x' \(there: taken\)"):
        file.revoke("x")
    assert [key.name for key in file.read()] == ["taken"]


def test_rates_are_numbers_in_a_time() -> None:
    assert parse_rate("60/min") == Rate(60, 60)
    assert parse_rate("5/day") == Rate(5, 86_400)
    assert parse_rate("") is None


def test_the_commands_show_the_secret_once(tmp_path: Path) -> None:
    runner, home = CliRunner(), ["--home", str(tmp_path)]
    made = runner.invoke(app, ["keys", "create", "one", "--scope", "write", "--collections", "a,b", *home])
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    ring = Ring(KeyFile(tmp_path))
    ring.refresh()
    found = ring.find(secret)
    assert found is not None
    assert (found.scope, found.collections) == ("write", ("a", "b"))
    for arguments in (["list"], ["list", "--json"]):
        listed = runner.invoke(app, ["keys", *arguments, *home]).output
        assert "one" in listed
        assert secret not in listed
        assert found.hash not in listed
    assert runner.invoke(app, ["keys", "revoke", "one", *home]).output.startswith("revoked 'one'")
    assert "no keys" in runner.invoke(app, ["keys", "list", *home]).output
