"""Where a figure was measured: the hardware and the commit, in words for a result file."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path


def hardware() -> str:
    """Processor, usable cores, memory, operating system and Python in one line."""
    return f"{_processor()}, {cores()} cores, {_memory()}, {platform.system()}, Python {platform.python_version()}"


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
