"""The settings file's table for chunk-set selection: what counts in a set, and how long is searched."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from rag.errors import InvalidConfig
from rag.tables import MAX_DEADLINE_MS, MAX_K, MAX_PREFILL, in_range

SEARCHES = {
    "greedy": "greedy",
    "beam": "beam",
    "local": "local search",
    "mcts": "tree",
    "exact": "exact",
    "search": "portfolio",
}
"""A pipeline's ``select`` that weighs sets -> its searcher (rag.selection.portfolio)."""
PENALTIES = ("redundancy", "tokens", "order", "ttft")
"""Weights of what makes a set worse; all others are of what makes it better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """[selection.weights] How much each property of a chunk set counts. Benefits sum to 1 at most, penalties as well.

    Chosen on one half of 100 two-hop questions (HotpotQA) and 160 of 1,000 with one source (PubMedQA); a wide range
    of weights hardly differs there. A weight of 0 leaves a property out, and it costs nothing then.

    coverage      of the question's terms, by IDF
    entities      of titles that the question names
    subquestions  of the question's clauses; 0: they changed nothing beside terms
    relevance     gathered, discounted by rank, as a share of what the budget can hold
    bridge        a chunk names the title of another, and the question does not: the second hop
    likelihood    of the question given the set, by the language model; 0: it needs one, and is not measured
    redundancy    repeated text
    tokens        share of the budget, or of all candidates where they are less, but of 1,024 at least
    order         chunks in another order than the pipeline's, where sequences are searched
    ttft          expected time to the first token, by what of the set's states is cached, where generate = "local";
                  0: the state of a cache should not change answers unasked
    """

    coverage: float = 0.15
    entities: float = 0.25
    subquestions: float = 0.0
    relevance: float = 0.35
    bridge: float = 0.25
    likelihood: float = 0.0
    redundancy: float = 0.3
    tokens: float = 0.1
    order: float = 0.02
    ttft: float = 0.0

    def __post_init__(self) -> None:
        weights = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        for name, weight in weights.items():
            in_range(f"selection.weights.{name}", weight, 0.0, 1.0)
        penalties = sum(weights[name] for name in PENALTIES)
        benefits = sum(weights.values()) - penalties
        for kind, total in (("benefits", benefits), ("penalties", penalties)):
            if total > 1.0 + 1e-9:
                raise InvalidConfig(
                    f"selection.weights: the {kind} sum to {total:g}, which is at most 1; lower another one as well"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """[selection] How pipelines choose sets whose ``select`` is greedy, beam, local, mcts, exact or search.

    weights      what counts, see [selection.weights]
    depth        candidates that are weighed; a pipeline with a smaller k retrieves as many where no k is named
    most         chunks in a set
    evaluations, milliseconds, model_tokens  where a search stops, 0 for no limit; at least one of the first two is
                 set. With a time limit the same question may get another set
    similarity   how repetition is seen: minhash (of word pairs) or encoder (cosines; encodes every candidate)
    ordered      search sequences, not sets: of use where a term depends on the order (likelihood, ttft)
    passage_tokens  tokens of a chunk that the language model reads for the likelihood
    """

    weights: Weights = Weights()
    depth: int = 30
    most: int = 12
    evaluations: int = 1200
    milliseconds: float = 0.0
    model_tokens: int = 0
    similarity: Literal["minhash", "encoder"] = "minhash"
    ordered: bool = False
    passage_tokens: int = 256

    def __post_init__(self) -> None:
        in_range("selection.depth", self.depth, 1, MAX_K)
        in_range("selection.most", self.most, 1, MAX_K)
        in_range("selection.evaluations", self.evaluations, 0, 10_000_000)
        in_range("selection.milliseconds", self.milliseconds, 0, MAX_DEADLINE_MS)
        in_range("selection.model_tokens", self.model_tokens, 0, MAX_PREFILL)
        in_range("selection.passage_tokens", self.passage_tokens, 1, 100_000)
        if not (self.evaluations or self.milliseconds):
            raise InvalidConfig("selection.evaluations = 0 and selection.milliseconds = 0; one of them limits a search")
