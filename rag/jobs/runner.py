"""The threads that work on jobs: whose turn it is, what a crash left, and how a job ends."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from filelock import FileLock, Timeout

from rag.assemble import Engine
from rag.errors import CollectionBusy, KvasirError
from rag.jobs.control import Control, JobCancelled, JobSuspended
from rag.jobs.record import Job, State
from rag.jobs.spool import sweep
from rag.jobs.store import FILE, JobNotFound, JobStore
from rag.jobs.turns import Turns
from rag.jobs.work import Work
from rag.views import TENANTS, Views

log = logging.getLogger(__name__)

T = TypeVar("T")

FOLDER = "jobs"
MAX_STALLS = 5
"""A job during which the server ended so often, without any progress between, is given up."""
_IDLE_SECONDS = 0.5
_BUSY_SECONDS = 1.0
_SWEEP_SECONDS = 600.0
_JOIN_SECONDS = 30.0


class Runner:
    """Works on the jobs of a home directory and of its tenants, some at a time; other processes may do the same.

    A job belongs to who holds the lock on its file, which the system takes back from a process that dies.
    """

    def __init__(self, engine: Engine, views: Views, ready: Callable[[], bool] = lambda: True) -> None:
        """``ready``  jobs wait until it is true."""
        self._root, self._views, self._ready = engine.home.root, views, ready
        self.settings = engine.settings.jobs
        self._turns = Turns(self.settings.at_once, self.settings.slice_ms / 1e3)
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._stores: dict[str, JobStore] = {}
        self._running: dict[str, tuple[str, str]] = {}
        self._later: dict[str, float] = {}
        self._troubled: set[str] = set()
        self._swept = 0.0
        self._threads = [
            threading.Thread(target=self._loop, name=f"kvasir-job-{i}", daemon=True)
            for i in range(self.settings.running)
        ]

    # --- what the doors ask ---

    def store(self, home: Path) -> JobStore:
        """The jobs of a home directory, a tenant's or the server's own."""
        tenant = home.name if home.parent == self._root / TENANTS else ""
        return self._store(tenant)

    def wake(self) -> None:
        """A job has come."""
        self._wake.set()

    def cancel(self, store: JobStore, job_id: str) -> None:
        """Have a job stopped; of one that nobody has begun, what was sent is gone at once. Raises JobNotFound."""
        lock = FileLock(store.directory / f"{job_id}.lock")
        if store.cancel(job_id).over:
            with suppress(Timeout):  # whoever holds it clears up
                lock.acquire(timeout=0)
                shutil.rmtree(store.directory / job_id, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()

    def counts(self) -> dict[State, int]:
        """Jobs of everybody by state."""
        found: Counter[State] = Counter()
        for tenant in self._tenants():
            with self._lock:
                found.update(self._asked(tenant, JobStore.counts) or {})
        return dict(found)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Have all jobs stop where they are; the next server goes on with them."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)
        with self._lock:
            for store in self._stores.values():
                store.close()
            self._stores.clear()

    # --- whose turn it is ---

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                claimed = self._next() if self._ready() else None
                if claimed is not None:
                    self._work(*claimed)
                    continue
            except Exception:
                log.exception("jobs: the next one could not be begun")
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()

    def _next(self) -> tuple[str, Job, FileLock] | None:
        """The oldest job of who has the fewest under way, and the lock on it."""
        with self._lock:
            self._sweep()
            busy = Counter(tenant for tenant, _ in self._running.values())
            waiting = [
                (busy[tenant], job.id, tenant, job)
                for tenant in self._tenants()
                for job in self._asked(tenant, JobStore.unfinished) or ()
                if self._is_free(tenant, job)
            ]
            for _, _, tenant, job in sorted(waiting, key=lambda one: one[:2]):
                lock = FileLock(self._directory(tenant) / f"{job.id}.lock")
                with suppress(Timeout):
                    lock.acquire(timeout=0)
                    fresh = self._asked(tenant, partial(JobStore.get, job_id=job.id))
                    if fresh is None or fresh.over:
                        lock.release()
                        continue
                    self._running[job.id] = (tenant, job.collection)
                    return tenant, fresh, lock
        return None

    def _is_free(self, tenant: str, job: Job) -> bool:
        """One job a collection at a time; one that found it busy waits a little."""
        later = self._later.get(job.id, 0.0) > time.monotonic()
        return not later and (tenant, job.collection) not in self._running.values()

    def _tenants(self) -> list[str]:
        """Who has jobs at all, "" for the home directory itself."""
        own = [""] if (self._root / FOLDER / FILE).is_file() else []
        found = (path.parent.parent.name for path in (self._root / TENANTS).glob(f"*/{FOLDER}/{FILE}"))
        return [*own, *sorted(found)]

    def _directory(self, tenant: str) -> Path:
        return (self._root / TENANTS / tenant if tenant else self._root) / FOLDER

    def _store(self, tenant: str, *, held: bool = False) -> JobStore:
        if held:
            if tenant not in self._stores:
                self._stores[tenant] = JobStore(self._directory(tenant))
            return self._stores[tenant]
        with self._lock:
            return self._store(tenant, held=True)

    def _asked(self, tenant: str, question: Callable[[JobStore], T]) -> T | None:
        """What one tenant's store says; None from one that cannot be used, which is nobody else's trouble.

        The lock is held. The log tells of it once, until the store can be used again.
        """
        try:
            said = question(self._store(tenant, held=True))
        except JobNotFound:  # forgotten meanwhile
            return None
        except (KvasirError, OSError, sqlite3.Error, msgspec.DecodeError) as error:
            if tenant not in self._troubled:
                self._troubled.add(tenant)
                log.error("jobs of %s rest: %s", f"tenant {tenant}" if tenant else "the server", error)
            return None
        self._troubled.discard(tenant)
        return said

    def _sweep(self) -> None:
        """Forget old jobs and what nobody needs any more, now and then."""
        if self._swept and time.monotonic() - self._swept < _SWEEP_SECONDS:
            return
        self._swept = time.monotonic()
        for tenant in self._tenants():
            self._asked(tenant, self._swept_out)

    def _swept_out(self, store: JobStore) -> None:
        store.prune(older=time.time() - self.settings.keep_days * 86_400, keep=self.settings.keep)
        sweep(store.directory, {job.id for job in store.unfinished()}, store.over)

    # --- a job ---

    def _work(self, tenant: str, job: Job, lock: FileLock) -> None:
        store = self._store(tenant)
        try:
            changes = self._run(tenant, job, store)
            with suppress(JobNotFound):
                if store.update(job.id, **changes).over:
                    shutil.rmtree(store.directory / job.id, ignore_errors=True)
                    Path(lock.lock_file).unlink(missing_ok=True)
        finally:
            with self._lock:
                del self._running[job.id]
            lock.release()
            self.wake()

    def _run(self, tenant: str, job: Job, store: JobStore) -> dict[str, object]:
        """How the job stands afterwards."""
        engine = self._views.tenant(tenant)
        stalls = job.stalls + 1 if job.state == "running" and job.mark == _mark(job) else 0
        if stalls > MAX_STALLS:
            return _ended("failed", error=f"the server ended {stalls} times while it ran, without progress between")
        begun = job.started or time.time()
        store.update(job.id, state="running", started=begun, stalls=stalls, mark=_mark(job), error="")
        control = Control(store, job.id, self._turns, self._stopping)
        try:
            self._turns.take(control.check)
            try:
                notes = Work(engine, store, job, control).run()
            finally:
                self._turns.give()
                control.flush()
            return _ended("done", notes=notes)
        except JobCancelled:
            return _ended("cancelled")
        except JobSuspended:
            return {"state": "queued", "rate": 0.0, "stalls": 0}
        except CollectionBusy:
            self._later[job.id] = time.monotonic() + _BUSY_SECONDS
            return {"state": "queued", "rate": 0.0, "stalls": 0}
        except KvasirError as error:
            return _ended("failed", error=str(error).replace(str(engine.home.root), "$KVASIR_HOME"))
        except Exception:
            log.exception("job %s failed", job.id)
            return _ended("failed", error=f"the server failed at job {job.id}; its log says more under this id")


def _ended(state: State, **more: object) -> dict[str, object]:
    return {"state": state, "finished": time.time(), "rate": 0.0, "stalls": 0} | more


def _mark(job: Job) -> str:
    return f"{job.step}:{job.done}:{job.version}"
