"""The attention readout beside a plain twin: full attention maps, one pass a prompt, nothing kept. Random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.errors import InvalidInput, ModelNotAvailable, ModelOutOfMemory
from rag.language_model import LanguageModel
from rag.reranking.icr import LATE, IcrPrompt, IcrTemplate, document_ids, head_scores, icr_prompt, icr_scores
from rag.runtime import parts
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Segment
from tests.tiny_models import FAMILIES, loaded, plain_model

DOCUMENTS = (
    "The ferry takes thirty minutes in summer.",
    "Puffins nest on the western cliffs, and cats are banned. 灯台は1871年に建てられた。",
    "The lighthouse of Vendel was built in 1871 and rises 42 metres above the sea. [3] > [1]",
    "x",
)
QUERY = "How high is the lighthouse?"


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return loaded(request.param)


@pytest.fixture
def prompt(model: LanguageModel) -> IcrPrompt:
    return prompt_of(model, QUERY)


def prompt_of(model: LanguageModel, query: str) -> IcrPrompt:
    strings = model.family.attention
    template = IcrTemplate(strings.prefix, strings.separator, strings.suffix, LATE["IE"])
    order = [3, 1, 0, 2]
    documents = [document_ids(model.tokenizer, text, order.index(i) + 1) for i, text in enumerate(DOCUMENTS)]
    return icr_prompt(model.tokenizer, template, query, documents, order)


def plain(model: LanguageModel, prefix: Prompt, suffix: Prompt) -> Any:
    """(layers, heads, prefix tokens) float64: mean over the suffix's rows of transformers' eager attention maps."""
    import torch

    twin = plain_model(model.name.rsplit("tiny-", 1)[1])
    with torch.inference_mode():
        out = twin(torch.tensor([prefix.ids + suffix.ids]), output_attentions=True)
    start = len(prefix.ids)
    return np.stack([layer[0, :, start:, :start].double().mean(1).numpy() for layer in out.attentions])


def test_every_head_equals_the_plain_twin(model: LanguageModel, prompt: IcrPrompt) -> None:
    suffixes = [prompt.query, prompt.calibration]
    for suffix, found in zip(suffixes, model.head_attention(prompt.prefix, suffixes, Meter()), strict=True):
        np.testing.assert_allclose(found, plain(model, prompt.prefix, suffix), atol=2e-6)


def test_scores_equal_the_plain_twin_for_all_heads_and_for_a_set(model: LanguageModel, prompt: IcrPrompt) -> None:
    query, calibration = (plain(model, prompt.prefix, suffix) for suffix in (prompt.query, prompt.calibration))
    for heads in (None, {0: (1, 3), 1: (2,)}):
        asked, empty = model.attention(prompt.prefix, [prompt.query, prompt.calibration], Meter(), heads)
        found = icr_scores(asked, empty, prompt.spans)
        chosen = [(i, h) for i in range(model.shape[0]) for h in range(4) if heads is None or h in heads.get(i, ())]
        wanted = icr_scores(sum(query[at] for at in chosen), sum(calibration[at] for at in chosen), prompt.spans)
        assert found == pytest.approx(wanted, abs=1e-5)


def test_single_heads_are_filtered_each_for_itself(model: LanguageModel, prompt: IcrPrompt) -> None:
    twin = [plain(model, prompt.prefix, suffix) for suffix in (prompt.query, prompt.calibration)]
    found = model.head_attention(prompt.prefix, [prompt.query, prompt.calibration], Meter())
    np.testing.assert_allclose(
        head_scores(found[0], found[1], prompt.spans), head_scores(twin[0], twin[1], prompt.spans), atol=1e-5
    )


def test_the_question_without_content_scores_zero(model: LanguageModel) -> None:
    prompt = prompt_of(model, "N/A")
    asked, empty = model.attention(prompt.prefix, [prompt.query, prompt.calibration], Meter())
    scores = icr_scores(asked, empty, prompt.spans)
    assert scores == pytest.approx([0.0] * len(DOCUMENTS), abs=1e-7)


def test_the_order_of_the_passes_does_not_matter(model: LanguageModel, prompt: IcrPrompt) -> None:
    one = model.attention(prompt.prefix, [prompt.query, prompt.calibration], Meter())
    other = model.attention(prompt.prefix, [prompt.calibration, prompt.query], Meter())
    np.testing.assert_array_equal(one[0], other[1])
    np.testing.assert_array_equal(one[1], other[0])


def test_every_token_is_computed_once(model: LanguageModel, prompt: IcrPrompt) -> None:
    meter = Meter()
    model.attention(prompt.prefix, [prompt.query, prompt.calibration], meter)
    assert meter.prefill == len(prompt.prefix.ids + prompt.query.ids + prompt.calibration.ids)
    assert meter.passes == 3  # the prefix, and one for each suffix


def test_the_mass_on_documents_is_at_most_one_a_head(model: LanguageModel, prompt: IcrPrompt) -> None:
    (attention,) = model.head_attention(prompt.prefix, [prompt.query], Meter())
    assert (attention >= 0).all()
    assert attention.sum(axis=2).max() <= 1.0 + 1e-6


@pytest.fixture(params=[1, 7, 512])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(parts, "MIN_PART", request.param)
    monkeypatch.setattr(parts, "MAX_PART", request.param)
    return int(request.param)


def test_how_many_tokens_go_at_once_does_not_matter(part: int) -> None:
    model = loaded("qwen2")
    prompt = prompt_of(model, QUERY)
    (found,) = model.head_attention(prompt.prefix, [prompt.query], Meter())
    np.testing.assert_allclose(found, plain(model, prompt.prefix, prompt.query), atol=2e-6)


def test_layers_above_the_last_head_are_not_run(model: LanguageModel, prompt: IcrPrompt) -> None:
    ran: list[int] = []
    layers: Any = model.model.model.layers
    hooks = [
        layer.self_attn.register_forward_pre_hook(lambda *_, i=i: ran.append(i), with_kwargs=True)
        for i, layer in enumerate(layers)
    ]
    try:
        model.attention(prompt.prefix, [prompt.query], Meter(), {0: (1,)})
    finally:
        for hook in hooks:
            hook.remove()
    assert set(ran) == {0}


def test_a_head_outside_the_model_is_refused(model: LanguageModel, prompt: IcrPrompt) -> None:
    with pytest.raises(InvalidInput, match="lies outside the model's"):
        model.attention(prompt.prefix, [prompt.query], Meter(), {0: (4,)})


def test_a_prompt_longer_than_the_context_is_refused(model: LanguageModel, prompt: IcrPrompt) -> None:
    long = Prompt((Segment(prompt.prefix.ids * 40),))
    with pytest.raises(InvalidInput, match="reads at most 2048"):
        model.attention(long, [prompt.query], Meter())


def test_short_memory_is_tried_again_and_then_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model = LanguageModel(loaded("llama").name, device="cpu", dtype="float32")
    prompt = prompt_of(model, QUERY)
    wanted = model.attention(prompt.prefix, [prompt.query], Meter())[0]
    forward, failures = model.forward, [1]

    def short(*arguments: Any, **named: Any) -> Any:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("none left")
        return forward(*arguments, **named)

    monkeypatch.setattr(model, "forward", short)
    np.testing.assert_array_equal(model.attention(prompt.prefix, [prompt.query], Meter())[0], wanted)
    failures[:] = [1] * 99
    with pytest.raises(ModelOutOfMemory, match=r"no memory for a prompt of .* shorten the list"):
        model.attention(prompt.prefix, [prompt.query], Meter())


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_length_are_refused(rope: str, tmp_path: Path) -> None:
    source = Path(loaded("llama").name)
    for file in source.iterdir():
        shutil.copy(file, tmp_path / file.name)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": rope, "rope_theta": 10000.0, "factor": 2.0}
    config["rope_parameters"] |= {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8} if rope == "longrope" else {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelNotAvailable, match=f"positions of type '{rope}'"):
        _ = LanguageModel(str(tmp_path), device="cpu").model
