"""What is trained at which step: short lists first, long ones later; the learning rate; the tokens of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from rag.embedded_model.architecture import CONTEXT
from rag.embedded_model.examples import Example, ExampleWriter
from rag.embedded_model.lists import ListSource
from rag.embedded_model.steps import EMBEDDINGS, LOWER, PROBE, UPPER
from rag.embedded_model.topic_batch import TopicBatch, topic_batch
from rag.embedded_model.topics import TopicSource

TOKENS = 3072
"""Of the texts of a step of the last phase, padding not counted."""
PEAK, FLOOR = 2e-3, 0.05
"""Highest learning rate; the last as a share of it."""
FAST, SLOW = 3.0, 0.25
"""While the heads are formed, the embeddings' rate as a share of the others': they are of size 1, matrices of size
1/16. While texts are learnt, the rate of what the heads depend on as a share of the layers' above."""
WARM_UP, WARM_SHARE = 50, 0.1
"""Steps until the rate is reached, and at most this share of a stage."""
HEAD_TOPICS, TEXT_TOPICS = 2, 1
"""Topics of a step while heads are formed, and while texts are learnt."""
TOPIC_TOKENS = (128, 192, 256)
"""Of a passage of a topic at most, one of them for each step."""
JOINT_SHARE, JOINT_TOKENS = 0.25, 110
"""How often a topic's passages are read in one sequence, and how long they are then at most."""
TEMPLATE_TOKENS = 192
"""Room for instruction, query and answer."""
MAX_LABELLED = 10
"""Passages of a listwise or setwise example."""

Mixture = dict[str, float]
BEGINNING: Mixture = {"attention": 0.45, "listwise": 0.2, "pairwise": 0.2, "plain": 0.15}
MIXED: Mixture = {
    "attention": 0.3,
    "listwise": 0.25,
    "pairwise": 0.2,
    "yes-no": 0.06,
    "setwise": 0.06,
    "likelihood": 0.05,
    "plain": 0.08,
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
    Phase(0.2, (3, 6), 32, 0.6, 0.7, BEGINNING),
    Phase(0.5, (4, 8), 48, 0.8, 0.35, BEGINNING),
    Phase(0.75, (6, 10), 72, 1.0, 0.2, MIXED),
    Phase(1.0, (8, 12), 96, 1.0, 0.15, MIXED),
)


def phase(step: int, steps: int) -> Phase:
    return next(each for each in PHASES if step < each.until * steps or each is PHASES[-1])


def rates(step: int, head_steps: int, steps: int) -> dict[str, float]:
    """Of each part: linear to PEAK, then while heads are formed linear, while texts are learnt a half cosine, down."""
    if step < head_steps:
        rate = PEAK * _warm(step, head_steps) * max(FLOOR, 1 - step / head_steps)
        return {EMBEDDINGS: FAST * rate, LOWER: rate, UPPER: rate, PROBE: rate}
    step -= head_steps
    rate = PEAK * _warm(step, steps) * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * step / steps)))
    return {EMBEDDINGS: SLOW * rate, LOWER: SLOW * rate, UPPER: rate, PROBE: rate}


def _warm(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1, round(min(WARM_UP, WARM_SHARE * steps))))


def topics_of(
    source: TopicSource, writer: ExampleWriter, *, seed: int, step: int, count: int, device: str = "cpu"
) -> TopicBatch:
    """The topics of one step: they depend on the seed and the step alone."""
    random = Random(f"topics:{seed}:{step}")  # noqa: S311
    joint = random.random() < JOINT_SHARE
    longest = min(random.choice(TOPIC_TOKENS), JOINT_TOKENS if joint else CONTEXT)
    topics = [source.draw(random) for _ in range(count)]
    return topic_batch(topics, writer, longest, joint=joint, device=device)


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
