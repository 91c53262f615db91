"""A server that runs by itself, its keys, and everything it ever wrote: no secret is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from rag.keys import KeyFile
from tests.api.conftest import assert_problem

ENGINE_KEY = "sk-engine-7d1f0c9a"


@pytest.mark.skipif(os.name != "posix", reason="processes are told to end by signals")
def test_no_secret_is_ever_written(built_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(built_home, home)
    file = KeyFile(home)
    secret = file.create("good", "admin", rate="500/min")[1]
    gone = file.create("gone", "admin")[1]
    file.revoke("gone")
    wrong = secret[:-4] + "AAAA"
    environ = os.environ | {
        "KVASIR_HOME": str(home),
        "KVASIR_SERVER__PORT": "0",
        "KVASIR_MODEL__NAME": "lexical",
        "KVASIR_REMOTE__BASE_URL": "http://127.0.0.1:9/v1",
        "KVASIR_REMOTE__MODEL": "m",
        "OPENAI_API_KEY": ENGINE_KEY,
    }
    log = tmp_path / "log"
    with log.open("w") as written:
        server = subprocess.Popen(
            [sys.executable, "-c", "from rag.cli import main; main()", "serve"],
            env=environ, stdout=written, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        try:
            url = _url(log, server)
            said = _everything_fails(url, secret, gone, wrong)
        finally:
            server.terminate()
            server.wait(60)
    text = log.read_text() + said
    assert "Kvasir listens on" in text
    for hidden in (secret, gone, wrong, ENGINE_KEY):
        for part in (hidden, hidden[-30:]):
            assert part not in text
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert secret.encode() not in content, path
            assert ENGINE_KEY.encode() not in content, path


def _url(log: Path, server: subprocess.Popen[bytes]) -> str:
    import re
    import time

    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def _everything_fails(url: str, secret: str, gone: str, wrong: str) -> str:
    """What the server answers on all the ways a request can fail."""
    said = []
    for key in (gone, wrong, "kv_", secret + "x"):
        headers = {"authorization": f"Bearer {key}", "x-api-key": wrong}
        answer = httpx.get(f"{url}/v1/collections", headers=headers, timeout=60)
        assert_problem(answer, 401)
        said.append(answer.text + str(answer.headers))
    good = {"authorization": f"Bearer {secret}", "x-api-key": secret}
    for method, path, content in (
        ("POST", "/v1/search", b"{"),
        ("POST", "/v1/search", b'{"collection": "nowhere", "query": "x"}'),
        ("POST", "/v1/search", b'{"collection": "demo", "query": ""}'),
        ("POST", "/v1/search", b'{"collection": "demo", "query": "light", "pipeline": "none"}'),
        ("POST", "/v1/answer", b'{"collection": "demo", "question": "light?", "pipeline": {"generate": "remote"}}'),
        ("POST", "/v1/collections", b'{"name": "..", "documents": [{"id": "a", "text": "b"}]}'),
        ("GET", "/v1/collections/x", b""),
        ("DELETE", "/v1/collections/x", b""),
        ("PATCH", "/v1/collections", b""),
        ("GET", "/v1/nothing", b""),
    ):
        answer = httpx.request(method, f"{url}{path}", content=content, headers=good, timeout=60)
        said.append(answer.text + str(answer.headers))
    return "\n".join(said)
