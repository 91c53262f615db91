"""What a conversation asks, and how its answer is to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from api.dialects.chat_schemas import ChatMessage, ChatRequest
from api.errors import InvalidBody
from rag.generation_table import GenerationConfig
from rag.pipeline import Pipeline
from rag.tables import RemoteConfig


def question(messages: Sequence[ChatMessage], turns: int, most: int) -> str:
    """The user's last message, below up to ``turns`` earlier ones of the user, the oldest left out beyond ``most``
    characters.

    Raises InvalidBody where the user says nothing, or something that is no text.
    """
    asked = [_text(message, f"messages[{place}]") for place, message in enumerate(messages) if message.role == "user"]
    if not asked or not asked[-1].strip():
        raise InvalidBody("no message of the user has a text; the last one of role user is the question", "messages")
    found = asked[-1]
    for earlier in reversed(asked[max(0, len(asked) - 1 - turns) : -1]):
        if len(earlier) + 1 + len(found) > most:
            break
        found = f"{earlier}\n{found}"
    return found


def _text(message: ChatMessage, where: str) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    if other := next((part.type for part in message.content if part.type != "text"), None):
        raise InvalidBody(f"a part of type {other[:40]!r} cannot be read; send text", where)
    return "\n".join(part.text for part in message.content)


def spoken_with(pipeline: Pipeline, asked: ChatRequest) -> tuple[Pipeline, list[str]]:
    """The pipeline with the request's sampling, and notes on what its generator does not have."""
    wanted = _wanted(asked)
    generator: Any = pipeline.generator
    config: Any = getattr(generator, "config", None)
    known = _known(config)
    changes = {key: value for key, value in wanted.items() if key in known}
    notes = [f"{key} is ignored: this generator has no such setting" for key in wanted if key not in known]
    if not changes:
        return pipeline, notes
    if "max_tokens" in changes:
        changes["max_tokens"] = min(changes["max_tokens"], config.max_tokens)
    if "stop" in changes:
        changes["stop"] = (*config.stop, *changes["stop"])
    return replace(pipeline, generator=replace(generator, config=replace(config, **changes))), notes


def _known(config: object) -> set[str]:
    """Settings of sampling that a generator with such a table has."""
    if isinstance(config, GenerationConfig):
        return {"max_tokens", "temperature", "top_p", "seed", "stop"}
    return {"max_tokens", "temperature"} if isinstance(config, RemoteConfig) else set()


def _wanted(asked: ChatRequest) -> dict[str, Any]:
    """What the request says of sampling, in the words of [generation]."""
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    if "" in stop:
        raise InvalidBody("an empty stop string would end every answer; leave it out", "stop")
    found = {
        "max_tokens": asked.max_completion_tokens or asked.max_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": None if asked.seed is None else asked.seed % 2**63,
        "stop": stop or None,
    }
    return {key: value for key, value in found.items() if value is not None}
