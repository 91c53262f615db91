"""The [jobs] table: what the server takes in as jobs, and how many it works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rag.errors import InvalidConfig
from rag.tables import in_range


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsConfig:
    """[jobs] Documents that are taken in by the server, beside its answers.

    running   jobs that are under way together;  at_once  how many of them work at a time, turn by turn
    slice_ms  how long one works before those that wait have their turn
    queued    jobs that may wait, and uploads that may come in at once, more are told to come back
    folders   folders of the server that jobs may read, with all that is in them; none: no job reads the server's disk.
              With keys they are for those of scope admin and of no tenant
    max_upload_mb, max_files  the largest upload, and the most files in it
    max_documents  the most documents of one job
    min_free_mb    what stays free on the disk: uploads end before
    keep_days, keep  how long, and how many, jobs that are over are remembered
    read_ahead  where [cache] has a mode, the language model reads the new chunks as the job's last step
    """

    running: int = 4
    at_once: int = 1
    slice_ms: float = 1000.0
    queued: int = 100
    folders: tuple[str, ...] = ()
    max_upload_mb: int = 4096
    max_files: int = 10_000
    max_documents: int = 1_000_000
    min_free_mb: int = 512
    keep_days: float = 7.0
    keep: int = 1000
    read_ahead: bool = True

    def __post_init__(self) -> None:
        in_range("jobs.running", self.running, 0, 64)
        in_range("jobs.at_once", self.at_once, 1, 64)
        in_range("jobs.slice_ms", self.slice_ms, 1, 3_600_000)
        in_range("jobs.queued", self.queued, 1, 100_000)
        in_range("jobs.max_upload_mb", self.max_upload_mb, 1, 10_000_000)
        in_range("jobs.max_files", self.max_files, 1, 10_000_000)
        in_range("jobs.max_documents", self.max_documents, 1, 1_000_000_000)
        in_range("jobs.min_free_mb", self.min_free_mb, 0, 1_000_000_000)
        in_range("jobs.keep_days", self.keep_days, 0, 36_500)
        in_range("jobs.keep", self.keep, 0, 1_000_000)
        for folder in self.folders:
            if not Path(folder).is_absolute() or folder == Path(folder).anchor:
                raise InvalidConfig(f"jobs.folders: {folder!r}; name folders by their absolute paths")
