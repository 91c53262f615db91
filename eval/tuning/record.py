"""The record of a tuning run: what was tried on which split, and whether a pipeline's settings come from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.beir import Dataset
from eval.kept_rows import fingerprint
from eval.tuning.space import SELECT
from rag.config import PipelineConfig, Settings
from rag.errors import InvalidInput, SourceError
from rag.selection_table import SEARCHES, Weights

MARK, FORMAT = "kvasir_tuning", 1
FOLDER = "tuning"
"""Of the home directory: a copy of every record, by the pipeline's name."""
LARGEST = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a record says that a later run has to know.

    pipeline  the name that the settings were given;  chosen  the tuned keys;  settings  all keys of the pipeline
    qrels     digest of the judgements of dataset and split
    """

    file: Path
    pipeline: str
    dataset: str
    split: str
    qrels: str
    chosen: Mapping[str, Any]
    settings: Mapping[str, Any]

    def made(self, name: str, config: PipelineConfig, weights: Weights) -> bool:
        """True where a pipeline has the chosen values and either the record's name or all its other keys."""
        said, known = _plain(asdict(config)), asdict(weights)
        chosen = all(
            known.get(key.removeprefix(SELECT)) == value if key.startswith(SELECT) else said.get(key) == value
            for key, value in self.chosen.items()
        )
        if any(key.startswith(SELECT) for key in self.chosen) and config.select not in SEARCHES:
            return False
        return chosen and (name == self.pipeline or said == self.settings)

    def of(self, dataset: Dataset) -> bool:
        """True for the split that was tuned on, whatever its folder is called."""
        return (self.dataset, self.split) == (dataset.name, dataset.split) or self.qrels == fingerprint(dataset.qrels)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back: tuples are lists there."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def read_record(file: Path) -> Record:
    """Raises InvalidInput for what is no record, SourceError for what cannot be read."""
    try:
        if file.stat().st_size > LARGEST:
            raise InvalidInput(f"{file} has more than {LARGEST} bytes; that is no record of kvasir-eval tune")
        said = json.loads(file.read_text(encoding="utf-8"))
        if said[MARK] != FORMAT:
            raise InvalidInput(f"{file} is a record of form {said[MARK]}, read is {FORMAT}; tune again")
        return Record(
            file=file,
            pipeline=str(said["pipeline"]),
            dataset=str(said["dataset"]),
            split=str(said["split"]),
            qrels=str(said["qrels"]),
            chosen=dict(said["chosen"]["point"]),
            settings=dict(said["settings"]),
        )
    except OSError as error:
        raise SourceError(f"cannot read {str(file)!r}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file} is no record of kvasir-eval tune ({error!r}); delete it, or tune again") from error


def record_file(home: Path, name: str) -> Path:
    """Where a home directory keeps the record of a pipeline."""
    return home / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.json"


def beside(config: Path | None) -> Path | None:
    """The record that ``tune --out`` writes beside a settings file, None where there is none."""
    file = None if config is None else config.expanduser().with_suffix(".json")
    if file is None or not file.is_file():
        return None
    head = file.read_bytes()[:200]
    return file if MARK.encode() in head else None


def records(home: Path, config: Path | None = None) -> list[Record]:
    """The home directory's records, and the one beside a settings file."""
    folder = home.expanduser() / FOLDER
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if (own := beside(config)) is not None:
        files.append(own)
    return [read_record(file) for file in files]


def refuse_tuned(
    settings: Settings,
    known: Iterable[Record],
    name: str | None,
    overrides: Mapping[str, Any],
    dataset: Dataset,
    *,
    allow: bool = False,
    far: bool = False,
) -> str:
    """A note for a pipeline that was tuned on this split, "" for any other; ``far`` knows a pipeline by name alone.

    Raises InvalidInput for a tuned one unless that is allowed.
    """
    pipeline = name or settings.default_pipeline
    for record in known:
        if not record.of(dataset):
            continue
        if far:
            made = pipeline == record.pipeline
        else:
            config = settings.pipeline(pipeline, overrides)
            made = record.made(pipeline, config, settings.selection.weights)
        if made and not allow:
            raise InvalidInput(
                f"pipeline {pipeline!r} was tuned on {dataset.name} {dataset.split} ({record.file}), so its figures "
                "there are too good; report another split, or mark them with --allow-tuned"
            )
        if made:
            return f"TUNED ON THIS SPLIT ({record.file.name}): these figures are too good, report none of them"
    return ""
