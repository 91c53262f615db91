"""Generation by any OpenAI-compatible engine (vLLM, SGLang, llama.cpp, OpenAI): POST {base_url}/chat/completions."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from rag.config import RemoteConfig
from rag.entry import entry
from rag.errors import GeneratorUnavailable, InvalidConfig
from rag.generation.citations import settled
from rag.generation.prefix_tree import PrefixTree
from rag.generation.prompt import NOT_FOUND, messages
from rag.protocols import Generator
from rag.runtime.meter import seconds_left
from rag.values import Answer, Context, Query, StageReport, Usage

log = logging.getLogger(__name__)

_LOG = "the log says more"
"""An engine's words and its address are for whoever runs the server, not for who asks it."""


@dataclass(frozen=True)
class Remote(Generator):
    """Streams the engine's answer. Raises GeneratorUnavailable where it cannot be reached, answers with an error or
    with what is no chat completion, or breaks off. Without a source it is not asked: the answer is "not found".

    Prompts are laid out for an engine that keeps the states of what prompts begin with: what is fixed first, then the
    sources, the question last.

    sent     sources of the prompts so far, in their order; shared by all who ask the same engine
    reorder  sources that an earlier prompt began with go first, in that order; citations count in the new one
    """

    config: RemoteConfig
    sent: PrefixTree = field(default_factory=PrefixTree, compare=False)
    reorder: bool = False

    def __post_init__(self) -> None:
        if not self.config.base_url or not self.config.model:
            raise InvalidConfig('generate = "remote" needs base_url and model in the table [remote]')

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        started = time.perf_counter()
        context, known = self._laid_out(context)
        pieces: list[str] = []
        usage = Usage()
        finish = ""
        for event in self._events(query, context) if context.hits else (NOT_FOUND,):
            if isinstance(event, Usage):
                usage = event
            elif isinstance(event, _Finish):
                finish = finish or event.reason
            else:
                pieces.append(event)
                yield event
        if context.hits:
            self.sent.add(_names(context))
        text, found, citations, notes = settled("".join(pieces), context)
        if finish not in ("", "stop"):
            notes.append(f"the engine stopped early ({finish}); max_tokens is {self.config.max_tokens}")
        report = StageReport(
            "generate",
            time.perf_counter() - started,
            len(context.hits),
            len(citations),
            usage.prompt_tokens,
            notes=_said(query, context, known, usage.prompt_tokens),
        )
        name, cut = self.config.model, finish == "length"
        yield Answer(text, found, citations, context, usage, name, report, tuple(notes), cut)

    def _laid_out(self, context: Context) -> tuple[Context, int]:
        """The sources as they are sent, and how many of the first an earlier prompt began with."""
        names = _names(context)
        if self.reorder and context.hits:
            order = self.sent.best(names, [float(len(hit.chunk.content) + 1) for hit in context.hits])
            context = replace(context, hits=tuple(context.hits[i] for i in order))
            names = [names[i] for i in order]
        return context, self.sent.longest(names)

    def _events(self, query: Query, context: Context) -> Iterator[str | Usage | _Finish]:
        import httpx

        body = {
            "model": self.config.model,
            "messages": messages(query, context),
            "max_tokens": self.config.max_tokens,
            "temperature": self.config.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"Authorization": f"Bearer {self.config.api_key}"} if self.config.api_key else {}
        url = f"{self.config.base_url.rstrip('/')}/chat/completions"
        left = seconds_left()
        if left == 0:
            raise GeneratorUnavailable("the request's deadline is past; nothing was asked of the engine")
        seconds = self.config.timeout if left is None else min(left, self.config.timeout)
        timeout = httpx.Timeout(seconds, connect=min(5.0, seconds))
        try:
            with httpx.stream("POST", url, json=body, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    log.warning("%s answered %d: %r", _told(url), response.status_code, response.read()[:200])
                    raise GeneratorUnavailable(f"the engine answered {response.status_code}; {_LOG}")
                yield from _whole(_in_time(response.iter_lines()))
        except httpx.HTTPError as error:
            log.warning("%s did not answer (%s: %s)", _told(url), type(error).__name__, error)
            raise GeneratorUnavailable(f"the engine did not answer ({type(error).__name__}); {_LOG}") from error
        except (httpx.InvalidURL, UnicodeError) as error:  # a URL that is none, a key that no header can hold: untold
            rule = "see base_url and the key in [remote]"
            raise GeneratorUnavailable(f"the engine cannot be asked ({type(error).__name__}); {rule}") from None


def _told(url: str) -> str:
    """The URL without what stands before its host: that may be a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _names(context: Context) -> list[str]:
    """What stands for each source: a digest of what is written of it."""
    return [blake2b(entry(0, hit.chunk).encode(), digest_size=16).hexdigest() for hit in context.hits]


def _said(query: Query, context: Context, known: int, tokens: int) -> tuple[str, ...]:
    """What of the prompt the engine may have had, by characters of its beginning; nothing where that is no source."""
    if not known:
        return ()
    whole = sum(len(message["content"]) for message in messages(query, context))
    before = replace(context, hits=context.hits[:known])
    beginning = sum(len(message["content"]) for message in messages(Query(""), before)) - len("Question: ")
    share = beginning / whole
    count = f"about {round(share * tokens)} of {tokens} tokens" if tokens else f"{share:.0%}"
    return (f"the prompt begins as an earlier one did: {known} of {len(context.hits)} sources, {count}",)


@dataclass(frozen=True)
class _Finish:
    """The engine said that it is done: ``reason`` is ``stop``, ``length`` or another, "" where it names none."""

    reason: str = ""


def _whole(lines: Iterator[str]) -> Iterator[str | Usage | _Finish]:
    """What all lines say. Raises GeneratorUnavailable where they end before the engine said that it is done."""
    finished = False
    for line in lines:
        for event in _read(line):
            finished = finished or isinstance(event, _Finish)
            yield event
    if not finished:
        raise GeneratorUnavailable("the engine broke off, or sent what is no stream of chat completions")


def _in_time(lines: Iterator[str]) -> Iterator[str]:
    """The lines until the request's deadline. Raises GeneratorUnavailable at the first that comes later."""
    for line in lines:
        if seconds_left() == 0:
            raise GeneratorUnavailable("the request's deadline passed while the engine wrote")
        yield line


def _read(line: str) -> Iterator[str | Usage | _Finish]:
    """What one line of the event stream says."""
    if not line.startswith("data:"):
        return
    if line[5:].strip() == "[DONE]":
        yield _Finish()
        return
    try:
        event: dict[str, Any] = json.loads(line[5:])
        if "error" in event:
            log.warning("the engine broke off: %r", str(event["error"])[:200])
            raise GeneratorUnavailable(f"the engine broke off with an error; {_LOG}")
        for choice in event.get("choices") or []:
            if text := (choice.get("delta") or {}).get("content"):
                yield str(text)
            if reason := choice.get("finish_reason"):
                yield _Finish(str(reason))
        if used := event.get("usage"):
            yield Usage(int(used.get("prompt_tokens", 0)), int(used.get("completion_tokens", 0)))
    except (ValueError, AttributeError, TypeError) as error:
        log.warning("the engine sent what is no chat completion: %r", line[:120])
        raise GeneratorUnavailable(f"the engine sent what is no chat completion; {_LOG}") from error
