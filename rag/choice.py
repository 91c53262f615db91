"""Why a set of chunks was chosen: values that a selector hands on, and that traces, explanations and pages show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BestSet:
    """From this evaluation on the best set known was this one."""

    evaluations: int
    utility: float
    chunk_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate and what speaks for or against it.

    gain   chosen: what the set would lose without it; rejected: what the set would gain by it, at most rounding
    by     chosen: the term that speaks for it most; rejected: what kept it out, a term, or one of
           budget (it fits neither beside the others nor in place of one), size (larger than the budget),
           most (the set is full), limit (the search stopped before), depth (ranked too low to be weighed),
           empty (no text); rank where a selector takes chunks by rank
    terms  what each term adds to the gain, weight and sign included
    instead_of  the chosen chunk it was compared in place of, "" where it was compared beside all of them
    """

    chunk_id: str
    gain: float = 0.0
    by: str = ""
    terms: Mapping[str, float] = field(default_factory=dict)
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of the search tree: the parent's set and one more chunk.

    parent   place of the parent in the tree, -1 for the root, the empty set, whose ``added`` is ""
    utility  of this set;  best  the largest below;  visits  times the search came through
    closed   whether nothing is left to look at below it
    """

    parent: int
    added: str
    utility: float
    best: float
    visits: int
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a selector weighed and how it came to its set.

    selector     its name in pipelines;  utility  of the set chosen
    evaluations  sets that were valued;  tokens  that a language model computed for it
    end          optimal (all sets are accounted for), complete (the searcher came to its own end), limit, or fill
                 where sets were not compared
    bests        the best set so far, from the empty one on
    chosen, rejected  every candidate once, each by rank
    tree         of selectors that grow one, parents first
    """

    selector: str
    utility: float = 0.0
    evaluations: int = 0
    tokens: int = 0
    end: str = "fill"
    bests: tuple[BestSet, ...] = ()
    chosen: tuple[Weighed, ...] = ()
    rejected: tuple[Weighed, ...] = ()
    tree: tuple[Branch, ...] = ()
