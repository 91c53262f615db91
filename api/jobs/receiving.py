"""The body of POST /v1/jobs, from the connection to the disk; no more than a mebibyte of it is in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from litestar.exceptions import InternalServerException
from multipart import MultipartError, MultipartSegment, ParserError, PushMultipartParser, parse_options_header

from api import arrival
from api.bodies import decode, decoder
from api.errors import InvalidBody, MalformedBody
from api.jobs.schemas import FolderBody
from api.service import Connection
from rag.jobs.record import Kind
from rag.jobs.source import checked_folder
from rag.jobs.spool import Spool
from rag.jobs_table import JobsConfig
from rag.runtime.meter import Cancelled

_FOLDER = decoder(FolderBody)
ROWS_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines")
FILES_TYPE = "multipart/form-data"
FOLDER_TYPE = "application/json"
BODY = "body.jsonl"
"""What rows are called that come without a name."""
_PART = 2**20
_MAX_FOLDER_BODY = 65_536


class Sink(Protocol):
    def write(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class RowsSink:
    """The whole body is one JSONL file."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        spool.begin(BODY)

    def write(self, data: bytes) -> None:
        self._spool.write(data)

    def end(self) -> None:
        self._spool.end()


class FilesSink:
    """Every part with a file name is a file; other parts are refused."""

    def __init__(self, spool: Spool, boundary: str) -> None:
        self._spool = spool
        self._parser = PushMultipartParser(boundary, max_segment_count=spool.bounds.max_files + 1)

    def write(self, data: bytes) -> None:
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._spool.end()
                else:
                    self._spool.write(bytes(event))
        except (ParserError, MultipartError) as error:
            raise MalformedBody(f"the body is no multipart form ({error})") from error

    def end(self) -> None:
        try:
            self._parser.close()
        except (ParserError, MultipartError) as error:
            raise MalformedBody(f"the body broke off ({error})") from error
        if not self._spool.count:
            raise InvalidBody("the form holds no file; send each as a part with a file name", "files")

    def _begin(self, part: MultipartSegment) -> None:
        if not part.filename:
            raise InvalidBody(
                f"part {str(part.name)[:80]!r} is no file; what a job is for stands in the query: ?collection=NAME",
                str(part.name)[:80],
            )
        self._spool.begin(part.filename)


async def receive(
    request: Connection, spool: Callable[[], Spool], bounds: JobsConfig
) -> tuple[Kind, str, Spool | None]:
    """The kind of what was sent, the folder where it is one, and the spool that holds it where it is not.

    Raises InvalidBody, MalformedBody, UploadTooLarge, StorageFull; nothing is left on the disk then.
    """
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type == FOLDER_TYPE:
        return "folder", await _folder(request, bounds), None
    if media_type not in (FILES_TYPE, *ROWS_TYPES):
        raise InvalidBody(
            f"Content-Type {media_type[:80]!r}; send files as {FILES_TYPE}, JSONL as {ROWS_TYPES[0]}, or a folder's "
            "name as application/json",
            "Content-Type",
        )
    boundary = options.get("boundary", "")
    if media_type == FILES_TYPE and not 1 <= len(boundary) <= 200:
        raise MalformedBody("multipart/form-data without a boundary")
    place = await asyncio.to_thread(spool)
    try:
        sink: Sink = FilesSink(place, boundary) if media_type == FILES_TYPE else RowsSink(place)
        async for part in _parts(request):
            await asyncio.to_thread(sink.write, part)
        await asyncio.to_thread(sink.end)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(place.discard))
        raise
    return "files" if media_type == FILES_TYPE else "rows", "", place


async def _parts(request: Connection) -> AsyncIterator[bytes]:
    """The body in parts of about a mebibyte."""
    waiting = bytearray()
    async for chunk in _chunks(request):
        waiting += chunk
        if len(waiting) >= _PART:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _chunks(request: Connection) -> AsyncIterator[bytes]:
    """The body as it comes. Raises InvalidBody where nothing comes for long, Cancelled where the client left."""
    chunks = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks, None), arrival.REST_SECONDS)
        except InternalServerException:
            raise Cancelled("the client went away") from None
        except TimeoutError:
            raise InvalidBody(f"nothing of the body came for {arrival.REST_SECONDS:g} seconds; send it again") from None
        if chunk is None:
            return
        yield chunk


async def _folder(request: Connection, bounds: JobsConfig) -> str:
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        if len(body) > _MAX_FOLDER_BODY:
            raise InvalidBody("a folder's name takes fewer bytes")
    asked = decode(_FOLDER, bytes(body)).folder
    return str(await asyncio.to_thread(checked_folder, asked, bounds))


def digest_of(*parts: str) -> str:
    """Of everything a request asks for."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
