"""POST /v1/embeddings as OpenAI's clients ask, and /embed as TEI's do: vectors by the text encoder."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec
import numpy as np
from litestar import post
from litestar.response.base import ASGIResponse

from api.access import READ
from api.bodies import decode
from api.dialects.answering import answering
from api.dialects.failures import HANDLERS, TEI_ERRORS, NothingGiven, speak_tei
from api.dialects.model_names import check_encoder
from api.dialects.openai_schemas import Embedding, EmbeddingsRequest, EmbeddingsResponse
from api.dialects.tei_schemas import EmbedRequest, TeiError
from api.errors import InvalidBody
from api.openapi import documented
from api.rerank_schemas import ReadTokens
from api.service import Call, Connection
from indexes.corpus import clean_text
from indexes.encoding import Matrix
from rag.assemble import Engine
from rag.encoders import SentenceEncoder

_OPENAI = msgspec.json.Decoder(EmbeddingsRequest, strict=False)
_TEI = msgspec.json.Decoder(EmbedRequest, strict=False)
_QUERIES = ("query", "search_query")

EXAMPLES = {
    "Two texts": {"model": "all-MiniLM-L6-v2", "input": ["Plants make sugar.", "The heart pumps blood."]},
    "As OpenAI's client asks": {"input": "Blood is red.", "encoding_format": "base64"},
}
TEI_EXAMPLES = {"One text": {"inputs": "Plants make sugar.", "truncate": True}}


@post(
    "/v1/embeddings",
    status_code=200,
    opt=READ,
    summary="Embed texts",
    description="A vector of unit length for each text, by the server's text encoder; long texts are cut.",
    operation_class=documented(EmbeddingsRequest, EXAMPLES, {200: (EmbeddingsResponse,)}),
)
async def embeddings(request: Connection) -> ASGIResponse:
    return await answering(request, _embedded)


@post(
    "/embed",
    status_code=200,
    opt=READ,
    summary="Embed texts, for TEI's clients",
    description="An array with a vector of unit length for each text; errors are TEI's.",
    operation_class=documented(
        EmbedRequest, TEI_EXAMPLES, {200: (list[list[float]],)}, errors=TEI_ERRORS, failure=TeiError
    ),
    exception_handlers=HANDLERS,
)
async def embed(request: Connection) -> ASGIResponse:
    speak_tei(request.scope)
    return await answering(request, _embedded_for_tei)


def _embedded(call: Call) -> EmbeddingsResponse:
    asked = decode(_OPENAI, call.body)
    encoder = call.engine.encoder
    check_encoder(call.engine.settings, encoder, asked.model)
    texts = _texts(asked.input, "input")
    vectors = _vectors(call.engine, texts, "input", asked.dimensions, as_queries=asked.input_type in _QUERIES)
    wide = asked.encoding_format != "base64"
    rows: Sequence[list[float] | str] = vectors.tolist() if wide else [_base64(vector) for vector in vectors]
    tokens = sum(encoder.count_tokens(texts))
    return EmbeddingsResponse(
        model=encoder.name,
        data=[Embedding(index=index, embedding=row) for index, row in enumerate(rows)],
        usage=ReadTokens(tokens, tokens),
    )


def _embedded_for_tei(call: Call) -> list[list[float]]:
    asked = decode(_TEI, call.body)
    if asked.normalize is False:
        raise InvalidBody("normalize = false; vectors here are always of unit length, leave it out", "normalize")
    texts = _texts(asked.inputs, "inputs")
    found: list[list[float]] = _vectors(call.engine, texts, "inputs", asked.dimensions).tolist()
    return found


def _texts(given: str | Sequence[object], field: str) -> list[str]:
    """Raises InvalidBody for token ids."""
    several = [given] if isinstance(given, str) else list(given)
    texts = [clean_text(one) for one in several if isinstance(one, str)]
    if len(texts) < len(several):
        raise InvalidBody("token ids are of another model's vocabulary; send the texts themselves", field)
    return texts


def _vectors(
    engine: Engine, texts: Sequence[str], field: str, dimensions: int | None, *, as_queries: bool = False
) -> Matrix:
    """(n, dimension) float32. Raises InvalidBody for what is beyond the limits, NothingGiven for no text."""
    settings, encoder = engine.settings, engine.encoder
    most, characters = settings.dialects.max_inputs, sum(map(len, texts))
    if not texts:
        raise NothingGiven(f"{field} is empty; send at least one text")
    if len(texts) > most:
        raise InvalidBody(f"{len(texts)} texts; the limit is {most} (dialects.max_inputs), send fewer at once", field)
    if characters > settings.server.max_rerank_chars:
        raise InvalidBody(
            f"the texts have {characters} characters; the limit is {settings.server.max_rerank_chars} in all "
            "(server.max_rerank_chars), send fewer at once",
            field,
        )
    _check_dimensions(encoder, dimensions)
    if as_queries:
        return np.stack([encoder.encode_query(text) for text in texts])
    return encoder.encode_passages(texts)


def _check_dimensions(encoder: SentenceEncoder, wanted: int | None) -> None:
    if wanted is not None and wanted != encoder.dimension:
        raise InvalidBody(
            f"dimensions = {wanted}; vectors of {encoder.name} have {encoder.dimension} and are not cut, leave it out",
            "dimensions",
        )


def _base64(vector: Matrix) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
