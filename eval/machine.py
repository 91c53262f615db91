"""Where and how a figure was measured: hardware, commit, versions, command and memory, for a result file."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

MATTERING = (
    "kvasir",
    "pyserini",
    "faiss-cpu",
    "torch",
    "transformers",
    "sentence-transformers",
    "numpy",
    "ir-measures",
)
"""Packages whose version can change a figure."""


def hardware() -> str:
    """Processor, usable cores, memory, operating system and Python in one line."""
    return f"{_processor()}, {cores()} cores, {_memory()}, {platform.system()}, Python {platform.python_version()}"


def command() -> str:
    """The command line of this process, as one would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of what the figures depend on; what is not installed is left out."""
    found = {}
    for name in MATTERING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """The most resident memory this process has had, in MiB."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 2**10), 1)


def size_mb(folder: Path) -> float:
    """Size of all files below a folder, in MiB."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20, 3)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str | None:
    """The commit of the running code, ``-dirty`` appended where it was changed; None outside a git checkout."""
    git = shutil.which("git")
    root = Path(__file__).resolve().parent.parent
    if git is None or not (root / ".git").exists():
        return None
    head = _said_by(git, root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return f"{head}-dirty" if _said_by(git, root, "status", "--porcelain", "--untracked-files=no") else head


def _said_by(git: str, root: Path, *words: str) -> str | None:
    """What a git command prints, None where it fails."""
    done = subprocess.run([git, "-C", str(root), *words], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return "memory unknown"
    return f"{size / 2**30:.0f} GiB"
