"""Generation by the process's own language model, streamed; requests at the same time share its passes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rag.errors import GeneratorUnavailable, ModelNotAvailable, ModelOutOfMemory
from rag.generation.citations import settled
from rag.generation.prompt import NOT_FOUND, Written, written
from rag.generation_table import GenerationConfig
from rag.protocols import Generator
from rag.runtime.batch_decode import BatchDecode
from rag.runtime.decoding import Sampler, Sampling, TextStream
from rag.runtime.families import Family
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Limits, Meter, OutOfBudget
from rag.runtime.prompt import Prompt
from rag.runtime.tokens import PromptTokenizer
from rag.values import Answer, Context, Query, StageReport, Usage

log = logging.getLogger(__name__)


class PromptReader(Protocol):
    """Reads a prompt: a LanguageModel, or what puts its states together from those of chunks."""

    name: str

    @property
    def tokenizer(self) -> PromptTokenizer: ...
    @property
    def family(self) -> Family: ...
    @property
    def context(self) -> int: ...

    def begin(self, prompt: Prompt, meter: Meter, room: int) -> KeyValues:
        """The states of a prompt with ``room`` free places behind, for the caller alone.

        Its last token may be missing: it is read again with the first step.
        """
        ...


@dataclass
class _Course:
    """How an answer went. ``finish`` is stop, length or timeout;  first  seconds until its first token."""

    meter: Meter
    finish: str = "length"
    tokens: int = 0
    first: float = 0.0


@dataclass(frozen=True)
class Local(Generator):
    """Answers by a language model. Closing the stream, or a caller who has left, ends the work at the next step.

    reader  reads prompts for the model of ``batch``
    Raises GeneratorUnavailable where the model cannot be loaded, memory is short or not one token came in time,
    InvalidQuery for a question that leaves no room for sources, Overloaded, Cancelled. Without a source nothing is
    read: the answer is "not found".
    """

    reader: PromptReader
    batch: BatchDecode
    config: GenerationConfig = GenerationConfig()

    def stream(self, query: Query, context: Context) -> Iterator[str | Answer]:
        started = time.perf_counter()
        if not context.hits:
            yield NOT_FOUND
            report = StageReport("generate", time.perf_counter() - started, 0, 0)
            yield Answer(NOT_FOUND, False, (), context, Usage(), self._name, report)
            return
        try:
            most = min(self.config.max_tokens, self.reader.context // 2)
        except ModelNotAvailable as error:
            log.warning("%s", error)
            raise GeneratorUnavailable(f"the language model {self._name} cannot be loaded") from error
        form = written(self.reader.tokenizer, self.reader.family, query, context, self.reader.context - most)
        course = _Course(Meter(Limits(deadline_ms=1e3 * self.config.timeout)))
        pieces = []
        for piece in self._pieces(form, most, course):
            pieces.append(piece)
            yield piece
        shown = replace(context, hits=context.hits[: form.shown])
        text, found, citations, notes = settled("".join(pieces), shown)
        if course.finish == "length":
            notes.append(f"the model stopped early (length); max_tokens is {most}")
        elif course.finish == "timeout":
            notes.append(f"the model stopped early (timeout); timeout is {self.config.timeout:g} s")
        usage = Usage(len(form.prompt.ids), course.tokens)
        report = self._report(course, time.perf_counter() - started, len(context.hits), len(citations), form.notes)
        cut = course.finish != "stop"
        yield Answer(text, found, citations, context, usage, self._name, report, tuple(notes), cut)

    def _pieces(self, form: Written, most: int, course: _Course) -> Iterator[str]:
        text = TextStream(self.reader.tokenizer, self.config.stop)
        try:
            yield from self._read(form.prompt, most, course, text)
        except OutOfBudget as error:
            if not course.tokens:
                raise GeneratorUnavailable(
                    f"{self._name} wrote nothing in {self.config.timeout:g} s; raise timeout in [generation]"
                ) from error
            course.finish = "timeout"
        except ModelOutOfMemory as error:
            raise GeneratorUnavailable(f"{self._name}: {error}") from error
        if rest := text.finish():
            yield rest

    def _read(self, prompt: Prompt, most: int, course: _Course, text: TextStream) -> Iterator[str]:
        """The text of the tokens, as far as it is certain."""
        chosen = self.config
        sampler = Sampler(Sampling(chosen.temperature, chosen.top_p, chosen.seed))
        ids, meter = prompt.ids, course.meter

        def begun() -> KeyValues:
            states = self.reader.begin(prompt, meter, most)
            states.length = min(states.length, len(ids) - 1)
            return states

        with closing(self.batch.tokens(begun, ids[-1], sampler, most, meter)) as tokens:
            for token in tokens:
                course.tokens += 1
                course.first = course.first or time.perf_counter() - meter.started
                if token in self.batch.ends:
                    course.finish = "stop"
                elif piece := text.add(token):
                    yield piece
                if text.stopped:
                    course.finish = "stop"
                    return

    def _report(self, course: _Course, seconds: float, n_in: int, n_out: int, notes: tuple[str, ...]) -> StageReport:
        meter, reuse = course.meter, course.meter.reuse
        return StageReport(
            "generate",
            seconds,
            n_in,
            n_out,
            meter.prefill,
            passes=meter.passes,
            decoded=meter.decoded,
            peak_mb=round(meter.peak_bytes / 2**20, 3),
            notes=(*notes, *reuse.notes),
            cache_mode=reuse.mode,
            reused=reuse.reused,
            recomputed=round(reuse.recomputed, 4),
            first_token=course.first,
        )

    @property
    def _name(self) -> str:
        return Path(self.reader.name).name
