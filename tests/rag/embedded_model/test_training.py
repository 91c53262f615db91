"""Losses against plain twins, checkpoints, and the exported model in the product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from rag.embedded_model.architecture import Shape, new_model
from rag.embedded_model.batches import Batch, batch, batches
from rag.embedded_model.examples import Example
from rag.embedded_model.run import Run, Settings
from rag.embedded_model.schedule import examples_of
from rag.embedded_model.steps import Figures, losses
from rag.embedded_model.supervision import EACH_HEAD, Watch, hidden_states, teach
from rag.embedded_model.supervision import TINY as LEAST
from rag.errors import InvalidInput
from rag.language_model import LanguageModel
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, as_given
from rag.values import Query
from tests.rag.embedded_model.worlds import TINY, corpus, source, writer
from tests.tiny_models import one_thread

__all__ = ["one_thread"]

SETTINGS = Settings(steps=6, tokens=600, threads=1)


@pytest.fixture(scope="module")
def model() -> Any:
    made = new_model(TINY, 3)
    teach(made)
    return made


def _attention_examples(count: int, *, blocks: bool) -> list[Example]:
    random = Random(0)
    found: list[Example] = []
    while len(found) < count:
        example = writer().attention(source().draw(random, random.randint(3, 5), 24), random, 24)
        one = (0.5, *[0.5 / (len(example.spans) - 1)] * (len(example.spans) - 1))
        wanted = (one,) * len(example.rows) if len(found) == 1 else ()
        found.append(replace(example, blocks=blocks, wanted=wanted))
    return found


def _eager_rows(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """All attention weights of transformers' own eager attention: one (B, heads, T, T) per layer."""
    model.set_attn_implementation("eager")
    try:
        length = ids.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool).tril()[None, None] if mask is None else mask
        added = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
        return list(model(ids, attention_mask=added, output_attentions=True, use_cache=False).attentions)
    finally:
        teach(model)


@pytest.mark.parametrize("blocks", [False, True])
def test_the_attention_loss_is_that_of_eager_attention_to_each_query_alone(model: Any, blocks: bool) -> None:
    examples = _attention_examples(4, blocks=blocks)
    made = batch(examples)
    assert made.taught is not None
    assert made.mask is not None
    watch = Watch(made.taught, TINY.by_layer, made.mask)
    hidden_states(model, made.ids, made.positions, made.mask, watch)
    expected, right, asked = 0.0, 0, 0
    for at, example in enumerate(examples):
        for number, (start, end) in enumerate(example.rows):
            alone = [*range(example.rows[0][0]), *range(start, end)]
            mask = made.mask[at, 0][alone][:, alone][None, None] if blocks else None
            with torch.no_grad():
                rows = _eager_rows(model, made.ids[at, alone][None], mask)
            means = [rows[layer][0, head, example.rows[0][0] :].mean(dim=0) for layer, head in TINY.heads]
            each = torch.stack([torch.stack([mean[a:b].sum() for a, b in example.spans]) for mean in means])
            wanted = _wanted(example, number)
            expected += _loss(each.sum(dim=0), wanted) + EACH_HEAD * sum(_loss(m, wanted) for m in each) / len(each)
            if len(example.relevant[number]) == 1:
                asked += 1
                right += int(each.sum(dim=0).argmax()) in example.relevant[number]
    assert asked > 6
    assert watch.loss().item() == pytest.approx(expected, rel=1e-4)
    assert watch.right() == (right, asked)


def _wanted(example: Example, query: int) -> Sequence[float]:
    relevant = example.relevant[query]
    even = [(at in relevant) / len(relevant) for at in range(len(example.spans))]
    return example.wanted[query] if example.wanted else even


def _loss(masses: torch.Tensor, wanted: Sequence[float]) -> float:
    shares = ((masses + LEAST) / (masses + LEAST).sum()).tolist()
    return sum(want * math.log(want / share) for want, share in zip(wanted, shares, strict=True) if want > 0)


def test_a_query_does_not_see_another(model: Any) -> None:
    example = next(each for each in _attention_examples(9, blocks=False) if len(each.rows) > 1)
    start, end = example.rows[1]
    changed = replace(example, ids=(*example.ids[: example.rows[0][0]], 9, *example.ids[example.rows[0][0] + 1 :]))
    with torch.no_grad():
        a, b = (hidden_states(model, made.ids, made.positions, made.mask) for made in map(_alone, (example, changed)))
    assert torch.allclose(a[0, start:end], b[0, start:end], atol=1e-5)
    assert not torch.allclose(a[0, slice(*example.rows[0])], b[0, slice(*example.rows[0])], atol=1e-5)


def _alone(example: Example) -> Batch:
    return batch([example])


