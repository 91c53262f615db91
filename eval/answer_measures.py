"""What an answer is worth beside the known ones, its citations and its context beside the gold documents. Pure."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScores:
    """One question's values in [0, 1], None where a value has no meaning there.

    exact, f1, contains  beside the known answers; of an unanswerable question 1 where it was not answered, else 0
    abstained            1 where no answer was given
    citation_precision   share of the cited documents that are gold, None where nothing is cited
    citation_recall      share of the gold documents that are cited;  None where none is gold
    support_recall       share of the gold documents in the context;  context_precision  share of the context's
                         documents that are gold, None for an empty context
    """

    exact: float
    f1: float
    contains: float
    abstained: float
    citation_precision: float | None
    citation_recall: float | None
    support_recall: float | None
    context_precision: float | None


def score_answer(
    text: str | None,
    answers: Sequence[str],
    *,
    cited: Collection[str] = (),
    context: Collection[str] = (),
    gold: Collection[str] = (),
) -> AnswerScores:
    """The values of one answer; ``text`` is None where none was given, ``answers`` empty where there is none.

    cited, context, gold  document ids, of which each counts once
    """
    given = "" if text is None else text
    if answers:
        exact, f1, contains = (
            max(measure(given, known) for known in answers) for measure in (exact_match, token_f1, contained)
        )
    else:
        exact = f1 = contains = float(text is None)
    return AnswerScores(
        exact=exact,
        f1=f1,
        contains=contains,
        abstained=float(text is None),
        citation_precision=share(gold, cited),
        citation_recall=share(cited, gold),
        support_recall=share(context, gold),
        context_precision=share(gold, context),
    )


def normal(text: str) -> list[str]:
    """Words in small letters without punctuation and articles (Rajpurkar et al., EMNLP 2016, SQuAD's evaluation)."""
    bare = "".join(letter for letter in text.lower() if letter not in _PUNCTUATION)
    return _ARTICLES.sub(" ", bare).split()


def exact_match(text: str, known: str) -> float:
    """1 where both have the same words in the same order."""
    return float(normal(text) == normal(known))


def token_f1(text: str, known: str) -> float:
    """Harmonic mean of precision and recall of words, counted as often as they occur; two empty texts agree."""
    said, wanted = normal(text), normal(known)
    if not said or not wanted:
        return float(said == wanted)
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted))


def contained(text: str, known: str) -> float:
    """1 where the known answer's words stand in the text one after the other."""
    said, wanted = normal(text), normal(known)
    return float(any(said[at : at + len(wanted)] == wanted for at in range(len(said) - len(wanted) + 1)))


def share(hits: Collection[str], of: Collection[str]) -> float | None:
    """Share of ``of`` that is among ``hits``, None of nothing."""
    counted = set(of)
    return len(counted & set(hits)) / len(counted) if counted else None


def mean(values: Sequence[float | None]) -> tuple[float, int]:
    """The mean of those that have a value, and how many they are; 0.0 of none."""
    known = [value for value in values if value is not None]
    return (sum(known) / len(known) if known else 0.0), len(known)
