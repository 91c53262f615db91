"""/v1/jobs: send documents, see how far they are, stop them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from multipart import parse_options_header

from api.access import READ, WRITE
from api.account import account_of
from api.errors import InvalidBody, NotAllowed
from api.guard_origin import header
from api.jobs.events import events
from api.jobs.openapi import following, sending
from api.jobs.receiving import FOLDER_TYPE, digest_of, receive
from api.jobs.schemas import Chunking, JobList, JobView, SkippedEntry, SkippedPage, view_of
from api.openapi import documented
from api.service import JSON, Connection, Service, service_of
from indexes.narrow import NarrowHome
from rag.errors import CollectionNotFound
from rag.jobs.record import Job, new_id
from rag.jobs.spool import Spool, UploadTooLarge, check_space
from rag.jobs.store import JobNotFound, JobStore

_TOKEN = re.compile(r"[\x21-\x7e]{1,200}")
_STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@post(
    "/v1/jobs",
    status_code=202,
    opt=WRITE,
    request_max_body_size=None,  # counted on its way to the disk
    summary="Send documents as a job",
    description="Takes in files (multipart/form-data), JSONL (application/x-ndjson) or a folder of the server "
    "(application/json), and answers as soon as they are safe on the disk. The collection serves its last version "
    "until the job is done, then the new one. With `Idempotency-Key` the same request makes one job, however often it "
    "is sent.",
    operation_class=sending({202: (JobView,), 200: (JobView,)}),
)
async def create_job(
    request: Connection,
    collection: Annotated[str, QueryParameter(description="The collection; made where it is not there")],
    mode: Annotated[
        Literal["add", "replace"], QueryParameter(description="replace: it holds only these documents then")
    ] = "add",
    chunking: Annotated[
        Chunking | None, QueryParameter(description="How documents of a new collection are cut")
    ] = None,
) -> ASGIResponse:
    service = service_of(request)
    bounds, token, owner = service.engine.settings.jobs, _token(request), account_of(request.scope).key
    token = f"{owner}:{token}" if token else ""
    store = service.jobs.store(service.engine.home.root)
    name = await service.workers.run(lambda: _named(service, collection))
    _check_folder(request)
    _check_announced(request, store)
    await service.workers.run(lambda: store.check_room(token=token, most=bounds.queued))
    job_id = new_id()
    with service.receiving():
        kind, folder, spool = await receive(request, lambda: Spool(store.directory, job_id, bounds), bounds)
        job = Job(
            id=job_id, collection=name, mode=mode, kind=kind, folder=folder, chunking=chunking or "", owner=owner,
            created=time.time(),
        )  # fmt: skip
        content = spool.digest if spool is not None else ""
        digest = digest_of(name, mode, kind, folder, chunking or "", content)
        taken = await asyncio.shield(asyncio.to_thread(_taken, store, job, spool, digest, token, bounds.queued))
    service.jobs.wake()
    headers = {"location": f"/v1/jobs/{taken.id}"}
    seen = await service.workers.run(lambda: _seen(service, taken) or taken)
    body = msgspec.json.encode(view_of(seen))
    return ASGIResponse(body=body, media_type=JSON, status_code=202 if taken is job else 200, headers=headers)


@get(
    "/v1/jobs",
    opt=READ,
    summary="List the jobs",
    description="Jobs, the newest first.",
    operation_class=documented(None, {}, {200: (JobList,)}),
)
async def list_jobs(
    request: Connection,
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="Most jobs on the page")] = 100,
    before: Annotated[str, QueryParameter(description="Only jobs with a lower id")] = "",
) -> ASGIResponse:
    def listed() -> bytes:
        service = service_of(request)
        store = service.jobs.store(service.engine.home.root)
        found = store.newest(before=before, limit=limit + 1)
        seen = [view_of(job) for job in (_seen(service, job) for job in found[:limit]) if job is not None]
        return msgspec.json.encode(JobList(seen, found[limit - 1].id if len(found) > limit else None))

    return ASGIResponse(body=await service_of(request).workers.run(listed), media_type=JSON)


@get(
    "/v1/jobs/{job_id:str}",
    opt=READ,
    summary="Read a job",
    description="How far the job is.",
    operation_class=documented(None, {}, {200: (JobView,)}),
)
async def read_job(request: Connection, job_id: FromPath[str]) -> ASGIResponse:
    return await _shown(request, lambda store: _job(request, store, job_id))


@delete(
    "/v1/jobs/{job_id:str}",
    status_code=200,
    opt=WRITE,
    summary="Cancel a job",
    description="Has the job stop within a second; what the collection served stays. A job that is over stays what it "
    "is.",
    operation_class=documented(None, {}, {200: (JobView,)}),
)
async def cancel_job(request: Connection, job_id: FromPath[str]) -> ASGIResponse:
    def cancelled(store: JobStore) -> Job:
        _job(request, store, job_id)
        service_of(request).jobs.cancel(store, job_id)
        return _job(request, store, job_id)

    return await _shown(request, cancelled)


@get(
    "/v1/jobs/{job_id:str}/skipped",
    opt=READ,
    summary="What a job skipped",
    description="Files and documents that could not be taken in, and why.",
    operation_class=documented(None, {}, {200: (SkippedPage,)}),
)
async def list_skipped(
    request: Connection,
    job_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="Most entries on the page")] = 100,
    after: Annotated[int, QueryParameter(ge=-1, le=2**31, description="Only entries with a greater number")] = -1,
) -> ASGIResponse:
    def page() -> bytes:
        service = service_of(request)
        store = service.jobs.store(service.engine.home.root)
        _job(request, store, job_id)
        found = store.skipped(job_id, after=after, limit=limit + 1)
        entries = [SkippedEntry(n, one.where, one.why) for n, one in found[:limit]]
        return msgspec.json.encode(SkippedPage(entries, entries[-1].n if len(found) > limit else None))

    return ASGIResponse(body=await service_of(request).workers.run(page), media_type=JSON)


@get(
    "/v1/jobs/{job_id:str}/events",
    opt=READ,
    summary="Follow a job",
    description="Server-sent events: `progress` with the job whenever it has changed, `end` when it is over. Each "
    "event's id is the job's revision; with `Last-Event-ID` only what changed since comes.",
    operation_class=following(JobView),
)
async def follow_job(request: Connection, job_id: FromPath[str]) -> ASGIStreamingResponse:
    service = service_of(request)
    store = service.jobs.store(service.engine.home.root)
    last = header(request.scope["headers"], b"last-event-id")
    seen = int(last) if last.isascii() and last.isdigit() and len(last) < 18 else -1
    await service.workers.run(lambda: _job(request, store, job_id))
    whole: Service = request.app.state.service
    stream = events(lambda: _job(request, store, job_id), seen, lambda: whole.draining)
    return ASGIStreamingResponse(iterator=stream, media_type="text/event-stream", headers=_STREAM)


async def _shown(request: Connection, work: Callable[[JobStore], Job]) -> ASGIResponse:
    service = service_of(request)
    store = service.jobs.store(service.engine.home.root)
    body = await service.workers.run(lambda: msgspec.json.encode(view_of(work(store))))
    return ASGIResponse(body=body, media_type=JSON)


ROUTES = (create_job, list_jobs, read_job, cancel_job, list_skipped, follow_job)


def _taken(store: JobStore, job: Job, spool: Spool | None, digest: str, token: str, most: int) -> Job:
    """The job once it cannot be lost, or the one that the same request made before."""
    try:
        if spool is not None:
            spool.keep()
        taken = store.add(job, digest=digest, token=token, most=most)
    except BaseException:
        if spool is not None:
            spool.discard()
        raise
    if taken is not job and spool is not None:
        spool.discard()
    return taken


def _named(service: Service, collection: str) -> str:
    """The collection's own name. Raises CollectionNotFound for one the key may not use, InvalidInput for no name."""
    home = service.engine.home
    if isinstance(home, NarrowHome) and not home.sees(collection):
        raise home.hidden(collection)
    try:
        return home.resolve(collection).name
    except CollectionNotFound:
        home.directory(collection)
        return collection


