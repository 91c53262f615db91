"""The text encoder: the packaged model, offline, and what a vector may depend on."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexes.collection import Collection
from indexes.encoding import TextEncoder
from rag.encoders import FEW, SentenceEncoder, needs_hub
from rag.errors import EncoderMismatch, ModelNotAvailable
from rag.protocols import TokenCounter
from rag.retrieval.dense import Dense
from rag.values import Query

TEXTS = [
    "A lighthouse.",
    "",
    "word " * 700,
    "Fähre 渡し船 🛳️ عبّارة",
    "[SEP] and [CLS] are words here",
    "a\ttab\nand a line",
]


def packaged_directory(encoder: SentenceEncoder) -> Path:
    return Path(encoder._path)


def test_is_a_text_encoder_and_a_token_counter(encoder: SentenceEncoder) -> None:
    assert isinstance(encoder, TextEncoder)
    assert isinstance(encoder, TokenCounter)
    assert (encoder.name, encoder.dimension) == ("all-MiniLM-L6-v2", 384)


def test_the_packaged_model_needs_no_hub(encoder: SentenceEncoder) -> None:
    assert packaged_directory(encoder).is_dir()
    assert not needs_hub(encoder._path)


def test_vectors_have_unit_length_and_the_shape_of_their_texts(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode_passages(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert encoder.encode_query("a").shape == (384,)
    assert encoder.encode_passages([]).shape == encoder.encode_sentences([]).shape == (0, 384)


def test_passages_come_back_in_the_order_they_were_given(encoder: SentenceEncoder) -> None:
    """Longest first inside, so as to pad little."""
    alone = np.stack([encoder.encode_passages([text])[0] for text in TEXTS])
    heard: list[int] = []
    assert np.allclose(encoder.encode_passages(TEXTS, heard.append), alone, atol=2e-3)
    assert heard == [len(TEXTS)]


def test_a_text_that_comes_twice_has_one_vector_to_the_last_bit(encoder: SentenceEncoder) -> None:
    texts = [f"Filler number {n} of some length." for n in range(40)]
    heard: list[int] = []
    vectors = encoder.encode_passages(["Twin.", *texts, "Twin."], heard.append)
    assert np.array_equal(vectors[0], vectors[-1])
    assert heard == [42]


def test_the_encoder_knows_what_is_alike(encoder: SentenceEncoder) -> None:
    question = encoder.encode_query("When does the boat leave?")
    ferry, cheese = encoder.encode_passages(["The ferry departs at noon.", "Goat cheese ripens in caves."])
    assert question @ ferry > question @ cheese + 0.2


def test_what_is_asked_beside_a_query_moves_its_vector_by_rounding_only(encoder: SentenceEncoder) -> None:
    """A second encoder, with nothing kept: alone by the model itself, and from sixteen threads in shared passes."""
    questions = [f"How tall is lighthouse number {n}{' indeed' * (n % 5)}?" for n in range(48)]
    alone = np.stack([encoder._encode([question], query=True)[0] for question in questions])
    fresh = SentenceEncoder(device="cpu")
    passes: list[int] = []
    compute = fresh._passes._compute
    fresh._passes._compute = lambda items: (passes.append(len(items)), compute(items))[1]  # type: ignore[func-returns-value]
    with ThreadPoolExecutor(16) as pool:
        together = np.stack(list(pool.map(fresh.encode_query, questions)))
    assert sum(passes) == 48
    assert max(passes) > 1, "nothing was shared"
    assert np.abs(together - alone).max() < 1e-5


def test_few_passages_share_passes_and_many_do_not(encoder: SentenceEncoder) -> None:
    few = [f"Passage {n} about lighthouses and ferries." for n in range(8)]
    many = [*few, *(f"Filler {n}." for n in range(FEW))]
    assert np.allclose(encoder.encode_passages(few), encoder.encode_passages(many)[:8], atol=2e-3)


def test_a_vector_that_is_handed_out_is_the_caller_s_own(encoder: SentenceEncoder) -> None:
    first = encoder.encode_query("mine")
    before = first.copy()
    first[:] = 0.0
    assert np.array_equal(encoder.encode_query("mine"), before)


def test_queries_and_sentences_of_one_text_are_kept_apart(encoder: SentenceEncoder) -> None:
    """A model may encode the two with different prompts."""
    encoder.encode_query("kept apart")
    encoder.encode_sentences(["kept apart"])
    assert {(True, "kept apart"), (False, "kept apart")} <= set(encoder._cache)


def test_the_kept_vectors_are_bounded(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag.encoders.MAX_CACHED", 4)
    vectors = encoder.encode_sentences(["one", "two", "three", "one"])
    encoder.encode_sentences(["four", "five"])
    assert len(encoder._cache) <= 4
    assert np.allclose(vectors[0], vectors[3])
    assert np.allclose(encoder.encode_sentences(["one"])[0], vectors[0], atol=1e-5)


def test_token_counts_equal_the_model_s_own_tokenizer(encoder: SentenceEncoder) -> None:
    tokenizer = encoder.model.tokenizer
    expected = [len(tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]) for text in TEXTS]
    assert encoder.count_tokens(TEXTS) == encoder(TEXTS) == expected
    assert expected[1:3] == [0, 700]
    assert encoder.count_tokens([]) == []


# --- fingerprints ---


def edited_copy(encoder: SentenceEncoder, directory: Path, file: str, content: bytes) -> SentenceEncoder:
    """A model of the same name with one file replaced."""
    target = directory / packaged_directory(encoder).name
    shutil.copytree(packaged_directory(encoder), target, symlinks=False)
    (target / file).write_bytes(content)
    return SentenceEncoder(str(target))


def test_another_model_has_another_fingerprint(encoder: SentenceEncoder, tmp_path: Path) -> None:
    weights = (packaged_directory(encoder) / "model.safetensors").read_bytes()
    same = edited_copy(encoder, tmp_path / "same", "model.safetensors", weights)
    tuned = edited_copy(encoder, tmp_path / "tuned", "model.safetensors", weights[:-4] + b"\0\0\0\0")
    hashes = [one.fingerprint.rsplit(":", 1)[1] for one in (encoder, same, tuned)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert encoder.fingerprint == SentenceEncoder().fingerprint


@pytest.mark.parametrize("file", ["pytorch_model.bin", "config.json", "tokenizer.json"])
def test_weights_configuration_and_tokenizer_all_count(encoder: SentenceEncoder, tmp_path: Path, file: str) -> None:
    prints = set()
    for content in (b"{}", b"[]"):
        directory = tmp_path / content.hex()
        directory.mkdir()
        (directory / file).write_bytes(content)
        prints.add(SentenceEncoder(str(directory)).fingerprint.rsplit(":", 1)[1])
    assert len(prints) == 2


def test_another_model_s_collection_is_not_searched(
    small: Collection, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"other": True}))
    with pytest.raises(EncoderMismatch, match="'small' was built with encoder all-MiniLM-L6-v2:"):
        Dense(small, SentenceEncoder(str(tmp_path))).retrieve(Query("q"), 1)


# --- models that are not there ---


@pytest.mark.parametrize("name", ["/no/such/model", "~/no/such/model", "./no/such", "nobody/no-such-model", "no-such"])
def test_a_model_that_is_not_there_is_said_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the hub's address leads nowhere; its own client would try again for over a minute."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(ModelNotAvailable, match=f"text encoder '{name}' cannot be loaded .* give a local directory"):
        SentenceEncoder(name).fingerprint  # noqa: B018
    assert time.monotonic() - started < 30


def test_a_directory_that_holds_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotAvailable, match="cannot be loaded"):
        SentenceEncoder(str(tmp_path)).encode_query("a")
