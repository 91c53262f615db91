"""Losses against plain twins, checkpoints, and the exported model in the product."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from rag.embedded_model.architecture import Shape, new_model
from rag.embedded_model.batches import Batch, batch, batches
from rag.embedded_model.examples import LABEL, Example
from rag.embedded_model.forward import hidden_states, masked
from rag.embedded_model.learner import Learner
from rag.embedded_model.run import Run, Settings
from rag.embedded_model.schedule import PEAK, examples_of, rates
from rag.embedded_model.steps import EMBEDDINGS, LOWER, PROBE, UPPER, Figures, optimizer_of, text_loss
from rag.errors import InvalidInput
from rag.language_model import LanguageModel
from rag.reranking.attention import AttentionReranker
from rag.reranking.given import Passage, as_given
from rag.values import Query
from tests.rag.embedded_model.worlds import TINY, Letters, corpus, source, writer
from tests.tiny_models import one_thread

__all__ = ["one_thread"]

SETTINGS = Settings(head_steps=2, steps=4, tokens=600, threads=1)


@pytest.fixture(scope="module")
def model() -> Any:
    made = new_model(TINY, 3)
    masked(made)
    return made


def _attention_examples(count: int, *, blocks: bool) -> list[Example]:
    random = Random(0)
    found: list[Example] = []
    while len(found) < count:
        example = writer().attention(source().draw(random, random.randint(3, 5), 24), random, 24)
        found.append(replace(example, blocks=blocks))
    return found


def test_a_query_does_not_see_another(model: Any) -> None:
    example = next(each for each in _attention_examples(9, blocks=False) if len(each.rows) > 1)
    start, end = example.rows[1]
    changed = replace(example, ids=(*example.ids[: example.rows[0][0]], 9, *example.ids[example.rows[0][0] + 1 :]))
    with torch.no_grad():
        a, b = (
            hidden_states(model, made.ids, made.positions, made.mask)[0] for made in map(_alone, (example, changed))
        )
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
        a, b = (
            hidden_states(model, made.ids, made.positions, made.mask)[0] for made in map(_alone, (example, changed))
        )
    assert torch.allclose(a[0, start:end], b[0, start:end], atol=1e-5)
    assert not torch.allclose(a[0, example.rows[0][0] :], b[0, example.rows[0][0] :], atol=1e-5)


def _learner(model: Any) -> Learner:
    torch.manual_seed(0)
    return Learner(model, TINY.width, 9, writer().label_tokens)


def test_marks_are_the_labels_of_the_passages_that_tokens_belong_to(model: Any) -> None:
    examples = examples_of(source(), writer(), seed=0, step=8, steps=10, tokens=20000)
    learner = _learner(model)
    kinds = set()
    for example in examples:
        made = batch([example])
        answers = [token for _, token, weight in example.targets if weight == LABEL]
        marked = dict(zip(made.marked.tolist(), made.marks.tolist(), strict=True))
        if example.kind in ("listwise", "setwise", "pairwise") or (example.kind == "attention" and not example.blocks):
            kinds.add(example.kind)
            assert set(answers) <= set(made.marks.tolist())
            assert all(
                start <= place < end
                for start, end, token in example.marks
                for place, of in marked.items()
                if of == token
            )
        with torch.no_grad():
            _, marks, figures = text_loss(learner, made, TINY)
            _, below = hidden_states(model, made.ids, made.positions, made.mask, max(TINY.by_layer))
            expected = 0.0
            for place, token in marked.items():
                told = learner.labels(below[0, place]) @ model.model.embed_tokens.weight[learner.tokens].T
                logs = (told / TINY.width**0.5).log_softmax(dim=0)
                expected -= float(logs[learner.tokens.tolist().index(token)])
        assert figures.marks == len(marked)
        assert marks.item() == pytest.approx(expected, rel=1e-4)
    assert kinds == {"attention", "listwise", "setwise", "pairwise"}


def test_the_text_loss_is_that_of_all_logits(model: Any) -> None:
    examples = examples_of(source(), writer(), seed=0, step=6, steps=10, tokens=6000)
    plain = [example for example in examples if not example.spans]
    assert len({example.kind for example in plain}) > 1
    with torch.no_grad():
        text, _, _ = text_loss(_learner(model), batch(plain), TINY)
        whole = [model(torch.tensor([example.ids])).logits[0].log_softmax(dim=-1) for example in plain]
    expected = 0.0
    for example, logits in zip(plain, whole, strict=True):
        expected -= sum(weight * float(logits[at, token]) for at, token, weight in example.targets)
    assert text.item() == pytest.approx(expected, rel=1e-4)


def test_batches_hold_every_example_once_and_no_more_than_allowed() -> None:
    examples = examples_of(source(), writer(), seed=0, step=1, steps=10, tokens=4000)
    made = list(batches(examples, most=800))
    assert sum(each.tokens for each in made) == sum(len(example.ids) for example in examples)
    assert sorted(kind for each in made for kind in each.kinds) == sorted(example.kind for example in examples)
    assert all(each.ids.numel() <= 800 or len(each.ids) == 1 for each in made)
    assert all((each.mask is not None) == (each.kinds[0] == "attention") for each in made)


def _quiet(*_: Any) -> None:
    return None


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", [corpus()], SETTINGS, TINY, encoder=Letters())
    whole.train(_quiet, _quiet)
    Run(tmp_path / "parts", [corpus()], SETTINGS, TINY, encoder=Letters()).train(_quiet, _quiet, until=2)
    resumed = Run(tmp_path / "parts", [corpus()], SETTINGS, TINY, resume=True, encoder=Letters())
    assert resumed.step == 2
    resumed.train(_quiet, _quiet)
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert [path.name for path in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-0000006"]


def test_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, [corpus()], SETTINGS, TINY, encoder=Letters())
    with pytest.raises(InvalidInput, match="--resume"):
        Run(tmp_path, [corpus()], SETTINGS, TINY, encoder=Letters())
    with pytest.raises(InvalidInput, match="other settings"):
        Run(tmp_path, [corpus()], replace(SETTINGS, seed=1), TINY, resume=True, encoder=Letters())


def test_the_exported_model_reranks_in_the_product(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    run = Run(tmp_path, [corpus()], replace(SETTINGS, head_steps=1, steps=1), TINY, encoder=Letters())
    run.train(_quiet, rows.append)
    assert rows[-1]["dev"].keys() >= {"ndcg@10 bm25", "ndcg@10 heads", "pairs", "letters of 8"}
    model = LanguageModel(str(tmp_path / "embedded"), device="cpu", dtype="float32")
    assert model.family.name == "embedded"
    assert model.tokenizer.start()[:1] == [0]
    reranker = AttentionReranker(model, heads="auto")
    ranking = reranker.rerank(Query("old ferry"), as_given([Passage("the old ferry"), Passage("a cliff")]))
    assert len(ranking.hits) == 2
    trained = dict(run.model.named_parameters())
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, trained[name].to(torch.bfloat16).float()), name


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = Run(tmp_path, [corpus()], Settings(head_steps=20, steps=40, tokens=1000, threads=1), TINY, encoder=Letters())
    seen: list[Figures] = []
    run.train(lambda done, figures, seconds: seen.append(figures), _quiet, until=32)
    heads, texts = [each.heads_loss for each in seen[:20]], [each.text_loss for each in seen[20:]]
    assert sum(heads[-4:]) < sum(heads[:4])
    assert sum(texts[-4:]) < sum(texts[:4])


def test_the_default_shape_has_six_and_a_half_million_parameters() -> None:
    with torch.device("meta"):
        made = new_model(Shape(), 0)
    assert sum(parameter.numel() for parameter in made.parameters()) == 6_524_160


def test_what_heads_depend_on_learns_at_a_rate_of_its_own() -> None:
    learner = _learner(new_model(TINY, 0))
    groups = optimizer_of(learner, TINY).param_groups
    part = {id(parameter): group["part"] for group in groups for parameter in group["params"]}
    named = {name: part[id(parameter)] for name, parameter in learner.named_parameters()}
    assert len(part) == len(named)
    assert named["model.model.embed_tokens.weight"] == EMBEDDINGS
    assert named["model.model.layers.0.mlp.up_proj.weight"] == LOWER
    assert named["model.model.layers.1.self_attn.k_proj.weight"] == LOWER
    assert named["model.model.layers.1.self_attn.v_proj.weight"] == UPPER
    assert named["model.model.norm.weight"] == UPPER
    assert named["probe.weight"] == named["labels.weight"] == PROBE


def test_rates_rise_and_fall_in_both_stages() -> None:
    forming = [rates(step, 200, 300) for step in range(200)]
    learning = [rates(step, 200, 300) for step in range(200, 500)]
    for stage, first in ((forming, LOWER), (learning, UPPER)):
        course = [each[first] for each in stage]
        top = course.index(max(course))
        assert max(course) == pytest.approx(PEAK, rel=0.3)
        assert course[:top] == sorted(course[:top])
        assert course[top:] == sorted(course[top:], reverse=True)
        assert course[-1] < 0.1 * PEAK
    assert all(each[EMBEDDINGS] > each[LOWER] for each in forming)
    assert all(each[EMBEDDINGS] == each[LOWER] < each[UPPER] for each in learning)
