"""An environment of its own for each group of clients, kept under the checkout until the group's list changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / ".venv-clients"
_SECONDS = 300
_STAMP = "requirements.hash"


def python_of(group: str) -> Path:
    """The Python of the group's environment, made now if it is not there. Skips the test where it cannot be made."""
    if trouble := ready(HERE / f"group_{group}.txt", KEPT / group):
        pytest.skip(trouble)
    return KEPT / group / "bin" / "python"


@cache
def ready(wanted: Path, place: Path) -> str:
    """Why there is no environment at ``place`` with what the file wants, "" where there is. Tried once a session."""
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    stamp = place / _STAMP
    place.parent.mkdir(exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if stamp.is_file() and stamp.read_text() == digest:
            return ""
        if trouble := _make(place, wanted):
            return trouble
        stamp.write_text(digest)
    return ""


def _make(place: Path, wanted: Path) -> str:
    """What went wrong, "" for nothing."""
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
            return f"the clients of {wanted.name} were not installed in {_SECONDS} s"
        if done.returncode:
            return f"the clients of {wanted.name} cannot be installed: {done.stderr.strip()[-500:]}"
    return ""
