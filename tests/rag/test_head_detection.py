"""Finding heads: a reader with one head that looks where it should, and the measures beside plain twins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import nDCG

from rag.errors import InvalidInput
from rag.reranking.head_detection import Criterion, Example, _contrast, _ndcg, detect
from rag.reranking.heads import head_set, published, write
from rag.runtime.lexical import LexicalReader
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array
from tests.tiny_models import loaded

GOOD = (1, 2)


class OneGoodHead(LexicalReader):
    """Every head looks at tokens by chance, GOOD also at the words of the question."""

    @property
    def shape(self) -> tuple[int, int]:
        return 3, 4

    def head_attention(self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter) -> list[Array]:
        found = []
        for suffix in suffixes:
            chance = np.random.default_rng(len(prefix.ids) + len(suffix.ids))
            heads = chance.random((3, 4, len(prefix.ids)), dtype=np.float32) / np.float32(len(prefix.ids))
            (words,) = super().attention(prefix, [suffix], meter)
            heads[GOOD] = words / np.float32(max(1.0, float(words.sum())))
            found.append(heads)
        return found


EXAMPLES = [
    Example("lighthouse height", ["ferry times", "the lighthouse and its height", "cheese", "puffins"], frozenset({1})),
    Example("cheese farms", ["ferry times", "lighthouse", "cheese of two farms", "cliffs"], frozenset({2})),
    Example("ferry winter", ["ferry in winter", "lighthouse", "cheese", "cliffs"], frozenset({0})),
]


@pytest.mark.parametrize("criterion", ["qrhead", "core"])
def test_the_head_that_looks_at_the_answer_is_found(criterion: Criterion, tmp_path: Path) -> None:
    chosen, values = detect(OneGoodHead(), EXAMPLES, criterion=criterion, size=3)
    assert chosen.heads[0] == GOOD
    assert values.shape == (3, 4)
    assert values.max() == values[GOOD]
    write(tmp_path / "found.toml", chosen)
    again = head_set(str(tmp_path / "found.toml"))
    assert (again.heads, again.model, again.fingerprint) == (chosen.heads, chosen.model, chosen.fingerprint)


@pytest.mark.parametrize("criterion", ["qrhead", "core"])
def test_a_real_model_gives_a_set_of_the_published_size(criterion: Criterion) -> None:
    chosen, values = detect(loaded("qwen3"), EXAMPLES, criterion=criterion)
    assert len(chosen.heads) == {"qrhead": 8, "core": 8}[criterion]  # 2 layers of 4 heads have no 16
    assert np.isfinite(values).all()
    assert chosen.source == f"{criterion} criterion over 3 examples"


def test_examples_without_a_relevant_passage_or_too_long_are_left_out() -> None:
    with pytest.raises(InvalidInput, match="no example has a relevant passage and fits"):
        detect(loaded("llama"), [Example("q", ["a"], frozenset()), Example("q", ["word " * 500] * 40, frozenset({0}))])


def test_ndcg_is_that_of_ir_measures() -> None:
    chance = np.random.default_rng(7)
    scores = chance.random((15, 2, 3))
    found = _ndcg(scores, [3, 11])
    qrels = [ir_measures.Qrel("q", "3", 1), ir_measures.Qrel("q", "11", 1)]
    for layer, head in np.ndindex(2, 3):
        run = [ir_measures.ScoredDoc("q", str(i), float(scores[i, layer, head])) for i in range(15)]
        assert found[layer, head] == pytest.approx(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10])


def test_contrast_is_the_relevant_share_of_a_softmax() -> None:
    mass = np.log(np.array([1.0, 2.0, 5.0])).reshape(3, 1, 1)
    assert _contrast(mass, [2])[0, 0] == pytest.approx(5 / 8)


def test_published_sets_have_their_published_sizes() -> None:
    sizes = {name: len(chosen.heads) for name, chosen in published().items()}
    assert {size for name, size in sizes.items() if name.startswith("qrhead")} == {16}
    assert {size for name, size in sizes.items() if name.startswith("core")} == {8}
    assert published()["core-llama-3.1-8b"].by_layer()[13] == (1, 13, 18, 21)
