"""BEIR corpora: a folder with ``corpus.jsonl``, as the benchmark's archives unpack."""

from __future__ import annotations

from pathlib import Path

from indexes.errors import SourceError
from indexes.readers.jsonl import Jsonl

CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")


def corpus_in(folder: Path) -> Path | None:
    """The corpus file of a BEIR folder, None where the folder holds none."""
    return next((folder / name for name in CORPUS if (folder / name).is_file()), None)


class Beir(Jsonl):
    """The corpus of a BEIR folder: rows of ``_id``, ``title``, ``text`` and, optional, ``metadata``.

    Raises SourceError where the folder has no corpus file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        corpus = corpus_in(self.folder)
        if corpus is None:
            raise SourceError(f"no {CORPUS[0]} in {str(self.folder)!r}; name the folder that holds it")
        super().__init__(corpus)

    @property
    def name(self) -> str:
        return f"beir:{self.folder}"
