"""Writes a test collection in BEIR's layout, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.trec import BEIR_HEADER
from indexes.durable import space_needed
from rag.errors import InvalidInput


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` at the end; nothing is left where filling it fails.

    Raises InvalidInput where ``out`` is there already or has no place.
    """
    if out.exists():
        raise InvalidInput(f"{str(out)!r} is there already; name a folder that is not")
    if not out.absolute().parent.is_dir():
        raise InvalidInput(f"there is no folder {str(out.parent)!r} to make {out.name!r} in; make it first")
    beside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with space_needed(out.absolute().parent):
            (beside / "qrels").mkdir(parents=True)
            yield beside
            beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """JSON Lines; returns how many."""
    count = 0
    with file.open("w", encoding="utf-8", errors="replace", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_qrels(folder: Path, split: str, judged: Iterable[tuple[str, str, int]]) -> None:
    """A split's judgements: query id, document id, grade."""
    lines = ["\t".join(BEIR_HEADER), *(f"{query}\t{doc}\t{grade}" for query, doc, grade in judged)]
    (folder / "qrels" / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
