"""The trained model as a directory that transformers and Kvasir load: bfloat16 weights, tokenizer, head set."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.embedded_model.tokenizer import wrapped
from rag.encoders import hash_model
from rag.reranking.heads import OWN, HeadSet, write

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel


def export(
    folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, heads: Sequence[tuple[int, int]], name: str = "embedded"
) -> None:
    """Write config.json, model.safetensors, tokenizer.json, tokenizer_config.json and the head set."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    copied: Any = copy.deepcopy(model)
    copied.eval().to(torch.bfloat16).cpu()
    folder.mkdir(parents=True, exist_ok=True)
    wrapped(tokenizer, int(copied.config.max_position_embeddings)).save_pretrained(str(folder))
    copied.save_pretrained(str(folder))
    fingerprint = f"{folder.name}:{hash_model(str(folder))}"
    write(folder / OWN, HeadSet(name, tuple(heads), name, "taught heads of rag.embedded_model", fingerprint))
