"""Which reranker a request means."""

from __future__ import annotations

from api.errors import InvalidBody
from rag.config import Settings
from rag.errors import InvalidConfig


def chosen_reranker(settings: Settings, model: str | None, *, named_by_clients: bool = True) -> tuple[str, str]:
    """(the reranker's name, a warning where it is not the one that was asked for).

    named_by_clients  false where clients send a ``model`` that means nothing, as those of TEI do
    Raises InvalidBody for a model that is not there, unless the settings say otherwise.
    """
    default = settings.dialects.reranker
    if model is None or model in ("", default):
        return default, ""
    if model in settings.rerankers:
        return model, ""
    if not named_by_clients:
        return default, ""
    if settings.dialects.unknown_models == "default":
        return default, f"there is no model {model[:80]!r}; {default!r} ordered the documents"
    try:
        settings.reranker(model)
    except InvalidConfig as error:
        raise InvalidBody(f"{error} (dialects.unknown_models = 'default' takes any name)", "model") from error
    raise AssertionError("a reranker that is not there has no settings")
