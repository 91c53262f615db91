"""What training begins with: token vectors, and heads that find equal words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rag.embedded_model.architecture import FINAL, GIVEN, SHARPNESS, Shape, new_model
from rag.embedded_model.cooccurrence import token_vectors

TEXTS = [[1, 2, 3, 2, 1], [1, 4, 3, 4, 1], [5, 6, 7, 6, 5], [5, 8, 7, 8, 5]] * 5


def test_tokens_in_the_same_company_have_like_vectors() -> None:
    """Two sorts of text and two dimensions."""
    vectors = token_vectors(TEXTS, 12, 2)
    cosine = vectors @ vectors.T / 2
    assert cosine[2, 4] > 0.9 > 0.5 > cosine[2, 6]
    assert cosine[6, 8] > 0.9


def test_token_vectors_have_one_length_or_none_and_are_always_the_same() -> None:
    vectors = token_vectors(TEXTS, 12, 4)
    lengths = np.linalg.norm(vectors, axis=1)
    assert lengths[1:9] == pytest.approx([2.0] * 8, rel=1e-5)
    assert lengths[[0, 9, 10, 11]] == pytest.approx([0.0] * 4)
    drawn = np.random.default_rng(1).zipf(1.5, (200, 30)) % 60
    assert np.array_equal(token_vectors(drawn, 60, 8), token_vectors(drawn, 60, 8))


def test_the_taught_heads_begin_as_word_matchers() -> None:
    """The logit of a token for an equal one at no distance: SHARPNESS on average, and most times above all others'."""
    shape = Shape(vocabulary=600, layers=3)
    model = new_model(shape, 0)
    tokens = model.model.embed_tokens.weight.detach()
    normed = tokens * tokens.pow(2).mean(dim=1, keepdim=True).rsqrt()
    attention = model.model.layers[1].self_attn
    query, key = (part.weight.detach() @ normed.T for part in (attention.q_proj, attention.k_proj))
    for head in (0, 2, 4, 6):
        logits = query[head * 32 : (head + 1) * 32].T @ key[head // 2 * 32 : (head // 2 + 1) * 32] / 32**0.5
        own = logits.diagonal()
        assert own.mean().item() == pytest.approx(SHARPNESS, rel=0.1)
        assert (logits.argmax(dim=1) == torch.arange(600)).float().mean() > 0.8


def test_given_vectors_are_a_share_of_the_embeddings() -> None:
    shape = Shape(vocabulary=600, layers=3)
    vectors = np.random.default_rng(0).standard_normal((600, 256)).astype(np.float32)
    model = new_model(shape, 0, vectors=vectors)
    tokens = model.model.embed_tokens.weight.detach().numpy()
    assert tokens.std() == pytest.approx(1.0, rel=0.01)
    assert (tokens * vectors).mean() == pytest.approx(GIVEN**0.5, rel=0.02)
    assert model.model.norm.weight.unique().tolist() == pytest.approx([FINAL])
