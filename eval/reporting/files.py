"""Writes a report into a folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from eval.reporting.content import Content
from eval.reporting.mteb import task_result
from eval.reporting.page import page
from eval.reporting.plots import plots
from eval.reporting.text import latex, markdown
from eval.trec import format_run
from indexes.durable import write_atomic
from rag.errors import InvalidInput

PAGE = "report.html"


def write_report(content: Content, folder: Path, *, language: str = "eng-Latn", png: bool = False) -> list[Path]:
    """The files that were written, the page first; those of an earlier report of the same systems are replaced.

    report.html holds everything. Beside it: report.md with its plots as SVG (and PNG with ``png``), table.tex,
    systems.csv and queries.csv (the plots' data), comparison.json, mteb/SYSTEM.json and runs/SYSTEM.trec.
    Raises InvalidInput where there is no place for the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{str(folder)!r} is a file; name a folder for the report with --out")
    if not folder.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {str(folder.parent)!r} to make {folder.name!r} in; make it first")
    stems = _stems(content.names)
    runs, refused = _runs(content, stems)
    content, drawn = replace(content, notes=[*content.notes, *refused]), plots(content, png=png)
    made: dict[str, str] = {PAGE: page(content, drawn), "report.md": markdown(content, drawn)}
    made |= {f"{plot.name}.svg": plot.svg for plot in drawn}
    made |= {"table.tex": latex(content), "systems.csv": _systems(content), "queries.csv": _queries(content)}
    if content.comparison is not None:
        made["comparison.json"] = json.dumps(content.comparison.as_json(), ensure_ascii=False, indent=1)
    for system, stem in zip(content.systems, stems, strict=True):
        mteb = task_result(system, content.scores[system.name], content.qrels, language=language)
        made[f"mteb/{stem}.json"] = json.dumps(mteb, indent=1)
    made |= runs
    whole = {name: text.encode() for name, text in made.items()}
    whole |= {f"{plot.name}.png": plot.png for plot in drawn if plot.png}
    for name, written in whole.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, written)
    return [folder / name for name in whole]


def _runs(content: Content, stems: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The TREC runs by file name, and why one is left out: ids with blanks have no place in that form."""
    runs, refused = {}, []
    for system, stem in zip(content.systems, stems, strict=True):
        try:
            runs[f"runs/{stem}.trec"] = "".join(format_run(system.run, stem))
        except InvalidInput as error:
            refused.append(f"{system.name}: no TREC run was written; {error}")
    return runs, refused


def _stems(names: Sequence[str]) -> list[str]:
    """A file's stem for each system: its name with what a file or a run's tag cannot hold made a dash."""
    stems: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "system"
        number, stem = 1, plain
        while stem in stems:
            number += 1
            stem = f"{plain}-{number}"
        stems.append(stem)
    return stems


def _systems(content: Content) -> str:
    """A row a system: every measure, then every cost, empty where it is not known."""
    costs = ("p50", "p95", "tokens", "decoded", "cache_share", "memory", "index", "build_seconds")
    rows = [
        [name, *content.scores[name].values.values(), *(getattr(content.costs[name], cost) for cost in costs)]
        for name in content.names
    ]
    return _csv([["name", *content.measures, *costs], *rows])


def _queries(content: Content) -> str:
    """A row a system, query and measure."""
    return _csv(
        [
            ["name", "qid", "measure", "value"],
            *(
                [name, query_id, measure, value]
                for name in content.names
                for query_id, values in content.scores[name].per_query.items()
                for measure, value in values.items()
            ),
        ]
    )


def _csv(rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
