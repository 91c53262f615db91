"""A running Kvasir server that an evaluation asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from eval.wire import SentDocument, SentPage, SentPipelines, SentProblem, SentStatus
from rag.errors import CollectionNotFound, InvalidInput, KvasirError, PipelineNotFound

KEY = "KVASIR_API_KEY"
MOST_WAIT, PATIENCE = 30.0, 120.0
"""Seconds that one Retry-After may ask for, and that all waiting of one request may take."""
LARGEST = 2**28
"""Bytes of one answer."""
PAGE = 1000
BUSY = (429, 503)

Sent = TypeVar("Sent")


class ServerUnavailable(KvasirError):
    """A server that is not there, does not answer in time, stays busy, or answers what nobody can read."""


class Server:
    """A server by its address. Threads may share it.

    key      sent as ``Authorization: Bearer``, where there is one
    timeout  seconds until an answer has come whole;  connections  most that are open at a time
    A 429 or 503 is asked again after its Retry-After, within bounds. Raises InvalidInput for an address that is none,
    CollectionNotFound, PipelineNotFound and InvalidInput as the library does, ServerUnavailable for the rest.
    """

    def __init__(self, url: str, *, key: str = "", timeout: float = 60.0, connections: int = 1) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"{url!r} is no address of a server; write for example --url http://127.0.0.1:8080")
        if not key.isascii() or any(letter.isspace() for letter in key):
            raise InvalidInput(f"{KEY} holds what no header can; mend it")
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        bounds = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self.timeout = timeout
        self._client = httpx.Client(headers=headers, timeout=timeout, limits=bounds)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *ended: object) -> None:
        self._client.close()

    def post(self, path: str, body: Mapping[str, Any], kind: type[Sent]) -> tuple[Sent, float]:
        """The answer, and the seconds that the request took which got it."""
        return self._asked("POST", path, kind, msgspec.json.encode(body))

    def status(self, collection: str) -> SentStatus:
        """Raises CollectionNotFound."""
        sent, _ = self._asked("GET", f"/v1/collections/{quote(collection, safe='')}", SentStatus)
        if sent.problem:
            raise ServerUnavailable(f"collection {collection!r} of {self.url} is damaged: {sent.problem}")
        return sent

    def pipelines(self) -> SentPipelines:
        return self._asked("GET", "/v1/pipelines", SentPipelines)[0]

    def document_ids(self, collection: str) -> Iterator[str]:
        """Ids of all documents, ascending, read page by page."""
        path, after = f"/v1/collections/{quote(collection, safe='')}/documents", ""
        while True:
            query = str(httpx.QueryParams({"limit": PAGE, "after": after}))
            page, _ = self._asked("GET", f"{path}?{query}", SentPage)
            yield from (entry.id for entry in page.documents)
            if page.next is None:
                return
            if page.next <= after:
                raise ServerUnavailable(f"{self.url} lists documents without an end; is it a Kvasir server?")
            after = page.next

    def document(self, collection: str, doc_id: str) -> SentDocument:
        path = f"/v1/collections/{quote(collection, safe='')}/documents/{quote(doc_id, safe='')}"
        return self._asked("GET", path, SentDocument)[0]

    def _asked(self, method: str, path: str, kind: type[Sent], body: bytes | None = None) -> tuple[Sent, float]:
        waited = 0.0
        while True:
            started = time.perf_counter()
            status, headers, content = self._sent(method, path, body)
            seconds = time.perf_counter() - started
            if status in BUSY:
                waited += self._wait(path, status, headers, content, waited)
                continue
            if not 200 <= status < 300:
                raise _refusal(self.url, path, status, content)
            try:
                return msgspec.json.decode(content, type=kind), seconds
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ServerUnavailable(
                    f"{self.url}{path} answered what is none of a Kvasir server's answers ({error}); is --url right?"
                ) from error

    def _sent(self, method: str, path: str, body: bytes | None) -> tuple[int, httpx.Headers, bytes]:
        until = time.monotonic() + self.timeout
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            with self._client.stream(method, self.url + path, content=body, headers=headers) as response:
                content = bytearray()
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > LARGEST:
                        raise ServerUnavailable(f"{self.url}{path} answers more than {LARGEST} bytes; ask for fewer")
                    if time.monotonic() > until:
                        raise httpx.ReadTimeout("the answer did not end")
                return response.status_code, response.headers, bytes(content)
        except httpx.ConnectError as error:
            raise ServerUnavailable(
                f"no server answers at {self.url} ({error}); start one with: kvasir serve, or mend --url"
            ) from error
        except httpx.TimeoutException as error:
            raise ServerUnavailable(
                f"{self.url}{path} gave no whole answer within {self.timeout:g} s; raise --timeout, or ask fewer at a "
                "time with --jobs"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerUnavailable(f"{self.url}{path} broke off ({type(error).__name__}: {error})") from error

    def _wait(self, path: str, status: int, headers: httpx.Headers, content: bytes, waited: float) -> float:
        """Waits as long as the server asks; returns the seconds. Raises ServerUnavailable where that is too long."""
        asked = retry_after(headers.get("retry-after", ""))
        if asked > MOST_WAIT or waited + asked > PATIENCE:
            raise ServerUnavailable(
                f"{self.url}{path} answered {status} ({_problem(content).detail or 'without a reason'}) and asks to "
                f"wait {asked:g} s after {waited:g} s of waiting; the most is {MOST_WAIT:g} s at once and "
                f"{PATIENCE:g} s in all, try again later or with fewer --jobs"
            )
        time.sleep(asked)
        return asked


def retry_after(text: str) -> float:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110); 1.0 for what is neither."""
    if text.strip().isdecimal():
        return max(0.05, float(text))
    try:
        return max(0.05, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 1.0


def _refusal(url: str, path: str, status: int, content: bytes) -> KvasirError:
    """The error that the library would have raised, where it is known by its code."""
    problem = _problem(content)
    said = problem.detail or content[:200].decode("utf-8", "replace") or "nothing"
    message = f"{url}{path} answered {status}: {said}"
    if status in (401, 403):
        return InvalidInput(f"{message}; set {KEY} to a key that the server knows")
    if problem.error.code == "collection_not_found":
        return CollectionNotFound(f"{message}; name one that is there with --collection")
    if problem.error.code == "pipeline_not_found":
        return PipelineNotFound(message)
    if 400 <= status < 500 and problem.error.code:
        return InvalidInput(message)
    return ServerUnavailable(f"{message}; is --url a Kvasir server's?")


def _problem(content: bytes) -> SentProblem:
    try:
        return msgspec.json.decode(content, type=SentProblem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return SentProblem()
