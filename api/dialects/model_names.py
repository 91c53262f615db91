"""Names that requests have for what is here: rerankers, the text encoder, collections with a pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator

from api.dialects.openai_schemas import Model
from api.errors import ModelNotFound
from rag.assemble import Engine
from rag.config import Settings
from rag.encoders import SentenceEncoder
from rag.errors import InvalidConfig
from rag.tables import nearest

OWN = "kvasir/"
_STARTED = int(time.time())


def models(engine: Engine) -> Iterator[Model]:
    """Every name that a request can have in ``model``."""
    for name in sorted(engine.settings.rerankers):
        if _can_rerank(engine.settings, name):
            yield Model(id=name, created=_STARTED, kind="reranker")
    yield Model(id=engine.encoder.name, created=_STARTED, kind="encoder")
    home = engine.home
    for name in [*home.names(), *sorted(home.aliases())]:
        created = _published(engine, name)
        yield Model(id=f"{OWN}{name}", created=created, kind="collection")
        for pipeline in sorted(engine.settings.pipelines):
            yield Model(id=f"{OWN}{name}/{pipeline}", created=created, kind="collection")


def _can_rerank(settings: Settings, name: str) -> bool:
    """False for a kind that needs a model and has none."""
    try:
        settings.reranker(name)
    except InvalidConfig:
        return False
    return True


def _published(engine: Engine, name: str) -> int:
    """When the collection, or that behind an alias, last got a new version, in Unix seconds."""
    target = engine.home.aliases().get(name, name).partition("@")[0]
    try:
        return int((engine.home.directory(target) / "current").stat().st_mtime)
    except OSError:
        return _STARTED


def collection_and_pipeline(engine: Engine, model: str) -> tuple[str, str]:
    """(collection, pipeline) of ``kvasir/<collection>`` or ``kvasir/<collection>/<pipeline>``; raises ModelNotFound.

    Whether they exist is seen when they are opened.
    """
    collection, _, pipeline = model.removeprefix(OWN).partition("/")
    if not model.startswith(OWN) or not collection:
        known = [f"{OWN}{name}" for name in engine.home.names()]
        raise ModelNotFound(f"no model {model[:120]!r} answers questions{nearest(model, known)}")
    return collection, pipeline or engine.settings.answer_pipeline


def check_encoder(settings: Settings, encoder: SentenceEncoder, model: str | None) -> None:
    """Raises ModelNotFound where a request names another than the text encoder, unless the settings take any."""
    if model in (None, "", encoder.name, encoder.model_name) or settings.dialects.unknown_models == "default":
        return
    raise ModelNotFound(
        f"no model {model!r:.120} embeds texts; the text encoder is {encoder.name!r} "
        "(dialects.unknown_models = 'default' takes any name)"
    )