def _job(request: Connection, store: JobStore, job_id: str) -> Job:
    job = _seen(service_of(request), store.get(job_id))
    if job is None:
        raise JobNotFound(f"no job {job_id[:80]!r}; GET /v1/jobs lists those there are")
    return job


def _seen(service: Service, job: Job) -> Job | None:
    """The job with its collection as the key may name it; None for one that it may not see."""
    home = service.engine.home
    if not isinstance(home, NarrowHome):
        return job
    name = home.shown(job.collection)
    return msgspec.structs.replace(job, collection=name) if name else None


def _token(request: Connection) -> str:
    token = header(request.scope["headers"], b"idempotency-key")
    if token and not _TOKEN.fullmatch(token):
        raise InvalidBody("Idempotency-Key takes 1 to 200 visible ASCII characters", "Idempotency-Key")
    return token


def _check_folder(request: Connection) -> None:
    """Raises NotAllowed where a folder is named by a key that may not: folders belong to no tenant."""
    key = service_of(request).key
    if key is None or parse_options_header(request.headers.get("content-type", ""))[0] != FOLDER_TYPE:
        return
    if key.tenant or not key.may("admin"):
        raise NotAllowed(
            "folders of the server are for keys of scope admin and of no tenant; send the documents, or ask whoever "
            "runs the server for such a key"
        )


def _check_announced(request: Connection, store: JobStore) -> None:
    """Raises UploadTooLarge, StorageFull where the body says that it is more than there is room for."""
    bounds = service_of(request).engine.settings.jobs
    length = header(request.scope["headers"], b"content-length")
    coming = int(length) if length.isascii() and length.isdigit() else 0
    if coming > (bounds.max_upload_mb + 1) * 2**20:
        raise UploadTooLarge(f"{coming} bytes; the limit is {bounds.max_upload_mb} MiB (jobs.max_upload_mb)")
    check_space(store.directory, bounds, coming)