def test_a_passage_in_blocks_sees_the_beginning_and_itself() -> None:
    (example,) = _attention_examples(1, blocks=True)
    mask = batch([example]).mask
    assert mask is not None
    (first, second, *_), (end, _) = example.spans, example.rows[0]
    at = second[1] - 1
    seen = mask[0, 0, at].tolist()
    expected = [key < example.lead or second[0] <= key <= at for key in range(len(seen))]
    assert seen == expected
    assert mask[0, 0, first[0] - 1].sum() == first[0]
    assert mask[0, 0, end, : end + 1].all()
    assert not mask[0, 0, end, end + 1 :].any()


def test_blocks_give_each_passage_the_states_it_has_alone(model: Any) -> None:
    """With positions that stay: the passage's states do not depend on what the others say."""
    (example,) = _attention_examples(1, blocks=True)
    start, end = example.spans[1]
    other = list(example.ids)
    other[example.spans[0][0] : example.spans[0][1]] = [9] * (example.spans[0][1] - example.spans[0][0])
    changed = replace(example, ids=tuple(other))
    with torch.no_grad():
        a, b = (hidden_states(model, made.ids, made.positions, made.mask) for made in map(_alone, (example, changed)))
    assert torch.allclose(a[0, start:end], b[0, start:end], atol=1e-5)
    assert not torch.allclose(a[0, example.rows[0][0] :], b[0, example.rows[0][0] :], atol=1e-5)


def test_the_text_loss_is_that_of_all_logits(model: Any) -> None:
    examples = examples_of(source(), writer(), seed=0, step=6, steps=10, tokens=6000)
    plain = [example for example in examples if not example.spans]
    assert len({example.kind for example in plain}) > 1
    with torch.no_grad():
        text, attention, _ = losses(model, batch(plain), TINY.by_layer)
        whole = [model(torch.tensor([example.ids])).logits[0].log_softmax(dim=-1) for example in plain]
    expected = 0.0
    for example, logits in zip(plain, whole, strict=True):
        expected -= sum(weight * float(logits[at, token]) for at, token, weight in example.targets)
    assert text.item() == pytest.approx(expected, rel=1e-4)
    assert attention.item() == 0.0


def test_batches_hold_every_example_once_and_no_more_than_allowed() -> None:
    examples = examples_of(source(), writer(), seed=0, step=1, steps=10, tokens=4000)
    made = list(batches(examples, most=800))
    assert sum(each.tokens for each in made) == sum(len(example.ids) for example in examples)
    assert sorted(kind for each in made for kind in each.kinds) == sorted(example.kind for example in examples)
    assert all(each.ids.numel() <= 800 or len(each.ids) == 1 for each in made)
    assert all((each.taught is not None) == (each.kinds[0] == "attention") for each in made)


def _quiet(*_: Any) -> None:
    return None


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", [corpus()], SETTINGS, TINY)
    whole.train(_quiet, _quiet)
    Run(tmp_path / "parts", [corpus()], SETTINGS, TINY).train(_quiet, _quiet, until=2)
    resumed = Run(tmp_path / "parts", [corpus()], SETTINGS, TINY, resume=True)
    assert resumed.step == 2
    resumed.train(_quiet, _quiet)
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert [path.name for path in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-0000006"]


def test_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, [corpus()], SETTINGS, TINY)
    with pytest.raises(InvalidInput, match="--resume"):
        Run(tmp_path, [corpus()], SETTINGS, TINY)
    with pytest.raises(InvalidInput, match="other settings"):
        Run(tmp_path, [corpus()], replace(SETTINGS, seed=1), TINY, resume=True)


def test_the_exported_model_reranks_in_the_product(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    run = Run(tmp_path, [corpus()], replace(SETTINGS, steps=1), TINY)
    run.train(_quiet, rows.append)
    assert rows[-1]["dev"].keys() >= {"ndcg@10 bm25", "ndcg@10 heads", "pairs", "letters of 8"}
    model = LanguageModel(str(tmp_path / "model"), device="cpu", dtype="float32")
    assert model.family.name == "embedded"
    assert model.tokenizer.start()[:1] == [0]
    reranker = AttentionReranker(model, heads=str(tmp_path / "model" / "heads.toml"))
    ranking = reranker.rerank(Query("old ferry"), as_given([Passage("the old ferry"), Passage("a cliff")]))
    assert len(ranking.hits) == 2
    trained = dict(run.model.named_parameters())
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, trained[name].to(torch.bfloat16).float()), name


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = Run(tmp_path, [corpus()], Settings(steps=40, tokens=1000, threads=1), TINY)
    seen: list[Figures] = []
    run.train(lambda done, figures, seconds: seen.append(figures), _quiet, until=12)
    assert sum(each.text_loss for each in seen[-4:]) < sum(each.text_loss for each in seen[:4])


def test_the_default_shape_has_six_and_a_half_million_parameters() -> None:
    with torch.device("meta"):
        made = new_model(Shape(), 0)
    assert sum(parameter.numel() for parameter in made.parameters()) == 6_524_160
