"""How the queries of a long run are asked, and where their rows are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.kept_rows import KeptRows, fingerprint
from eval.server import Server
from rag.errors import InvalidInput

MAX_JOBS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How the queries of a run are asked.

    jobs   queries under way at a time;  rows  where they are kept as they come, so that a killed run goes on
    fresh  begin anew, whatever the file holds
    url, key, timeout  a server's address, key and patience in seconds; the library is asked where there is no address
    """

    jobs: int = 1
    rows: Path | None = None
    fresh: bool = False
    url: str = ""
    key: str = ""
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= MAX_JOBS:
            raise InvalidInput(f"jobs = {self.jobs}; take 1 to {MAX_JOBS}")
        if not 0.1 <= self.timeout <= 86_400:
            raise InvalidInput(f"timeout = {self.timeout:g}; it lies between 0.1 and 86400 seconds")
        if self.fresh and self.rows is None:
            raise InvalidInput("--fresh begins a file of rows anew; name it with --rows FILE")

    def kept(self, made_by: Mapping[str, Any]) -> KeptRows:
        """The rows that are there already, if what made them is the same. Raises InvalidInput where it is not."""
        return KeptRows(self.rows, fingerprint(made_by), fresh=self.fresh)

    def server(self) -> Server:
        """The server of the address."""
        return Server(self.url, key=self.key, timeout=self.timeout, connections=self.jobs)


AT_ONCE = Running()
