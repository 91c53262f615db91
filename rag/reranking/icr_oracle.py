"""Checks attention reranking against expected values: a folder of models and ``cases.jsonl``, as tests share them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rag.errors import InvalidInput, KvasirError
from rag.reranking.heads import HeadSet
from rag.reranking.icr import IcrPrompt, IcrTemplate, document_ids, head_scores, icr_prompt, icr_scores
from rag.runtime.meter import Meter
from rag.runtime.prompt import Prompt, Segment
from rag.runtime.reader import Heads, Reader

TOLERANCE = 1e-5
"""Largest difference of a score, absolute, in float32."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case. ``problems`` is empty where it passed; ``difference`` is the largest of its scores."""

    id: str
    difference: float
    same_order: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    cases: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        return bool(self.cases) and all(not case.problems for case in self.cases)

    @property
    def difference(self) -> float:
        return max((case.difference for case in self.cases), default=0.0)

    @property
    def same_order(self) -> int:
        return sum(case.same_order for case in self.cases)


def verify(directory: Path, load: Callable[[Path], Reader], seen: Callable[[CaseResult], None] | None = None) -> Report:
    """Run every case with the models beside it; ``load`` makes a reader in float32 of a model's folder."""
    models: dict[str, Reader] = {}
    results = []
    for number, case in _cases(directory / "cases.jsonl"):
        try:
            name = case["model"]
            if name not in models:
                models[name] = load(directory / name)
            results.append(_run(models[name], case))
        except KvasirError as error:
            results.append(CaseResult(_name(case, number), float("inf"), False, (str(error),)))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            why = f"the case lacks or misstates {error}"
            results.append(CaseResult(_name(case, number), float("inf"), False, (why,)))
        if seen:
            seen(results[-1])
    return Report(tuple(results))


def _name(case: Any, number: int) -> str:
    return str(case["id"]) if isinstance(case, dict) and "id" in case else f"case {number}"


def _cases(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    if not path.is_file():
        raise InvalidInput(f"there is no {path}; an oracle is a folder with cases.jsonl and the models it names")
    cases = []
    lines = path.read_text(encoding="utf-8").split("\n")  # no splitlines: texts may hold other line ends
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cases.append((number, json.loads(line)))
        except ValueError as error:
            raise InvalidInput(f"{path}, line {number} is not JSON: {error}") from error
    return cases


def _run(model: Reader, case: Mapping[str, Any]) -> CaseResult:
    expected, problems = case["expected"], []
    prompt = _prompt(model, case)
    if expected.get("boundary_merge", False):
        prompt = _given(expected)
    else:
        problems += _differing_ids(prompt, expected)
    meter = Meter()
    attention, calibration = model.attention(prompt.prefix, [prompt.query, prompt.calibration], meter, _heads(case))
    scores = icr_scores(attention, calibration, prompt.spans)
    difference = _largest(scores, expected["scores"])
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    if not difference <= TOLERANCE:
        problems.append(f"scores differ by {difference:.1e}")
    if order != expected["ranking"]:
        problems.append(f"ranking {order}, expected {expected['ranking']}")
    counts = expected["n_tokens"]
    if meter.prefill != counts["shared_prefix"] + counts["query_rows"] + counts["na_rows"]:
        problems.append(f"{meter.prefill} tokens were computed")
    if "per_head_scores" in expected:
        heads = model.head_attention(prompt.prefix, [prompt.query, prompt.calibration], Meter())
        apart = _largest(head_scores(heads[0], heads[1], prompt.spans), expected["per_head_scores"])
        difference = max(difference, apart)
        if not apart <= TOLERANCE:
            problems.append(f"scores of single heads differ by {apart:.1e}")
    return CaseResult(case["id"], difference, order == expected["ranking"], tuple(problems))


def _prompt(model: Reader, case: Mapping[str, Any]) -> IcrPrompt:
    p = case["prompt"]
    template = IcrTemplate(
        p["prefix"],
        p["separator"],
        p["suffix"],
        p["late_instruction"],
        p["intro"],
        p["query_label"],
        p["calibration_query"],
    )
    order = list(range(len(case["documents"])))
    if case["reverse_doc_order"]:
        order.reverse()
    place = {index: at for at, index in enumerate(order, start=1)}
    documents = [document_ids(model.tokenizer, text, place[i]) for i, text in enumerate(case["documents"])]
    return icr_prompt(model.tokenizer, template, case["query"], documents, order)


def _given(expected: Mapping[str, Any]) -> IcrPrompt:
    """The prompt by the case's own ids, where encoding piece by piece cannot give them."""
    start = expected["query_span"][0]

    def of(ids: Sequence[int]) -> Prompt:
        return Prompt((Segment(tuple(ids)),))

    return IcrPrompt(
        of(expected["token_ids"][:start]),
        tuple((a, b) for a, b in expected["doc_spans"]),
        of(expected["token_ids"][start:]),
        of(expected["na_token_ids"][start:]),
    )


def _differing_ids(prompt: IcrPrompt, expected: Mapping[str, Any]) -> list[str]:
    start = len(prompt.prefix.ids)
    found = {
        "token_ids": list(prompt.prefix.ids + prompt.query.ids),
        "na_token_ids": list(prompt.prefix.ids + prompt.calibration.ids),
        "doc_spans": [list(span) for span in prompt.spans],
        "query_span": [start, start + len(prompt.query.ids)],
        "na_query_span": [start, start + len(prompt.calibration.ids)],
    }
    return [f"{name} differ" for name, value in found.items() if value != expected[name]]


def _heads(case: Mapping[str, Any]) -> Heads | None:
    if case["heads"] == "all":
        return None
    return HeadSet(case["id"], tuple((layer, head) for layer, head in case["heads"])).by_layer()


def _largest(found: Any, expected: Any) -> float:
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max(initial=0.0))
