"""The JSON of /v1/jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from api.schemas import Request
from rag.jobs.record import Job, Kind, Mode, State

Chunking = Literal["whole", "sentences", "headings"]


class FolderBody(Request):
    """A folder of the server that its settings let jobs read, by its path there or relative to one that is named."""

    folder: str


class SkippedEntry(Struct, frozen=True):
    """Something that could not be taken in: number ``n`` of the job's log, from 0."""

    n: int
    where: str
    why: str


class SkippedPage(Struct, frozen=True):
    """A page of a job's log; ``next`` is the ``after`` of the following one, null on the last."""

    skipped: list[SkippedEntry]
    next: int | None


class JobView(Struct, frozen=True, kw_only=True):
    """A job.

    source  files or rows that were sent, or a folder;  mode  add, or replace the collection's documents
    state   queued, running, done, failed or cancelled
    step    read, lucene, encode, ann (a new collection), add (to one that is there), warm (the language model reads)
    done, total  of the step, total null where only reading tells;  rate  of it a second
    eta_seconds  until the step is done, null where that is not known
    skipped what could not be taken in: GET /v1/jobs/{id}/skipped says why
    version of the collection that was published, null before;  notes  what went less than well beside
    revision  counts the job's changes
    """

    id: str
    collection: str
    source: Kind
    mode: Mode
    state: State
    step: str
    done: int
    total: int | None
    rate: float
    eta_seconds: float | None
    skipped: int
    version: int | None
    error: str
    notes: list[str]
    created: str
    started: str | None
    finished: str | None
    revision: int


class JobList(Struct, frozen=True):
    """A page of jobs, the newest first; ``next`` is the ``before`` of the following page, null on the last."""

    jobs: list[JobView]
    next: str | None


def view_of(job: Job) -> JobView:
    left = None
    if job.state == "running" and job.total is not None and job.rate > 0:
        left = round(max(0, job.total - job.done) / job.rate, 1)
    return JobView(
        id=job.id,
        collection=job.collection,
        source=job.kind,
        mode=job.mode,
        state=job.state,
        step=job.step,
        done=job.done,
        total=job.total,
        rate=job.rate,
        eta_seconds=left,
        skipped=job.skipped,
        version=job.version,
        error=job.error,
        notes=list(job.notes),
        created=_when(job.created) or "",
        started=_when(job.started),
        finished=_when(job.finished),
        revision=job.revision,
    )


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
