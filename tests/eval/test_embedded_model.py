"""The embedded model as it is shipped: where it stands on thirty questions of scifact, and what its files say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from eval.beir import read_folder
from indexes.readers.beir import Beir
from rag.embedded_model.evaluation import ndcg
from rag.embedded_model.neighbours import Neighbours
from rag.embedded_model.teacher import unit
from rag.language_model import LanguageModel
from rag.model_facts import model_facts
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, as_given, place_of
from rag.runtime.packaged import EMBEDDED
from rag.values import Query
from tests.data import shared_data
from tests.tiny_models import one_thread

__all__ = ["one_thread"]

QUESTIONS, DEPTH, PASSAGE_TOKENS = 30, 20, 128
EXPECTED = {"bm25": 0.68464, "icr": 0.54026, "both": 0.70395}
"""nDCG@10 over BM25's best 20, float32 on the CPU: what this model must give again."""


def test_scores_on_thirty_questions_of_scifact_are_what_they_were() -> None:
    folder = shared_data("scifact")
    documents = list(Beir(folder).documents(lambda skipped: None))
    near = Neighbours([f"{document.title}\n{document.text}" for document in documents])
    place = {document.id: at for at, document in enumerate(documents)}
    asked = read_folder(folder, "test")
    model = LanguageModel(EMBEDDED, device="cpu", dtype="float32")
    reranker = AttentionReranker(model, heads="auto", depth=DEPTH, passage_tokens=PASSAGE_TOKENS)
    found: dict[str, list[float]] = {name: [] for name in EXPECTED}
    for query_id in sorted(asked.qrels)[:QUESTIONS]:
        text = asked.queries[query_id]
        relevant = {place[document] for document, grade in asked.qrels[query_id].items() if grade > 0}
        best = near.best(text, DEPTH)
        places = [at for at, _ in best]
        ranking = reranker.rerank(
            Query(text, query_id),
            as_given([Passage(documents[at].text, documents[at].title) for at in places], ranked=True),
        )
        scores = {place_of(hit): hit.score for hit in ranking}
        attention = unit([scores[at] for at in range(len(places))])
        bm25 = unit([score for _, score in best])
        for name, values in (("bm25", bm25), ("icr", attention), ("both", attention + bm25)):
            found[name].append(ndcg(places, values, relevant))
    assert {name: sum(values) / QUESTIONS for name, values in found.items()} == pytest.approx(EXPECTED, abs=2e-4)


def test_the_files_are_those_of_a_small_plain_llama() -> None:
    facts = model_facts(EMBEDDED)
    assert (facts.architecture, facts.family, facts.dtype) == ("LlamaForCausalLM", "embedded", "BF16")
    assert 6_000_000 < facts.parameters < 10_000_000
    assert facts.weight_bytes <= 16 * 2**20
    assert len(facts.head_set) == 8
    card = Path(facts.card).read_text(encoding="utf-8")
    assert all(word in card for word in ("licence", "CC BY", "seed", "nDCG@10", "hours"))
    assert sum(file.stat().st_size for file in Path(facts.folder).iterdir()) <= 17 * 2**20


def test_transformers_loads_it_as_it_is() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_facts(EMBEDDED).folder
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert model.config.model_type == "llama"
    assert tokenizer.decode(tokenizer("The heart pumps blood.")["input_ids"], skip_special_tokens=True) == (
        "The heart pumps blood."
    )
    config: Mapping[str, Any] = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    with safe_open(Path(folder) / "model.safetensors", "pt") as tensors:
        assert tensors.get_tensor("model.embed_tokens.weight").shape[0] == config["vocab_size"] == 8192
