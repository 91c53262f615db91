"""Prompts that compare or score passages, as token segments: text that was found is inert, beginnings are shared.

Each maker takes a reader and a query and gives the Form of its prompts. A query is cut at MAX_QUERY_TOKENS, a passage
by whoever encodes it, an instruction never. Pieces are encoded on their own: no text changes the ids of its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from rag.errors import ModelNotAvailable
from rag.reranking.passages import BLANKS
from rag.runtime.prompt import Prompt, Role, Segment
from rag.runtime.reader import Reader
from rag.runtime.tokens import Control, Ids, PromptTokenizer

MAX_QUERY_TOKENS = 128
SET_LABELS = ascii_uppercase[:23]
"""A to W, as in ielab/llm-rankers."""
LIST_LABELS = ascii_uppercase[:20]
"""A to T: one window of FIRST."""


@dataclass(frozen=True, slots=True)
class Form:
    """The prompts of one kind for one query.

    write   the prompt of some passages' ids, in the order in which they are shown
    labels  the token at the answer's place for each label, in the order of the passages; none for a likelihood
    blank   what the text of a passage begins with, so that it is encoded as it stands in the prompt
    notes   that the query was cut, where it was
    """

    write: Callable[[Sequence[Ids]], Prompt]
    labels: tuple[int, ...] = ()
    blank: str = ""
    notes: tuple[str, ...] = ()

    def overhead(self, passages: int) -> int:
        """Tokens of a prompt of that many passages, without the passages."""
        return len(self.write([[]] * passages).ids)


def pairwise(reader: Reader, query: str) -> Form:
    """Which of two passages is more relevant (PRP's prompt in ielab/llm-rankers); labels A and B behind "Passage".

    Shared: everything up to passage A, with it and without it.
    """
    tokenizer = reader.tokenizer
    asked, notes = _query(tokenizer, query)
    head = (
        _template(tokenizer.start(Control(reader.family.chat.user), 'Given a query "')),
        asked,
        _template(
            tokenizer.encode('", which of the following two passages is more relevant to the query?\n\nPassage A: "')
        ),
    )
    middle = _template(tokenizer.encode('"\n\nPassage B: "'))
    answer = _answer(reader, "Passage")
    end = _template(tokenizer.encode('"\n\nOutput Passage A or Passage B:', *answer))

    def write(passages: Sequence[Ids]) -> Prompt:
        first, second = passages
        return Prompt((*head, _passage(first), middle, _passage(second), end), shared=len(head) + 1)

    return Form(write, label_ids(tokenizer, (" A", " B"), answer), notes=notes)


def setwise(reader: Reader, query: str, count: int) -> Form:
    """Which of up to ``count`` passages is the most relevant (ielab/llm-rankers, setwise); labels A, B ... as above.

    Shared: everything up to the first passage, with it and without it.
    """
    tokenizer = reader.tokenizer
    asked, notes = _query(tokenizer, query)
    head = (
        _template(tokenizer.start(Control(reader.family.chat.user), 'Given a query "')),
        asked,
        _template(
            tokenizer.encode(
                '", which of the following passages is the most relevant one to the query?\n\nPassage A: "'
            )
        ),
    )
    labels = SET_LABELS[:count]
    between = [_template(tokenizer.encode(f'"\n\nPassage {label}: "')) for label in labels[1:]]
    answer = _answer(reader, "Passage")
    end = _template(tokenizer.encode('"\n\nOutput only the passage label of the most relevant passage:', *answer))

    def write(passages: Sequence[Ids]) -> Prompt:
        first, *others = passages
        shown = [part for label, ids in zip(between, others, strict=False) for part in (label, _passage(ids))]
        return Prompt((*head, _passage(first), *shown, end), shared=len(head) + 1)

    return Form(write, label_ids(tokenizer, [f" {label}" for label in labels], answer), notes=notes)


def listwise(reader: Reader, query: str, count: int) -> Form:
    """The order of up to ``count`` passages [A], [B] ... (RankLLM's prompt with letters); the answer begins with "[".

    FIRST (Reddy et al., EMNLP 2024) ranks by the letters' scores as the first token. Shared: what precedes passage A.
    """
    tokenizer = reader.tokenizer
    asked, notes = _query(tokenizer, query, " ")
    labels = LIST_LABELS[:count]
    marks = [_template(tokenizer.encode(f"{'.' if label == 'A' else ''}\n[{label}]")) for label in labels]
    again = _template(tokenizer.encode("\nSearch Query:"))
    answer = _answer(reader, "[")

    def write(passages: Sequence[Ids]) -> Prompt:
        n = len(passages)
        start = tokenizer.start(
            Control(reader.family.chat.user),
            f"I will provide you with {n} passages, each indicated by an alphabetical identifier []. "
            "Rank the passages based on their relevance to the search query:",
        )
        end = tokenizer.encode(
            f".\nRank the {n} passages above based on their relevance to the search query. All the passages should be "
            "included and listed using identifiers, in descending order of relevance. The output format should be "
            "[] > [], e.g., [B] > [A]. Only respond with the ranking results, do not say any word or explain.",
            *answer,
        )
        shown = [part for mark, ids in zip(marks, passages, strict=False) for part in (mark, _passage(ids))]
        return Prompt((_template(start), asked, *shown, again, asked, _template(end)), shared=3)

    return Form(write, label_ids(tokenizer, labels, answer), blank=BLANKS["listwise"], notes=notes)


def yes_no(reader: Reader, query: str) -> Form:
    """Whether a passage answers the query (pointwise yes-no of ielab/llm-rankers, query first); labels Yes and No.

    Shared: what precedes the passage.
    """
    tokenizer = reader.tokenizer
    asked, notes = _query(tokenizer, query)
    start = _template(tokenizer.start(Control(reader.family.chat.user), 'Given a query "'))
    middle = _template(tokenizer.encode('", does the following passage answer the query?\n\nPassage: "'))
    blank = _blank(reader)
    answer = (Control(reader.family.chat.assistant),)
    end = _template(tokenizer.encode('"\n\nAnswer Yes or No:', *answer))

    def write(passages: Sequence[Ids]) -> Prompt:
        (passage,) = passages
        return Prompt((start, asked, middle, _passage(passage), end), shared=3)

    return Form(write, label_ids(tokenizer, [f"{blank}Yes", f"{blank}No"], answer), notes=notes)


def likelihood(reader: Reader, query: str) -> Form:
    """The query as the question that a model writes about a passage (UPR, Sachan et al., EMNLP 2022); it comes last."""
    tokenizer = reader.tokenizer
    asked, notes = _query(tokenizer, query, _blank(reader))
    start = _template(tokenizer.start(Control(reader.family.chat.user), "Passage:"))
    order = "\nPlease write a question based on this passage."
    end = _template(tokenizer.encode(order, Control(reader.family.chat.assistant)))

    def write(passages: Sequence[Ids]) -> Prompt:
        (passage,) = passages
        return Prompt((start, _passage(passage), end, asked), shared=1)

    return Form(write, blank=BLANKS["likelihood"], notes=notes)


def label_ids(
    tokenizer: PromptTokenizer, labels: Sequence[str], before: Sequence[str | Control] = ()
) -> tuple[int, ...]:
    """The first token of each label as it is written behind ``before``, the beginning of an answer.

    Where a label changes the tokens before it, its own first token. Raises ModelNotAvailable where two labels begin
    with the same token: their scores could not be told apart.
    """
    lead = tokenizer.encode(*before)
    found: dict[int, str] = {}
    for label in labels:
        whole = tokenizer.encode(*before, label)
        ids = whole[len(lead) :] if whole[: len(lead)] == lead else tokenizer.encode(label)
        if not ids or ids[0] in found:
            twin = f"{found[ids[0]]!r} and {label!r} begin" if ids else f"{label!r} does not begin"
            raise ModelNotAvailable(
                f"labels {twin} with {'the same' if ids else 'a'} token of this model's tokenizer; "
                "choose another model, or a reranker without labels"
            )
        found[ids[0]] = label
    return tuple(found)


def _answer(reader: Reader, beginning: str) -> tuple[Control, str]:
    """The model's turn with the first characters of its answer."""
    return Control(reader.family.chat.assistant), _blank(reader) + beginning


def _blank(reader: Reader) -> str:
    """A blank where the model's turn begins inside a line of plain text."""
    return " " if reader.family.chat.assistant.endswith(":") else ""


def _query(tokenizer: PromptTokenizer, query: str, blank: str = "") -> tuple[Segment, tuple[str, ...]]:
    ids = tokenizer.encode(blank + query.strip())
    cut = len(ids) > MAX_QUERY_TOKENS
    notes = (f"the query was cut from {len(ids)} to {MAX_QUERY_TOKENS} tokens",) if cut else ()
    return Segment(tuple(ids[:MAX_QUERY_TOKENS]), Role.QUERY), notes


def _template(ids: Ids) -> Segment:
    return Segment(tuple(ids))


def _passage(ids: Ids) -> Segment:
    return Segment(tuple(ids), Role.PASSAGE)
