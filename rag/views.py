"""The engine as one of several sees it: a tenant in a directory of its own, a key with some of the collections.

Whoever asks gets an Engine and cannot tell; so nothing that is built on an engine has to think of who asks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rag.assemble import Engine
from rag.caching import Caching
from rag.keys import ALL
from rag.pipeline import Pipeline

if TYPE_CHECKING:
    from indexes.collection import Collection
    from rag.encoders import SentenceEncoder
    from rag.runtime.batch_decode import BatchDecode
    from rag.runtime.reader import Reader

TENANTS = "tenants"
"""The folder of the home directory that holds the tenants' own home directories."""


class TenantEngine(Engine):
    """One tenant's engine: own directory, own names in the store of chunk states; the models are the process's."""

    def __init__(self, of: Engine, tenant: str) -> None:
        self._of = of
        super().__init__(replace(of.settings, home=of.home.root / TENANTS / tenant))
        self.caching = Caching(of.settings, of.language_model, of=of.caching, tenant=tenant)
        self._cross_encoders = of._cross_encoders

    @property
    def encoder(self) -> SentenceEncoder:
        return self._of.encoder

    def language_model(self, name: str = "") -> Reader:
        return self._of.language_model(name)

    def _decoder(self) -> BatchDecode:
        return self._of._decoder()


class NarrowEngine(Engine):
    """An engine of which only some collections are there; everything is its owner's.

    But for its pipelines and rerankers: they take no variants, whose states may come of passages of other collections.
    """

    variants = False

    def __init__(self, of: Engine, allowed: Sequence[str]) -> None:
        from indexes.narrow import NarrowHome

        self._of = of
        super().__init__(of.settings)
        self.home = NarrowHome(of.home.root, allowed)
        self.caching = of.caching
        self._cross_encoders = of._cross_encoders

    @property
    def encoder(self) -> SentenceEncoder:
        return self._of.encoder

    def language_model(self, name: str = "") -> Reader:
        return self._of.language_model(name)

    def collection(self, reference: str) -> Collection:
        self.home.resolve(reference)
        return self._of.collection(reference)

    def pipeline(
        self, collection: str, name: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Pipeline:
        self.settings.pipeline(name, overrides)
        self.home.resolve(collection)
        return super().pipeline(collection, name, overrides)

    def _decoder(self) -> BatchDecode:
        return self._of._decoder()


class Views:
    """The views of an engine, each made once. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._tenants: dict[str, Engine] = {"": engine}
        self._narrow: dict[tuple[str, tuple[str, ...]], Engine] = {}

    def tenant(self, name: str) -> Engine:
        """The engine of a tenant, "" for the one of the home directory itself."""
        with self._lock:
            if name not in self._tenants:
                self._tenants[name] = TenantEngine(self._engine, name)
            return self._tenants[name]

    def of(self, tenant: str, collections: tuple[str, ...]) -> Engine:
        """What a key of this tenant sees that may use these collections."""
        whole = self.tenant(tenant)
        if ALL in collections:
            return whole
        with self._lock:
            return self._narrow.setdefault((tenant, collections), NarrowEngine(whole, collections))

    def close(self) -> None:
        """Lets go of what the tenants have open; the engine itself is its owner's to close."""
        with self._lock:
            for name, engine in self._tenants.items():
                if name:
                    engine.caching.close()
