"""A training run in a folder: text, tokenizer, steps, checkpoints, evaluations and the exported model."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.durable import write_atomic
from rag.embedded_model import checkpoint
from rag.embedded_model.architecture import Shape, new_model
from rag.embedded_model.cooccurrence import token_vectors
from rag.embedded_model.evaluation import evaluate
from rag.embedded_model.examples import Example, ExampleWriter
from rag.embedded_model.export import export
from rag.embedded_model.forward import masked
from rag.embedded_model.learner import Learner
from rag.embedded_model.lists import ListSource
from rag.embedded_model.passages import Corpus
from rag.embedded_model.schedule import HEAD_TOPICS, TEXT_TOPICS, TOKENS, examples_of, rates, topics_of
from rag.embedded_model.steps import Figures, optimizer_of, train_step
from rag.embedded_model.teacher import Teacher
from rag.embedded_model.tokenizer import CONTROLS, END, train_tokenizer
from rag.embedded_model.topics import TopicSource
from rag.encoders import SentenceEncoder
from rag.errors import InvalidInput
from rag.runtime.families import Family, family_of
from rag.runtime.packaged import EMBEDDED
from rag.runtime.tokens import PromptTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAVE_SECONDS = 300
EVALUATIONS = 10
"""In a run, at equal distances."""
APART = 50
"""Steps between two evaluations at least."""
INTERIM = 40
"""Held-out questions of an evaluation that is not the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the result depends on, beside the text: heads are formed first, then texts are learnt too."""

    head_steps: int
    steps: int
    seed: int = 0
    tokens: int = TOKENS
    half: bool = False
    threads: int = 2

    @property
    def all_steps(self) -> int:
        return self.head_steps + self.steps


Report = Callable[[int, Figures, float], None]
"""Told after every step: the steps done, its figures, its seconds."""
Note = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


class Run:
    """One run. ``report`` is told of every step, ``note`` of what is to be kept: evaluations, sources; ``say`` of what
    takes a while before the first step.

    Raises InvalidInput where ``folder`` holds a run of other settings or another text, or one and not ``resume``.
    """

    def __init__(
        self,
        folder: Path,
        corpora: Sequence[Corpus],
        settings: Settings,
        shape: Shape,
        *,
        device: str = "cpu",
        resume: bool = False,
        encoder: SentenceEncoder | None = None,
        say: Say = lambda text: None,
    ) -> None:
        self.folder, self.settings, self.shape, self.device = folder, settings, shape, device
        folder.mkdir(parents=True, exist_ok=True)
        self._claim(corpora, resume=resume)
        say("tokenizer")
        self.tokenizer = self._tokenizer(corpora)
        serialized = self.tokenizer.to_str()
        self.family: Family = family_of("llama", CONTROLS)
        self.prompts = PromptTokenizer(serialized, self.family.reserved)
        self.source = ListSource(corpora)
        self.writer = ExampleWriter(self.prompts, self.family, END)
        say(f"the teacher reads {sum(len(corpus.passages) for corpus in corpora)} passages, if it has not yet")
        teacher = Teacher(self.source, folder, encoder or SentenceEncoder(device=device))
        self.topics = TopicSource(self.source, teacher, settings.seed)
        self._begin(say)

    def _begin(self, say: Say) -> None:
        """Model and optimizer as the last checkpoint has them, or new."""
        begin, end, pad = (self.tokenizer.token_to_id(control) for control in CONTROLS)
        going, shape = checkpoint.exists(self.folder), self.shape
        vectors = None
        if not going:
            say("token vectors")
            vectors = token_vectors(self._encoded(), shape.vocabulary, shape.width)
        made: Any = new_model(shape, self.settings.seed, (begin, end, pad), vectors)  # type: ignore[arg-type]
        self.model: Any = made.to(self.device)
        masked(self.model)
        known = self.writer.label_tokens
        self.learner = Learner(self.model, shape.width, self.topics.dimension, known).to(self.device)
        self.optimizer = optimizer_of(self.learner, shape)
        self.step = int(checkpoint.load(self.folder, self.learner, self.optimizer)["step"]) if going else 0

    def train(self, report: Report, note: Note, until: int = 0) -> None:
        """Train to the last step, or to step ``until``, with checkpoints and evaluations on the way; then export."""
        self.model.train()
        saved = time.monotonic()
        whole = self.settings.all_steps
        last = min(until or whole, whole)
        every = max(APART, whole // EVALUATIONS)
        while self.step < last:
            started = time.monotonic()
            report(self.step + 1, self._one(), time.monotonic() - started)
            self.step += 1
            if self.step % every == 0 and self.step < whole:
                note({"step": self.step, "dev": self.evaluated(INTERIM)})
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.step == whole:
            self.export()
            note({"step": self.step, "dev": self.evaluated()})

    def _one(self) -> Figures:
        settings, step = self.settings, self.step
        forming = step < settings.head_steps
        count = HEAD_TOPICS if forming else TEXT_TOPICS
        topics = topics_of(self.topics, self.writer, seed=settings.seed, step=step, count=count, device=self.device)
        examples: list[Example] = []
        if not forming:
            done = step - settings.head_steps
            examples = examples_of(
                self.source, self.writer, seed=settings.seed, step=done, steps=settings.steps, tokens=settings.tokens
            )
        return train_step(
            self.learner,
            self.optimizer,
            self.shape,
            topics,
            examples,
            rates(step, settings.head_steps, settings.steps),
            device=self.device,
            half=settings.half,
        )

    def save(self) -> None:
        checkpoint.save(self.folder, self.learner, self.optimizer, {"step": self.step})

    def evaluated(self, limit: int = 0) -> dict[str, float]:
        return evaluate(self.model, self.prompts, self.family, self.source, self.shape.heads, limit)

    def export(self) -> None:
        """Into the folder's ``embedded``."""
        export(self.folder / EMBEDDED, self.model, self.tokenizer, self.shape.heads)

    def _encoded(self) -> Iterator[list[int]]:
        for corpus in self.source.corpora:
            yield from self.prompts.encode_many([passage.shown for passage in corpus.passages])

    def _claim(self, corpora: Sequence[Corpus], *, resume: bool) -> None:
        """Write down what the run depends on, or compare it with what stands there."""
        told = {"settings": asdict(self.settings), "shape": asdict(self.shape), "text": _hash(corpora)}
        told = json.loads(json.dumps(told))
        path = self.folder / "run.json"
        if not path.is_file():
            write_atomic(path, json.dumps(told, indent=1).encode())
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        if not resume:
            raise InvalidInput(f"{self.folder} holds a training run; go on with --resume, or name another folder")
        if before != told:
            other = ", ".join(key for key in told if before.get(key) != told[key])
            raise InvalidInput(f"the run in {self.folder} was begun with other {other}; name another folder")

    def _tokenizer(self, corpora: Sequence[Corpus]) -> Tokenizer:
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if not path.is_file():
            texts = (passage.shown for corpus in corpora for passage in corpus.passages)
            write_atomic(path, train_tokenizer(texts, self.shape.vocabulary).to_str().encode())
        tokenizer: Tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        return tokenizer


def _hash(corpora: Sequence[Corpus]) -> str:
    digest = hashlib.sha256()
    for corpus in corpora:
        for passage in corpus.passages:
            digest.update(passage.shown.encode(errors="replace"))
        for question in corpus.questions:
            digest.update(f"{question.id} {question.text} {question.relevant}".encode())
    return digest.hexdigest()
