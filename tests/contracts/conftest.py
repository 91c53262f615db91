"""What the contract suites share: a cross-encoder without training, rankings, and an engine that speaks SSE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.reranking.cross_encoder import CrossEncoderModel
from tests.contracts.openai_engine import OpenAiEngine


@pytest.fixture(scope="session")
def random_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderModel:
    """A two-layer BERT cross-encoder with RANDOM weights: it runs the real code and ranks by no merit at all."""
    return CrossEncoderModel(str(save_random_cross_encoder(tmp_path_factory.mktemp("cross_encoder"))), device="cpu")


def save_random_cross_encoder(directory: Path, labels: int = 1) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.models.bert.tokenization_bert import BertTokenizer

    words = ["the", "of", "a", "is", "in", "and", "lighthouse", "ferry", "cheese", "puffins", "minutes", "metres"]
    letters = [chr(c) for c in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{c}" for c in letters)]
    (directory / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(dict.fromkeys(tokens)),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        initializer_range=0.5,
        id2label={i: f"label {i}" for i in range(labels)},
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    BertTokenizer(vocab=str(directory / "vocab.txt"), model_max_length=512).save_pretrained(directory)
    return directory


@pytest.fixture
def engine() -> Iterator[OpenAiEngine]:
    with OpenAiEngine() as running:
        yield running
