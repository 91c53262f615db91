"""The JSON of collections and their documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from api.schemas import Int64, Request, Scalar


class DocumentBody(Request):
    """A document. Metadata values are strings, numbers, booleans or lists of those."""

    id: str
    text: str
    title: str = ""
    metadata: dict[str, Scalar | list[Scalar]] = field(default_factory=dict)


class ChunkingBody(Request):
    """How documents are cut; ``limit`` and ``overlap`` count the text encoder's tokens."""

    kind: Literal["whole", "sentences", "headings"] = "sentences"
    limit: Int64 | None = None
    overlap: Int64 | None = None


class CreateCollection(Request):
    """A new collection and its first documents."""

    name: str
    documents: Annotated[list[DocumentBody], Meta(min_length=1)]
    chunking: Literal["whole", "sentences", "headings"] | ChunkingBody | None = None


class AddDocuments(Request):
    """Documents to add; one whose id is already there is replaced."""

    documents: Annotated[list[DocumentBody], Meta(min_length=1)]


class DeleteDocuments(Request):
    """Ids of documents to delete; ids that are not there are passed over."""

    ids: Annotated[list[str], Meta(min_length=1)]


class CollectionStatus(Struct, frozen=True, kw_only=True):
    """What a collection holds now. A collection that cannot be opened has a ``problem`` and no counts."""

    name: str
    status: Literal["ok", "damaged"] = "ok"
    version: int | None = None
    generation: int | None = None
    documents: int | None = None
    chunks: int | None = None
    encoder: str | None = None
    vectors: str | None = None
    chunking: str | None = None
    created: str | None = None
    problem: str | UnsetType = UNSET


class CollectionList(Struct, frozen=True):
    """All collections by name, and what each alias points at."""

    collections: list[CollectionStatus]
    aliases: dict[str, str]


class Dropped(Struct, frozen=True):
    """The collection that was removed; ``cache_trouble`` says why states of its passages may still be stored."""

    dropped: str
    cache_trouble: str | UnsetType = UNSET


class ChangeCounts(Struct, frozen=True):
    """What a change did. ``updated`` documents count in ``added`` too; ``empty`` ones have no chunk.

    cache_trouble  why a language model's states of deleted passages may still be stored, or those of added ones are
                   not; left out where all went well
    """

    generation: int
    added: int
    updated: int
    deleted: int
    empty: int
    chunks: int
    cache_trouble: str | UnsetType = UNSET


class DocumentEntry(Struct, frozen=True):
    """A document in a list, with the number of its chunks."""

    id: str
    title: str
    chunks: int


class DocumentList(Struct, frozen=True):
    """A page of documents by ascending id; ``next`` is the ``after`` of the following page, null on the last."""

    documents: list[DocumentEntry]
    next: str | None


class StoredDocument(Struct, frozen=True):
    """A document as it is stored."""

    id: str
    title: str
    text: str
    metadata: dict[str, Any]
