"""What is trained at which step: short lists first, long ones later; the learning rate; the tokens of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from rag.embedded_model.architecture import CONTEXT
from rag.embedded_model.examples import Example, ExampleWriter
from rag.embedded_model.lists import ListSource

TOKENS = 4096
"""Of a step of the last phase, padding not counted."""
PEAK, FLOOR = 2e-3, 0.05
"""Highest learning rate; the last as a share of it."""
WARM_UP, WARM_SHARE = 100, 0.1
"""Steps until it is reached, and at most this share of all."""
TEMPLATE_TOKENS = 192
"""Room for instruction, query and answer."""
MAX_LABELLED = 10
"""Passages of a listwise or setwise example."""

Mixture = dict[str, float]
FORMING: Mixture = {"attention": 0.85, "plain": 0.15}
"""Labels and answers can be learnt when heads have formed."""
MIXED: Mixture = {
    "attention": 0.6,
    "listwise": 0.12,
    "pairwise": 0.12,
    "yes-no": 0.04,
    "setwise": 0.03,
    "likelihood": 0.02,
    "plain": 0.07,
}
ENDING: Mixture = {
    "attention": 0.5,
    "listwise": 0.17,
    "pairwise": 0.17,
    "yes-no": 0.05,
    "setwise": 0.04,
    "likelihood": 0.02,
    "plain": 0.05,
}


@dataclass(frozen=True, slots=True)
class Phase:
    """Up to the share ``until`` of the steps: lists of so many passages, each of so many tokens at most.

    batch    tokens of a step as a share of the last phase's: short lists are many in few tokens
    easy     share of the negatives that are any passage, not one that looks like the query
    mixture  how often an example is of each kind
    """

    until: float
    passages: tuple[int, int]
    tokens: int
    batch: float
    easy: float
    mixture: Mixture


PHASES = (
    Phase(0.15, (6, 8), 40, 0.5, 0.5, FORMING),
    Phase(0.25, (6, 8), 48, 0.5, 0.2, FORMING),
    Phase(0.7, (8, 12), 72, 0.75, 0.2, MIXED),
    Phase(1.0, (14, 20), 96, 1.0, 0.15, ENDING),
)


def steps_for(tokens: int) -> int:
    """Steps that read about so many tokens in all."""
    begins = (0.0, *(each.until for each in PHASES))
    mean = sum(each.batch * (each.until - begin) for begin, each in zip(begins, PHASES, strict=False))
    return max(1, round(tokens / (mean * TOKENS)))


def phase(step: int, steps: int) -> Phase:
    return next(each for each in PHASES if step < each.until * steps or each is PHASES[-1])


def learning_rate(step: int, steps: int) -> float:
    """Linear to PEAK, then a half cosine to FLOOR of it."""
    warm = max(1, round(min(WARM_UP, WARM_SHARE * steps)))
    if step < warm:
        return PEAK * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return PEAK * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))


def examples_of(
    source: ListSource, writer: ExampleWriter, *, seed: int, step: int, steps: int, tokens: int = TOKENS
) -> list[Example]:
    """The examples of one step: they depend on the seed and the step alone, not on what was drawn before."""
    random = Random(f"{seed}:{step}")  # noqa: S311
    now = phase(step, steps)
    found: list[Example] = []
    total = 0
    while total < tokens * now.batch:
        fresh = draw(source, writer, random, now)
        found += fresh
        total += sum(len(example.ids) for example in fresh)
    return found


def draw(source: ListSource, writer: ExampleWriter, random: Random, now: Phase) -> list[Example]:
    """One example of a kind by the phase's mixture, two where it is asked in two ways."""
    (kind,) = random.choices(list(now.mixture), list(now.mixture.values()))
    if kind == "plain":
        return [writer.plain([source.plain(random) for _ in range(3)])]
    count = random.randint(*now.passages)
    # Lengths vary so that long passages in short lists are known too.
    longest = min(random.randint(now.tokens // 2, now.tokens), (CONTEXT - TEMPLATE_TOKENS) // count)
    if kind in ("listwise", "setwise"):
        count = min(count, random.randint(3, MAX_LABELLED))
    if kind in ("pairwise", "yes-no", "likelihood"):
        count, longest = 2, random.randint(32, 96)
    found = source.draw(random, count, longest, now.easy)
    match kind:
        case "attention":
            return [writer.attention(found, random, longest)]
        case "listwise":
            return [writer.listwise(found, random, longest)]
        case "setwise":
            return [writer.setwise(found, random, longest)]
        case "pairwise":
            return writer.pairwise(found, random, longest)
        case "yes-no":
            return writer.yes_no(found, random, longest)
        case _:
            return [writer.likelihood(found, random, longest)]
