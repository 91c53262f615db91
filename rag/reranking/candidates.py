"""The passages of a ranking that a language model reads, as token ids, and the way back to a Ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag.reranking.passages import prompt_text
from rag.reranking.prompts import Form
from rag.reranking.stage import reranked
from rag.runtime.meter import Meter
from rag.runtime.reader import Reader
from rag.runtime.tokens import Ids
from rag.values import Hit, Ranking, ScoreKind


@dataclass(frozen=True, slots=True)
class Candidates:
    """The hits among the ``depth`` best whose passages have text.

    places  where they stand among the depth best, ascending;  texts  title and text of each
    """

    ranking: Ranking
    head: tuple[Hit, ...]
    places: tuple[int, ...]
    texts: tuple[str, ...]

    def encoded(self, reader: Reader, form: Form, longest: int, together: int) -> tuple[list[Ids], tuple[str, ...]]:
        """(ids of each passage, notes), cut at ``longest`` tokens (0: whole) and so that ``together`` fit a prompt.

        Only a model whose context is too short for the instruction and the query refuses such a prompt.
        """
        room = max(1, (reader.context - form.overhead(together)) // together)
        limit = min(longest or room, room)
        found = reader.tokenizer.encode_many([form.blank + text for text in self.texts])
        cut = sum(len(ids) > limit for ids in found)
        notes = (f"{cut} passages were cut at {limit} tokens",) if cut else ()
        return [ids[:limit] for ids in found], (*form.notes, *notes)

    def scored(
        self,
        scores: Sequence[float | None],
        *,
        kind: ScoreKind,
        started: float,
        meter: Meter,
        bound: float = 1.0,
        degraded: str = "",
        notes: tuple[str, ...] = (),
    ) -> Ranking:
        """The ranking by new scores, one a candidate; those with None and hits without text stay behind."""
        table = dict(zip(self.places, scores, strict=True))
        return reranked(
            self.ranking,
            [table.get(place) for place in range(len(self.head))],
            stage="rerank",
            kind=kind,
            started=started,
            bound=bound,
            meter=meter,
            degraded=degraded,
            notes=notes,
        )

    def ordered(
        self, order: Sequence[int], *, started: float, meter: Meter, degraded: str = "", notes: tuple[str, ...] = ()
    ) -> Ranking:
        """The ranking in the order of the candidates' numbers: n for the first, 1 for the last of n."""
        scores = [0.0] * len(order)
        for rank, candidate in enumerate(order):
            scores[candidate] = float(len(order) - rank)
        bound = float(max(1, len(order)))
        return self.scored(
            scores, kind=ScoreKind.RANK, bound=bound, started=started, meter=meter, degraded=degraded, notes=notes
        )


def candidates(ranking: Ranking, depth: int) -> Candidates:
    """What may be read of the ``depth`` best."""
    head = ranking.hits[:depth]
    texts = [prompt_text(hit.chunk) for hit in head]
    places = tuple(place for place, text in enumerate(texts) if text)
    return Candidates(ranking, head, places, tuple(texts[place] for place in places))
