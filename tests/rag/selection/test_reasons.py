"""Reasons: every candidate has one, and its figures are differences of utilities that can be redone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rag.choice import Choice
from rag.entry import Entries
from rag.selection.problem import Limits
from rag.selection.search import SetSelector
from rag.selection.utility import WeightedSum
from rag.values import Chunk, Hit, Query, Ranking, ScoreKind, StageReport
from tests.fakes import HashingEncoder

HASHING = HashingEncoder()
QUESTION = Query("ferry tickets winter")
TEXTS = (
    ("the ferry leaves every hour from the old pier", 0.9),
    ("the ferry leaves every hour from the old pier", 0.8),
    ("tickets are sold aboard in winter", 0.5),
    ("vellum is made of calf skin and lasts long", 0.1),
    ("fog " * 60, 0.05),
    (" ", 0.04),
    ("a ferry too far down to be weighed", 0.01),
)


def ranking() -> Ranking:
    hits = [Hit(Chunk(f"d{i}", f"d{i}", text, 0, len(text)), score) for i, (text, score) in enumerate(TEXTS)]
    return Ranking(tuple(hits), ScoreKind.COSINE, StageReport("test"))


def chosen_by(selector: SetSelector, budget: int) -> tuple[Choice, WeightedSum]:
    given = ranking()
    choice = selector.select(QUESTION, given, budget).choice
    assert choice is not None
    return choice, selector.utility(selector.pool(QUESTION, given, given.hits[:5], budget))


def value(utility: WeightedSum, *selection: int) -> float:
    return utility([selection])[0] if selection else 0.0


def test_every_candidate_is_chosen_or_rejected_once_by_rank() -> None:
    choice, _ = chosen_by(SetSelector(count=Entries(HASHING), depth=5), 40)
    assert [w.chunk_id for w in choice.chosen] == ["d0", "d2"]
    assert [w.chunk_id for w in choice.rejected] == ["d1", "d3", "d4", "d5", "d6"]
    assert [w.by for w in choice.rejected] == ["redundancy", "tokens", "size", "empty", "depth"]


def test_gains_are_what_the_utility_changes_by() -> None:
    """40 tokens hold d0 and d2 with 17, and one more; what is chosen is compared with the set without it."""
    choice, utility = chosen_by(SetSelector(count=Entries(HASHING), depth=5), 40)
    here = value(utility, 0, 2)
    assert choice.utility == pytest.approx(here)
    expected = [here - value(utility, 2), here - value(utility, 0)]
    assert [w.gain for w in choice.chosen] == pytest.approx(expected)
    assert [w.gain for w in choice.rejected[:2]] == pytest.approx(
        [value(utility, 0, 1, 2) - here, value(utility, 0, 2, 3) - here]
    )
    for weighed in (*choice.chosen, *choice.rejected):
        assert sum(weighed.terms.values()) == pytest.approx(weighed.gain)
    assert [w.by for w in choice.chosen] == ["relevance", "coverage"]
    assert all(w.terms[w.by] == max(w.terms.values()) for w in choice.chosen)


def test_without_room_a_candidate_is_compared_in_place_of_another() -> None:
    """17 tokens hold d0 and d2 and nothing beside them: d1 fits in place of d0, its copy, or of d2 not at all."""
    choice, utility = chosen_by(SetSelector(count=Entries(HASHING), depth=5), 17)
    copy = choice.rejected[0]
    assert (copy.chunk_id, copy.instead_of) == ("d1", "d0")
    assert copy.gain == pytest.approx(value(utility, 1, 2) - value(utility, 0, 2))


def test_what_fits_in_no_place_is_kept_out_by_the_budget() -> None:
    """Entries of 3, 3 and 5 tokens, a budget of 6: the third fits alone, but beside neither of the others."""
    texts = (("ferry tickets", 0.9), ("winter tickets", 0.8), ("ferry in the fog", 0.7))
    hits = [Hit(Chunk(f"d{i}", f"d{i}", text, 0, len(text)), score) for i, (text, score) in enumerate(texts)]
    given = Ranking(tuple(hits), ScoreKind.COSINE, StageReport("test"))
    choice = SetSelector(count=Entries(HASHING)).select(QUESTION, given, 6).choice
    assert choice is not None
    assert [w.chunk_id for w in choice.chosen] == ["d0", "d1"]
    assert [(w.chunk_id, w.by, w.gain) for w in choice.rejected] == [("d2", "budget", 0.0)]
    one = SetSelector(count=Entries(HASHING), most=1).select(QUESTION, given, 6).choice
    assert one is not None
    assert [(w.chunk_id, w.instead_of) for w in one.rejected] == [("d1", "d0"), ("d2", "d0")]


def test_a_search_that_was_stopped_says_so() -> None:
    choice, _ = chosen_by(SetSelector(count=Entries(HASHING), depth=5, limits=Limits(evaluations=1)), 40)
    assert choice.end == "limit"
    assert choice.evaluations == 1
    assert "limit" in [w.by for w in choice.rejected]


def plain(choice: Choice) -> Sequence[tuple[float, tuple[str, ...]]]:
    return [(best.utility, best.chunk_ids) for best in choice.bests]


def test_the_best_sets_rise_from_the_empty_one_to_the_chosen_one() -> None:
    choice, utility = chosen_by(SetSelector(count=Entries(HASHING), depth=5), 40)
    assert plain(choice)[0] == (0.0, ())
    assert plain(choice)[-1] == (choice.utility, ("d0", "d2"))
    values = [best.utility for best in choice.bests]
    assert values == sorted(values)
    for best in choice.bests[1:]:
        assert best.utility == pytest.approx(value(utility, *(int(name[1:]) for name in best.chunk_ids)))


def test_the_tree_can_be_drawn_from_its_parents() -> None:
    choice, utility = chosen_by(SetSelector(count=Entries(HASHING), depth=5), 40)
    assert (choice.tree[0].parent, choice.tree[0].added) == (-1, "")
    sets: list[tuple[str, ...]] = [()]
    for branch in choice.tree[1:]:
        sets.append(tuple(sorted((*sets[branch.parent], branch.added))))
        assert branch.utility == pytest.approx(value(utility, *(int(name[1:]) for name in sets[-1])))
    assert len(set(sets)) == len(sets)
    assert choice.end == "optimal"
