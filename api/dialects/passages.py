"""The passages of a request to rerank, in whichever form they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from api.errors import InvalidBody
from api.rerank_schemas import RerankRequest
from rag.config import ServerConfig
from rag.encoders import SentenceEncoder
from rag.reranking.given import Passage


def given(asked: RerankRequest, bounds: ServerConfig) -> list[Passage]:
    """Raises InvalidBody for too many, for too long ones in all, and for an object without the fields it is read by."""
    sent: Sequence[str | dict[str, Any]] = (asked.texts if asked.documents is None else asked.documents) or ()
    where = "texts" if asked.documents is None else "documents"
    if len(sent) > bounds.max_rerank_documents:
        raise InvalidBody(
            f"{len(sent)} documents; the limit is {bounds.max_rerank_documents} "
            "(server.max_rerank_documents), rerank the best of them",
            where,
        )
    found = [
        Passage(one) if isinstance(one, str) else _of_object(one, asked.rank_fields, f"{where}[{place}]")
        for place, one in enumerate(sent)
    ]
    characters = sum(len(passage.text) + len(passage.title) for passage in found)
    if characters > bounds.max_rerank_chars:
        raise InvalidBody(
            f"the documents have {characters} characters; the limit is {bounds.max_rerank_chars} in all "
            "(server.max_rerank_chars), send passages of them",
            where,
        )
    return found


def _of_object(document: dict[str, Any], fields: Sequence[str] | None, where: str) -> Passage:
    name = document.get("id")
    known = str(name) if isinstance(name, str | int) else ""
    if fields:
        there = [_plain(document[field]) for field in fields if document.get(field) is not None]
        if not there:
            raise InvalidBody(f"the document has none of the rank_fields {', '.join(fields)[:200]}", where)
        return Passage("\n".join(there), id=known)
    text, title = document.get("text"), document.get("title")
    if not isinstance(text, str):
        raise InvalidBody('a document is a string or has a "text"; name other fields in rank_fields', where)
    if title is not None and not isinstance(title, str):
        raise InvalidBody("a document's title is a string", f"{where}.title")
    return Passage(text, title or "", known)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def cut(passages: Sequence[Passage], most: int | None, encoder: SentenceEncoder) -> tuple[list[Passage], int]:
    """The passages with texts of at most ``most`` tokens of the encoder's tokenizer, and how many were longer."""
    if most is None:
        return list(passages), 0
    if not passages:
        return [], 0
    encoded = encoder.counting_tokenizer().encode_batch([one.text for one in passages], add_special_tokens=False)
    long = [len(one.ids) > most for one in encoded]
    ends = [one.offsets[most - 1][1] if over else None for one, over in zip(encoded, long, strict=True)]
    return [Passage(p.text[:end], p.title, p.id) for p, end in zip(passages, ends, strict=True)], sum(long)
