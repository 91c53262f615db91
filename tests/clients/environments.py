"""An environment of its own for each group of clients, kept under the checkout until the group's list changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / ".venv-clients"
_SECONDS = 300
_STAMP = "requirements.hash"


def python_of(group: str) -> Path:
    """The Python of the group's environment, made now if it is not there. Skips the test where it cannot be made."""
    wanted = HERE / f"group_{group}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    place = KEPT / group
    KEPT.mkdir(exist_ok=True)
    with FileLock(KEPT / f"{group}.lock"):
        if _read(place / _STAMP) != digest:
            _make(place, wanted)
            (place / _STAMP).write_text(digest)
    return place / "bin" / "python"


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _make(place: Path, wanted: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    uv = [sys.executable, "-m", "uv"]
    steps = (
        [*uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [*uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), "-r", str(wanted)],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"the clients of {wanted.name} were not installed in {_SECONDS} s")
        if done.returncode:
            pytest.skip(f"the clients of {wanted.name} cannot be installed: {done.stderr.strip()[-500:]}")
