"""What the tools take and give; the protocol's JSON schemas are made of these."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

Question = Annotated[str, Meta(min_length=1, description="The question, in plain words")]
Name = Annotated[str, Meta(description="A collection's name; may be left out where there is only one")]
Filter = Annotated[
    dict[str, Any], Meta(description='Only documents with such metadata, for example {"year": {"gte": 2000}}')
]


class SearchArguments(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to look for."""

    query: Question
    collection: Name | None = None
    k: Annotated[int, Meta(ge=1, le=50, description="How many passages")] = 5
    filter: Filter | None = None


class FoundPassage(Struct, frozen=True, kw_only=True):
    """A passage; relevance_score lies between 0 and 1."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    relevance_score: float


class SearchResult(Struct, frozen=True, kw_only=True):
    """The best passages, best first. ``note`` says what was cut or left out, and is empty where nothing was."""

    collection: str
    results: list[FoundPassage]
    note: str


class RerankArguments(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to put in order."""

    query: Question
    documents: Annotated[list[str], Meta(min_length=1, description="The passages to put in order")]
    top_n: Annotated[int, Meta(ge=1, le=200, description="How many to return")] = 10
    model: Annotated[str, Meta(description="A reranker's name; the server's default where it is left out")] | None = (
        None
    )


class RankedDocument(Struct, frozen=True, kw_only=True):
    """A place in ``documents``, from 0; relevance_score lies between 0 and 1."""

    index: int
    relevance_score: float


class RerankResult(Struct, frozen=True, kw_only=True):
    """Places of the best documents, best first. ``note`` says where the order is not quite what was asked for."""

    model: str
    results: list[RankedDocument]
    note: str


class AnswerArguments(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to answer."""

    question: Question
    collection: Name | None = None
    filter: Filter | None = None


class CitedSource(Struct, frozen=True, kw_only=True):
    """The source that [number] in the answer means."""

    number: int
    chunk_id: str
    document_id: str
    title: str
    text: str


class AnswerResult(Struct, frozen=True, kw_only=True):
    """An answer with the sources it cites; ``found`` is false where there is none."""

    collection: str
    answer: str
    found: bool
    sources: list[CitedSource]
    note: str


class CollectionsArguments(Struct, forbid_unknown_fields=True):
    """Nothing."""


class KnownCollection(Struct, frozen=True, kw_only=True):
    """A collection that can be searched; counts are null where it cannot be opened."""

    name: str
    documents: int | None
    chunks: int | None


class CollectionsResult(Struct, frozen=True, kw_only=True):
    """The collections; ``note`` says how many more there are."""

    collections: list[KnownCollection]
    note: str
