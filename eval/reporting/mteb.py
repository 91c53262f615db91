"""A system's scores in the form of MTEB's result files."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any

from eval.measures import Scores
from eval.systems import System
from eval.trec import Qrels

NAMES = {"nDCG": "ndcg", "R": "recall", "AP": "map", "RR": "mrr", "P": "precision"}
"""ir-measures' name of a measure with a cutoff to MTEB's."""


def task_result(system: System, scores: Scores, qrels: Qrels, *, language: str = "eng-Latn") -> dict[str, Any]:
    """MTEB's TaskResult of one system: the first measure is the main score.

    A measure with no name there keeps that of ir-measures. ``mteb_version`` is None: no MTEB made it. The revision
    is a digest of the judgements, since a folder knows no other.
    """
    values = {_name(measure): value for measure, value in scores.values.items()}
    entry = {"hf_subset": "default", "languages": [language], "main_score": next(iter(values.values())), **values}
    return {
        "dataset_revision": _digest(qrels),
        "task_name": system.facts.dataset or "unknown",
        "mteb_version": None,
        "scores": {system.facts.split or "test": [entry]},
        "evaluation_time": round(sum(system.seconds.values()), 3),
        "kg_co2_emissions": None,
    }


def _name(measure: str) -> str:
    found = re.fullmatch(r"([A-Za-z]+)@(\d+)", measure)
    return f"{NAMES[found[1]]}_at_{found[2]}" if found and found[1] in NAMES else measure


def _digest(qrels: Qrels) -> str:
    """The same for the same judgements in any order."""
    rows = sorted((query, doc, grade) for query, grades in qrels.items() for doc, grade in grades.items())
    return "qrels-" + blake2b(json.dumps(rows).encode(), digest_size=8).hexdigest()
