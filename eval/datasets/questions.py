"""Question sets with answers, each question with paragraphs of its own, brought into BEIR's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.datasets.folder import new_folder, write_qrels, write_rows
from eval.datasets.tables import field, rows
from rag.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with the paragraphs it was published with.

    answers     what counts as right, empty where it cannot be answered
    paragraphs  title and text of each;  support  numbers of those that it needs, from 0
    """

    id: str
    text: str
    answers: Sequence[str]
    paragraphs: Sequence[tuple[str, str]]
    support: Sequence[int]


Reader = Callable[[dict[str, Any], str], Question]


def import_questions(form: str, source: Path, out: Path) -> int:
    """A BEIR folder of a JSON or JSON Lines file; returns how many documents it has.

    A paragraph that several questions share is one document. Answers stand in the queries' metadata. A question that
    no paragraph supports is kept without a judgement.
    Raises InvalidInput with file and line for what is not of the form, and where no question has a supporting one.
    """
    if form not in FORMS:
        raise InvalidInput(f"no form {form!r}; choose of: {', '.join(FORMS)}")
    documents: dict[tuple[str, str], str] = {}
    queries: dict[str, dict[str, Any]] = {}
    judged: dict[tuple[str, str], int] = {}
    for place, row in rows([source]):
        asked = FORMS[form](row, place)
        if asked.id in queries:
            raise InvalidInput(f"{place}: question {asked.id!r} comes twice")
        names = [documents.setdefault(paragraph, f"d{len(documents) + 1}") for paragraph in asked.paragraphs]
        if wrong := [number for number in asked.support if not 0 <= number < len(names)]:
            raise InvalidInput(f"{place}: paragraph {wrong[0]} is said to support, there are {len(names)}")
        answer = asked.answers[0] if asked.answers else None
        said = {"answer": answer, "answers": list(asked.answers)}
        queries[asked.id] = {"_id": asked.id, "text": asked.text, "metadata": said}
        judged.update({(asked.id, names[number]): 1 for number in asked.support})
    if not judged:
        raise InvalidInput(f"{source} holds no question with a paragraph that supports it")
    with new_folder(out) as made:
        write_rows(
            made / "corpus.jsonl",
            ({"_id": name, "title": title, "text": text} for (title, text), name in documents.items()),
        )
        write_rows(made / "queries.jsonl", queries.values())
        write_qrels(made, "test", ((query, doc, grade) for (query, doc), grade in judged.items()))
    return len(documents)


def _hotpotqa(row: dict[str, Any], place: str) -> Question:
    """HotpotQA and 2WikiMultihopQA: ``context`` of title and sentences, ``supporting_facts`` of title and sentence."""
    context = [(str(title), "".join(sentences).strip()) for title, sentences in field(row, "context", place)]
    needed = {str(title) for title, _ in field(row, "supporting_facts", place)}
    return Question(
        id=str(field(row, "_id", place)),
        text=str(field(row, "question", place)),
        answers=stated(field(row, "answer", place), place),
        paragraphs=context,
        support=[number for number, (title, _) in enumerate(context) if title in needed],
    )


def _musique(row: dict[str, Any], place: str) -> Question:
    """MuSiQue: ``paragraphs`` with ``is_supporting``; ``answerable`` false leaves the question without answers."""
    paragraphs = field(row, "paragraphs", place)
    answers = [*stated(field(row, "answer", place), place), *stated(row.get("answer_aliases"), place)]
    return Question(
        id=str(field(row, "id", place)),
        text=str(field(row, "question", place)),
        answers=answers if row.get("answerable", True) else [],
        paragraphs=[(str(each["title"]), str(each["paragraph_text"])) for each in paragraphs],
        support=[number for number, each in enumerate(paragraphs) if each.get("is_supporting")],
    )


def _pubmedqa(row: dict[str, Any], place: str) -> Question:
    """PubMedQA a line: ``pubid``, ``question``, ``context.contexts``, ``final_decision`` of yes, no, maybe."""
    context = field(row, "context", place)
    texts = context["contexts"] if isinstance(context, dict) else context
    return Question(
        id=str(field(row, "pubid", place)),
        text=str(field(row, "question", place)),
        answers=[str(field(row, "final_decision", place))],
        paragraphs=[("", "\n".join(map(str, texts)))],
        support=[0],
    )


def _own(row: dict[str, Any], place: str) -> Question:
    """One's own: ``id``, ``question``, ``paragraphs`` of title and text, ``support`` of numbers from 0.

    Answers are a list ``answers``, or one string as ``answer`` or ``answers``.
    """
    return Question(
        id=str(field(row, "id", place)),
        text=str(field(row, "question", place)),
        answers=_said(row, place),
        paragraphs=[(str(each.get("title", "")), str(each["text"])) for each in field(row, "paragraphs", place)],
        support=[int(number) for number in field(row, "support", place)],
    )


def _checked(reader: Reader) -> Reader:
    """The reader with every broken row named by its place."""

    def read(row: dict[str, Any], place: str) -> Question:
        try:
            return reader(row, place)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"{place} is not of that form: {error!r}") from error

    return read


FORMS: dict[str, Reader] = {
    "hotpotqa": _checked(_hotpotqa),
    "2wiki": _checked(_hotpotqa),
    "musique": _checked(_musique),
    "pubmedqa": _checked(_pubmedqa),
    "questions": _checked(_own),
}


def answers(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Each query of a BEIR folder's queries.jsonl with its answers, for those that say any; empty: unanswerable.

    Raises InvalidInput with file and line for answers of another type.
    """
    for place, row in rows([file]):
        said = row.get("metadata") or {}
        if not isinstance(said, dict):
            raise InvalidInput(f"{place}: metadata is {said!r}; write an object of names and values")
        if "answers" in said or "answer" in said:
            yield str(field(row, "_id", place)), _said(said, place)


def _said(row: dict[str, Any], place: str) -> list[str]:
    """What ``answers`` holds, else ``answer``."""
    many = row.get("answers")
    return stated(row.get("answer") if many is None else many, place)


def stated(value: object, place: str) -> list[str]:
    """Answers given as a string or a list of strings; null is none. Raises InvalidInput for other types."""
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(answer, str) for answer in listed):
        raise InvalidInput(f"{place}: {value!r} as answers; write a string, or a list of strings ([]: unanswerable)")
    return listed
