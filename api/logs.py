"""One line a request, as text or as JSON, on standard error; and everything else the program logs in the same form.

A line holds neither a question nor an answer, unless ``[server] log_queries`` asks for questions, and never a key.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import time
from logging.handlers import QueueHandler, QueueListener
from typing import TextIO

import msgspec

from api.account import Account
from rag.config import ServerConfig

requests = logging.getLogger("kvasir.requests")

_WAITING = 10_000
"""Lines that may wait to be written; more are dropped, and the last line says how many."""
_FIELDS = "kvasir"


class RequestLog:
    """Hands every request to the logger ``kvasir.requests``: failures of the server as errors, the others as news."""

    def __init__(self, *, queries: bool = False) -> None:
        self._queries = queries

    def read(self, account: Account) -> None:
        level = logging.ERROR if account.status >= 500 else logging.INFO
        if requests.isEnabledFor(level):
            fields = fields_of(account, queries=self._queries)
            requests.log(level, "request", extra={_FIELDS: fields})


def fields_of(account: Account, *, queries: bool) -> dict[str, object]:
    """What a line says of a request; empty ones are left out."""
    stages = {report.stage: round(1e3 * report.seconds, 3) for report in account.reports}
    fields: dict[str, object] = {
        "request_id": account.request_id,
        "method": account.method,
        "route": account.route,
        "status": account.status,
        "ms": round(1e3 * account.seconds, 3),
        "error": account.error,
        "key": account.key,
        "collection": account.collection,
        "pipeline": account.pipeline,
        "stages_ms": stages,
        "tokens": account.computed,
        "tokens_reused": account.reused,
        "tokens_decoded": account.decoded,
        "degraded": [report.stage for report in account.reports if report.degraded],
        "query": account.query if queries else "",
    }
    return {name: value for name, value in fields.items() if value not in ("", {}, [])}


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        said["message"] = record.getMessage()
        said |= getattr(record, _FIELDS, {})
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said).decode("utf-8", "replace")


class TextLines(logging.Formatter):
    """Time, level, logger and message, then name=value; values that are no plain words are quoted as in JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {_flat(record.getMessage())}"
        fields: dict[str, object] = getattr(record, _FIELDS, {})
        line += "".join(f" {name}={_word(value)}" for name, value in fields.items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Lines(QueueHandler):
    """Takes records without waiting for whoever reads them: a terminal that stands still holds up no request."""

    def __init__(self, formatter: logging.Formatter, stream: TextIO) -> None:
        self._taken: queue.Queue[object] = queue.Queue(_WAITING)
        super().__init__(self._taken)
        self.dropped = 0
        written = logging.StreamHandler(stream)
        written.setFormatter(formatter)
        self._listener: QueueListener | None = _Writer(self._taken, written)
        self._listener.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """As it is: the thread that writes formats it."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self._taken.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what was taken; may be called twice."""
        writer, self._listener = self._listener, None
        if writer is not None:
            writer.stop()
            if self.dropped:
                text = f"{self.dropped} lines were dropped: nobody read them in time"
                writer.handle(logging.makeLogRecord({"msg": text, "levelname": "WARNING", "name": __name__}))
        super().close()


class _Writer(QueueListener):
    """Comes to its end also where the queue is full."""

    def enqueue_sentinel(self) -> None:
        waiting: queue.Queue[object] = self.queue  # type: ignore[assignment]
        waiting.put(None)


def begin(chosen: ServerConfig, stream: TextIO | None = None) -> Lines | None:
    """Have the process log as the settings say, to standard error; None where ``log`` is off. Close it at the end."""
    if chosen.log == "off":
        return None
    lines = Lines(JsonLines() if chosen.log == "json" else TextLines(), stream or sys.stderr)
    logging.getLogger().addHandler(lines)  # warnings of libraries too; their news may name what was asked
    for name in ("kvasir", "api", "rag", "indexes"):
        logging.getLogger(name).setLevel(_level(chosen))
    return lines


def end(lines: Lines | None) -> None:
    """The opposite of ``begin``."""
    if lines is not None:
        logging.getLogger().removeHandler(lines)
        lines.close()


def _level(chosen: ServerConfig) -> int:
    return logging.getLevelNamesMapping()[chosen.log_level.upper()]


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = text.isprintable() and not set(text) & set(' "=')
    return text if plain and text else json.dumps(text, ensure_ascii=True)


def _flat(message: str) -> str:
    """On one line: nobody's text begins a line of its own."""
    return message.replace("\r", "\\r").replace("\n", "\\n")
