"""What a job is and how far it is."""

from __future__ import annotations

import secrets
import time
from typing import Literal

from msgspec import Struct

State = Literal["queued", "running", "done", "failed", "cancelled"]
Mode = Literal["add", "replace"]
Kind = Literal["files", "rows", "folder"]
OVER: tuple[State, ...] = ("done", "failed", "cancelled")


class Job(Struct, frozen=True, kw_only=True):
    """One job. Times are seconds since 1970, None for what has not been.

    mode    add: documents are added, those whose id is there replaced; replace: the collection holds only these then
    kind    files that were sent, rows of JSONL that were sent, or a folder of the server
    step    read, lucene, encode and ann build; add extends; publish; warm has the language model read ahead
    done, total  of the step, total None where only reading tells;  rate  of it a second
    skipped what could not be taken in, see the log;  version  of the collection that was published, None before
    notes   what went less than well without stopping the job
    owner   id of the key that sent it;  revision  counts every change
    stalls  how often the server ended while it ran without getting further than ``mark``
    """

    id: str
    collection: str
    mode: Mode
    kind: Kind
    folder: str = ""
    chunking: str = ""
    owner: str = ""
    state: State = "queued"
    step: str = ""
    done: int = 0
    total: int | None = None
    rate: float = 0.0
    skipped: int = 0
    version: int | None = None
    error: str = ""
    notes: tuple[str, ...] = ()
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    revision: int = 0
    stalls: int = 0
    mark: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def source(self) -> str:
        """What the manifest of a version says that this job made."""
        return f"job:{self.id}"


def new_id(now: float | None = None) -> str:
    """Sorts by time of creation."""
    return f"{int((time.time() if now is None else now) * 1e3):011x}{secrets.token_hex(5)}"
