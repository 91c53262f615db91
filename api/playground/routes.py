"""GET / and the files of the page: read once, revalidated by their hash, and kept in by a strict policy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from api.access import OPEN
from api.service import Connection

TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
PAGE = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Nothing inline, nothing from elsewhere, and no text that becomes markup."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page; ``etag`` is its hash as the header has it."""

    content: bytes
    media_type: str
    etag: str


@get("/", opt=OPEN, include_in_schema=False)
async def page(request: Connection) -> ASGIResponse:
    return _sent(request, assets()[PAGE])


@get("/playground/{name:str}", opt=OPEN, include_in_schema=False)
async def asset(request: Connection, name: FromPath[str]) -> ASGIResponse:
    if name not in assets():
        raise NotFoundException(f"the playground has no file {name[:80]!r}")
    return _sent(request, assets()[name])


@cache
def assets() -> dict[str, Asset]:
    """The files by name: what is not among them is never looked for on disk."""
    return dict(_read())


def _read() -> Iterator[tuple[str, Asset]]:
    for entry in files("api.playground").joinpath("assets").iterdir():
        suffix = f".{entry.name.rpartition('.')[2]}"
        if suffix in TYPES:
            content = entry.read_bytes()
            yield entry.name, Asset(content, TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _sent(request: Connection, asset: Asset) -> ASGIResponse:
    """The file, or 304 where the browser has this very one."""
    headers = {
        "etag": asset.etag,
        "cache-control": "no-cache",
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if asset.etag in known:
        return ASGIResponse(body=b"", status_code=304, headers=headers, media_type=asset.media_type)
    return ASGIResponse(body=asset.content, headers=headers, media_type=asset.media_type)
