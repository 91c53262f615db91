"""Cross-encoder reranking with any sentence-transformers CrossEncoder."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from rag.errors import ModelNotAvailable
from rag.protocols import Reranker
from rag.reranking.stage import reranked
from rag.values import Query, Ranking, ScoreKind

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


class CrossEncoderReranker(Reranker):
    """Scores are the model's logits for (question, title and text). Loaded when first used.

    model  hub name or local path;  depth  how many of the ranking are read
    """

    def __init__(
        self,
        model: str,
        *,
        depth: int = 100,
        device: str = "auto",
        batch_size: int = 32,
        trust_remote_code: bool = False,
    ) -> None:
        self.model_name = model
        self.depth = depth
        self._device = device
        self._batch_size = batch_size
        self._trust_remote_code = trust_remote_code
        self._lock = threading.Lock()
        self._loaded: CrossEncoder | None = None

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        import torch

        started = time.perf_counter()
        pairs = [(query.text, hit.chunk.content) for hit in ranking.hits[: self.depth]]
        scores: list[float] = []
        tokens = 0
        if pairs:
            with self._lock:
                model = self._model()
                scores = model.predict(
                    pairs,
                    batch_size=self._batch_size,
                    activation_fn=torch.nn.Identity(),
                    show_progress_bar=False,
                ).tolist()
                tokens = sum(len(ids) for ids in model.tokenizer(pairs, truncation=True)["input_ids"])
        return reranked(ranking, scores, stage="rerank", kind=ScoreKind.SIGMOID_LOGIT, started=started, tokens=tokens)

    def _model(self) -> CrossEncoder:
        if self._loaded is None:
            import torch
            from sentence_transformers import CrossEncoder

            device = ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
            try:
                model = CrossEncoder(self.model_name, device=device, trust_remote_code=self._trust_remote_code)
            except (OSError, ValueError, RuntimeError, KeyError) as error:
                reason = str(error).strip().split("\n")[0][:200]
                raise ModelNotAvailable(
                    f"cross-encoder {self.model_name!r} cannot be loaded ({reason}); "
                    "give a local directory, or a hub name where the hub can be reached"
                ) from error
            if model.num_labels != 1:
                raise ModelNotAvailable(f"{self.model_name!r} has {model.num_labels} outputs; a reranker has one")
            self._loaded = model
        return self._loaded
