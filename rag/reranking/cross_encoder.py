"""Cross-encoder reranking with any sentence-transformers CrossEncoder."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.encoders import local_path, needs_hub
from rag.errors import ModelNotAvailable
from rag.protocols import Reranker
from rag.reranking.stage import reranked
from rag.values import Query, Ranking, ScoreKind

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


class CrossEncoderModel:
    """A cross-encoder by hub name or local path. Loaded when first used; threads and rerankers may share it."""

    def __init__(
        self, model: str, *, device: str = "auto", batch_size: int = 32, trust_remote_code: bool = False
    ) -> None:
        self.model_name = model
        self._path = local_path(model)
        self._device = device
        self._batch_size = batch_size
        self._trust_remote_code = trust_remote_code
        self._lock = threading.Lock()
        self._loaded: CrossEncoder | None = None

    def logits(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], int]:
        """(one logit a pair of question and passage, tokens that were computed). Raises ModelNotAvailable.

        A pair that comes several times is computed once: its logits are equal to the last bit, so that ties are ties.
        """
        import torch

        if not pairs:
            return [], 0
        unique = list(dict.fromkeys(pairs))
        with self._lock:
            model = self._model()
            scores = model.predict(
                unique, batch_size=self._batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
            )
            tokens = sum(len(ids) for ids in model.tokenizer(unique, truncation=True)["input_ids"])
        logit = dict(zip(unique, scores.tolist(), strict=True))
        return [logit[pair] for pair in pairs], tokens

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
        return model


@dataclass(frozen=True)
class CrossEncoderReranker(Reranker):
    """Scores are the model's logits for (question, title and text) of the ``depth`` best."""

    model: CrossEncoderModel
    depth: int = 100

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        started = time.perf_counter()
        scores, tokens = self.model.logits([(query.text, hit.chunk.content) for hit in ranking.hits[: self.depth]])
        return reranked(ranking, scores, stage="rerank", kind=ScoreKind.SIGMOID_LOGIT, started=started, tokens=tokens)
