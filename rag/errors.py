"""Kvasir's whole error tree, seen from the online side; the stores' half is drawn in ``indexes.errors``.

KvasirError
|- InvalidInput               (indexes.errors) the caller's mistake
|  |- InvalidQuery            an empty or oversized question, a k out of range
|  |- InvalidConfig           an unknown key, a value out of range
|  '- PipelineNotFound        no pipeline of that name
|- CollectionError ...        (indexes.errors)
|- ModelNotAvailable          a model that is not on this machine or cannot be loaded
|- ModelOutOfMemory           a prompt does not fit into the memory that is left
|- BadCache                   stored states that are damaged, or not those that were asked for: a miss
|- CacheUnavailable           a store of states that does not answer, or takes nothing more
|- DeadlineExceeded           the request's deadline passed before anything was done
|- GeneratorUnavailable       the engine, or the local model, gives no answer; the pipeline falls back
'- Overloaded                 the queue is full; come back in ``retry_after`` seconds
"""

from __future__ import annotations

from indexes.errors import (
    CollectionBusy,
    CollectionDamaged,
    CollectionError,
    CollectionExists,
    CollectionNotFound,
    DuplicateDocument,
    EncoderMismatch,
    FormatNotSupported,
    InvalidFilter,
    InvalidInput,
    JavaNotAvailable,
    KvasirError,
    SourceError,
    StorageFull,
)

__all__ = [
    "BadCache",
    "CacheUnavailable",
    "CollectionBusy",
    "CollectionDamaged",
    "CollectionError",
    "CollectionExists",
    "CollectionNotFound",
    "DeadlineExceeded",
    "DuplicateDocument",
    "EncoderMismatch",
    "FormatNotSupported",
    "GeneratorUnavailable",
    "InvalidConfig",
    "InvalidFilter",
    "InvalidInput",
    "InvalidQuery",
    "JavaNotAvailable",
    "KvasirError",
    "ModelNotAvailable",
    "ModelOutOfMemory",
    "Overloaded",
    "PipelineNotFound",
    "SourceError",
    "StorageFull",
]


class InvalidQuery(InvalidInput):
    """A question that cannot be asked: empty, too long, or with a k out of range."""


class InvalidConfig(InvalidInput):
    """A setting with an unknown name or a value out of range."""


class PipelineNotFound(InvalidInput):
    """No pipeline of that name is configured."""


class ModelNotAvailable(KvasirError):
    """A model that is not on this machine, or that cannot be loaded."""


class ModelOutOfMemory(KvasirError):
    """A prompt that does not fit into the memory that is left, even alone."""


class BadCache(KvasirError):
    """Stored states that are damaged, of another format, or not those that were asked for."""


class CacheUnavailable(KvasirError):
    """A store of states that does not answer, or that has no room."""


class DeadlineExceeded(KvasirError):
    """The request's deadline passed before there was anything to answer with."""


class GeneratorUnavailable(KvasirError):
    """An engine that did not answer, or in no form that can be read; a model without memory or time for an answer."""


class Overloaded(KvasirError):
    """Every worker is busy and the queue is full."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after
