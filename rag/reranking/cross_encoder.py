"""Cross-encoder reranking with any sentence-transformers CrossEncoder."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag.batching import Batching, one_thread
from rag.encoders import local_path, needs_hub
from rag.errors import ModelNotAvailable
from rag.protocols import Reranker
from rag.reranking.stage import reranked
from rag.runtime.meter import Limits, Meter
from rag.values import Query, Ranking, ScoreKind

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

UNLIMITED = Limits()


class CrossEncoderModel:
    """A cross-encoder by hub name or local path. Loaded when first used; threads and rerankers may share it."""

    def __init__(self, model: str, *, device: str = "auto", trust_remote_code: bool = False) -> None:
        self.model_name = model
        self._path = local_path(model)
        self._device = device
        self._trust_remote_code = trust_remote_code
        self._lock = threading.Lock()
        self._loaded: CrossEncoder | None = None
        self._counter: Any = None
        self._passes: Batching[tuple[str, str], float] = Batching(
            self._pass, self._lanes, enter=self._lane, name="cross-encoder"
        )

    def logits(
        self, pairs: Sequence[tuple[str, str]], limits: Limits = UNLIMITED
    ) -> tuple[list[float | None], int, str]:
        """(one logit a pair of question and passage, tokens that were computed, what stopped it or "").

        At the deadline of ``limits`` pairs that were not computed have None. Threads that ask at the same time share
        passes of about equally long pairs, which moves a logit by rounding only, less than 1e-4. A pair that comes
        several times is computed once: its logits are equal to the last bit, so that ties are ties.
        Raises ModelNotAvailable, Overloaded, Cancelled.
        """
        if not pairs:
            return [], 0, ""
        meter = Meter(limits)
        unique = list(dict.fromkeys(pairs))
        costs = self._lengths(unique)
        scores, stopped = self._passes.attempt(unique, costs, meter)
        logit = dict(zip(unique, scores, strict=True))
        tokens = sum(cost for cost, score in zip(costs, scores, strict=True) if score is not None)
        return [logit[pair] for pair in pairs], tokens, str(stopped or "")

    def _lengths(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Tokens of each pair as the model reads it. By a tokenizer of its own: asking one changes how it pads."""
        with self._lock:
            if self._counter is None:
                self._counter = deepcopy(self._model().tokenizer)
            return [len(ids) for ids in self._counter(list(pairs), truncation=True)["input_ids"]]

    def _pass(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        import torch

        assert self._loaded is not None, "pairs are counted before they are computed"
        scores = self._loaded.predict(
            list(pairs), batch_size=len(pairs), activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return [float(score) for score in scores]

    def _lanes(self) -> int:
        """Passes at a time: one a CPU thread, or one for a GPU."""
        import torch

        assert self._loaded is not None, "pairs are counted before they are computed"
        return torch.get_num_threads() if self._loaded.device.type == "cpu" else 1

    def _lane(self) -> AbstractContextManager[None]:
        assert self._loaded is not None, "pairs are counted before they are computed"
        return one_thread() if self._loaded.device.type == "cpu" else nullcontext()

    def _model(self) -> CrossEncoder:
        if self._loaded is None:
            try:
                model = self._open(local_files_only=not needs_hub(self._path))
            except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
                reason = str(error).strip().split("\n")[0][:200]
                raise ModelNotAvailable(
                    f"cross-encoder {self.model_name!r} cannot be loaded ({reason}); "
                    "give a local directory, or a hub name where the hub can be reached"
                ) from error
            if model.num_labels != 1:
                raise ModelNotAvailable(f"{self.model_name!r} has {model.num_labels} outputs; a reranker has one")
            self._loaded = model
        return self._loaded

    def _open(self, *, local_files_only: bool) -> CrossEncoder:
        import torch
        from sentence_transformers import CrossEncoder

        device = ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
        model: CrossEncoder = CrossEncoder(
            self._path, device=device, trust_remote_code=self._trust_remote_code, local_files_only=local_files_only
        )
        model.predict([("", "")], show_progress_bar=False)  # sets up the tokenizer, which threads then share
        return model


@dataclass(frozen=True)
class CrossEncoderReranker(Reranker):
    """Scores are the model's logits for (question, title and text) of the ``depth`` best.

    Where ``limits`` end, what was not scored by then stays behind in its old order, and the report says so.
    """

    model: CrossEncoderModel
    depth: int = 100
    limits: Limits = UNLIMITED

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started = time.perf_counter()
        pairs = [(query.text, hit.chunk.content) for hit in ranking.hits[: self.depth]]
        scores, tokens, stopped = self.model.logits(pairs, self.limits)
        left = scores.count(None)
        return reranked(
            ranking,
            scores,
            stage="rerank",
            kind=ScoreKind.SIGMOID_LOGIT,
            started=started,
            tokens=tokens,
            degraded=f"{stopped}: {left} of {len(scores)} passages were not scored" if stopped else "",
        )
