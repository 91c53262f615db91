"""Language models of real shapes with RANDOM weights: they cost what the real ones cost, and know nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rag.errors import InvalidInput
from rag.language_model import LanguageModel
from rag.runtime.lexical import LexicalReader

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 4096,
    },
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 32_000,
    },
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "qwen2.5-7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
    },
}
"""Sizes from the configurations of the models of that name; ``small`` is nobody's."""


def random_model(shape: str) -> LanguageModel:
    """A Qwen2 of a shape, on the GPU in bfloat16 where there is one, else on the CPU in float32."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    if shape not in SHAPES:
        raise InvalidInput(f"no shape {shape!r}; choose of: {', '.join(SHAPES)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = Qwen2Config(max_position_embeddings=32_768, tie_word_embeddings=True, **SHAPES[shape])
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.bfloat16 if device == "cuda" else torch.float32
        )
    words = LexicalReader()
    return LanguageModel.wrap(model.eval(), words.tokenizer, words.family, shape)


def flops(model: LanguageModel, tokens: int, *, past: int = 0, layers: int | None = None) -> float:
    """Floating point operations that ``tokens`` new tokens need behind ``past`` known ones, without the LM head.

    Two a weight and token, and four a key and query channel (scores and values), causal.
    """
    config: Any = model.model.config
    width = config.hidden_size // config.num_attention_heads
    attention = config.hidden_size * width * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    weights = attention + 3 * config.hidden_size * config.intermediate_size
    pairs = tokens * past + tokens * (tokens + 1) / 2
    count = config.num_hidden_layers if layers is None else layers
    return float(count * (2.0 * weights * tokens + 4.0 * config.hidden_size * pairs))


def save_cross_encoder(directory: Path) -> Path:
    """A cross-encoder of the shape of MiniLM-L6 (ms-marco-MiniLM-L6-v2: 6 layers of width 384) with RANDOM weights."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    from rag.encoders import SentenceEncoder

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, id2label={0: "relevance"}
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer: Any = AutoTokenizer.from_pretrained(SentenceEncoder().path)
    tokenizer.save_pretrained(directory)
    return directory
