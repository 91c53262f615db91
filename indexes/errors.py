"""The root of Kvasir's error tree and the errors of the stores; ``rag.errors`` holds the rest.

KvasirError
|- InvalidInput            the caller's mistake: a value, the rule it breaks, the next step
|  |- SourceError          a source that cannot be read at all
|  |- DuplicateDocument    one id twice in one source
|  '- InvalidFilter        a metadata filter that cannot be understood
|- CollectionError
|  |- CollectionNotFound
|  |- CollectionExists
|  |- CollectionBusy       another process writes to it
|  |- CollectionDamaged    a file is missing, cut short or altered
|  |- FormatNotSupported   written by another version of Kvasir
|  |- EncoderMismatch      the vectors were made by another model
|  '- StorageFull          the disk has no room; nothing published was touched
'- JavaNotAvailable        no Java runtime, or the JVM could not start
"""

from __future__ import annotations


class KvasirError(Exception):
    """Every error Kvasir raises on purpose. The message holds the value, the rule and the next step."""


class InvalidInput(KvasirError, ValueError):
    """The caller's mistake."""


class SourceError(InvalidInput):
    """A source of documents that cannot be read at all (a single bad file in it is skipped and counted)."""


class DuplicateDocument(InvalidInput):
    """Two documents of one source share an id."""


class InvalidFilter(InvalidInput):
    """A metadata filter that cannot be understood."""


class CollectionError(KvasirError):
    """Something about a stored collection."""


class CollectionNotFound(CollectionError):
    """No collection, version or alias of that name."""


class CollectionExists(CollectionError):
    """The name is taken."""


class CollectionBusy(CollectionError):
    """Another process is writing to the collection."""


class CollectionDamaged(CollectionError):
    """A file of the collection is missing, cut short or altered."""


class FormatNotSupported(CollectionError):
    """The collection was written in a format this version does not know."""


class EncoderMismatch(CollectionError):
    """The collection's vectors were made by another text encoder than the one configured."""


class StorageFull(CollectionError):
    """No room on the disk. What was published before still serves."""


class JavaNotAvailable(KvasirError):
    """The Java virtual machine that Lucene runs in could not be started."""
