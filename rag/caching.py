"""The chunk states of a process: one store, and of each language model one library and a reader a mode."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rag.config import LEXICAL, CacheConfig, Settings
from rag.errors import CacheUnavailable, CollectionError, InvalidConfig, ModelNotAvailable
from rag.kv.gate import AUTO, Choice, Gate
from rag.kv.modes import parse_mode
from rag.kv.verdicts import STORED, Bounds, Verdicts

if TYPE_CHECKING:
    from indexes.changes import Change
    from indexes.collection import Collection
    from indexes.corpus import Document
    from indexes.encoding import TextEncoder
    from rag.kv.library import ChunkLibrary
    from rag.kv.reader import CachedReader
    from rag.kv.tiered import TieredStore
    from rag.reranking.attention import CalibrationCache
    from rag.reranking.passages import PassageForm
    from rag.runtime.reader import Reader
    from rag.runtime.tokens import PromptTokenizer
    from rag.values import Chunk

log = logging.getLogger(__name__)

OFF = "off"
MODELS = "chunk_state_models.txt"
"""In the home directory: the models whose states were ever stored from here, a line each."""
_AT_ONCE = 256

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Values that were deleted, and why some may still be there, "" where none is."""

    values: int = 0
    trouble: str = ""


class Caching:
    """What of [cache] a process has open. Threads may share it; nothing is opened before it is asked for."""

    def __init__(
        self,
        settings: Settings,
        model: Callable[[str], Reader],
        opened: Callable[[], Iterable[Reader]] = tuple,
        *,
        of: Caching | None = None,
        tenant: str = "",
    ) -> None:
        """``model`` gives a language model by name, "" for the configured one; ``opened`` those the process has.

        of, tenant  the same store under names of this tenant: nobody else's states are found, nor can it find theirs
        """
        self._settings, self._model, self._of, self._tenant = settings, model, of, tenant
        self._opened: Callable[[], Iterable[Reader]] = opened if of is None else of._opened
        self._home = settings.home.expanduser()
        self._lock = threading.RLock()
        self._config: CacheConfig | None = None
        self._store: TieredStore | None = None
        self._libraries: dict[str, ChunkLibrary] = {}
        self._readers: dict[tuple[str, str, bool], CachedReader] = {}
        self._calibrations: CalibrationCache | None = None

    @property
    def config(self) -> CacheConfig:
        """[cache] with its store decided. Raises InvalidConfig."""
        if self._of is not None:
            return self._of.config
        with self._lock:
            if self._config is None:
                from rag.kv.opening import open_store

                self._config = self._settings.caching()
                self._store = open_store(self._config, self._home)
                if self._store is not None:
                    weakref.finalize(self, self._store.close)
            return self._config

    @property
    def store(self) -> TieredStore | None:
        """Where states are kept, None for nowhere. Raises InvalidConfig."""
        if self._of is not None:
            return self._of.store
        return self._store if self.config else None

    def looked(self) -> dict[str, tuple[int, int]]:
        """Keys asked for and found by tier, the fastest first; empty while no store is open."""
        store = self._store
        return dict(store.looked) if store is not None else {}

    def close(self) -> None:
        """Lets go of the store; what asks for it next opens it again."""
        with self._lock:
            store, self._store, self._config = self._store, None, None
            self._libraries.clear()
            self._readers.clear()
        if store is not None:
            store.close()

    # --- reading ---

    def calibrations(self) -> CalibrationCache:
        """What attention rerankers keep of lists, for as long as nothing is deleted."""
        from rag.reranking.attention import CalibrationCache

        with self._lock:
            self._calibrations = self._calibrations or CalibrationCache()
            return self._calibrations

    def reader(self, name: str, reuse: str = "", *, variants: bool = True) -> Reader:
        """The language model, or where states are reused a reader that does so; ``reuse`` is the mode, "" [cache]'s.

        variants  false for whoever may see some collections only: what was read behind passages of others is not taken
        What was measured of the mode is looked up when the reader is first used. Raises InvalidConfig for a mode that
        is none, and for reuse that cannot be.
        """
        mode = reuse or self._settings.cache.mode
        model = self._model(name)
        if mode == OFF or model.name == LEXICAL:
            return model
        from rag.kv.reader import CachedReader

        gate, named = self.gate, None if mode == AUTO else parse_mode(mode)
        library = self.library(name)  # without the lock: whoever gives models may hold a lock and wait for this one

        def choose() -> Choice:
            return gate.choose(library) if named is None else gate.named(library, named)

        with self._lock:
            return self._readers.setdefault(
                (model.name, str(named or AUTO), variants), CachedReader(library, choose, variants=variants)
            )

    @property
    def gate(self) -> Gate:
        """The verdicts of this home directory, and the bounds of [cache]."""
        chosen = self._settings.cache
        bounds = Bounds(chosen.gate_kl, chosen.gate_agreement, chosen.gate_nll, chosen.gate_tau, chosen.gate_overlap)
        return Gate(Verdicts(self._home), bounds)

    def library(self, name: str = "") -> ChunkLibrary:
        """The states of a model, "" for the configured one. Raises InvalidConfig for a model that reads nothing."""
        from rag.kv.library import ChunkLibrary
        from rag.kv.loading import LoadCosts
        from rag.language_model import LanguageModel
        from rag.reranking.icr import lead_of

        model = self._model(name)
        if not isinstance(model, LanguageModel):
            raise InvalidConfig(f"{model.name!r} has no states to keep; name a language model by path or hub name")
        config, gate = self.config, self.gate
        with self._lock:
            if model.name not in self._libraries:
                self._remember(model.name)
                self._libraries[model.name] = ChunkLibrary(
                    model,
                    lead_of,
                    self.store,
                    config.scheme,
                    tenant=_salt(config.tenant, self._tenant),
                    secret=config.hmac_key,
                    variants=config.variants,
                    narrow=lambda library: gate.passes(library, STORED),
                    costs=LoadCosts() if config.loading == "auto" else None,
                )
            return self._libraries[model.name]

    def form(self, reranker: str = "") -> PassageForm:
        """How a reranker writes passages; "" is the default pipeline's if it reads, else icr. Raises InvalidConfig."""
        from rag.reranking.passages import passage_form

        default = self._settings.pipeline().rerank
        name = reranker or (default if default != "none" and self._settings.rerankers[default].reads else "icr")
        chosen = self._settings.rerankers.get(name)
        if chosen is None or not chosen.reads:
            readers = [name for name, one in self._settings.rerankers.items() if one.reads]
            raise InvalidConfig(f"{name!r} is no reranker that reads passages; take one of {', '.join(readers)}")
        return passage_form(chosen.kind, chosen.passage_tokens)

    def passages(self, library: ChunkLibrary, chunks: Sequence[Chunk], form: PassageForm) -> list[Ids]:
        """The ids under which a reranker looks chunks up, in order; empty for a chunk without text."""
        most = library.model.context - len(library.lead) - 1
        return form.ids(library.model.tokenizer, chunks, max(1, most))

    def warm(self, chunks: Iterable[Chunk]) -> str:
        """Read and store added chunks where [cache] warm says so; what went wrong, "" where all went well."""
        if not self._settings.cache.warm or not self._settings.model.name or self._settings.model.name == LEXICAL:
            return ""
        from rag.kv.warm import warm
        from rag.runtime.meter import Meter

        try:
            library = self.library()
            warm(library, self.passages(library, list(chunks), self.form()), Meter())
        except (CacheUnavailable, ModelNotAvailable, InvalidConfig) as error:
            log.warning("added documents are not read ahead: %s", error)
            return f"added documents are not read ahead: {_without_places(error)}"
        return ""

    # --- documents ---

    def add(self, collection: Collection, documents: Sequence[Document], encoder: TextEncoder) -> tuple[Change, str]:
        """Add documents; what was read of those they replace is forgotten. The change, and what went wrong beside."""
        ids = [document.id for document in documents]
        replaced = self._chunks(collection, ids) if self.store is not None else []
        change = collection.add(documents, encoder)
        if change.updated:
            self._clear()
        forgotten = self.forget(replaced) if replaced else Forgotten()
        added = self._chunks(collection, [document.id for document in documents]) if self._settings.cache.warm else []
        return change, "; ".join(filter(None, (forgotten.trouble, self.warm(added))))

    def delete(self, collection: Collection, doc_ids: Sequence[str]) -> tuple[Change, Forgotten]:
        """Delete documents, and what any model read of them."""
        gone = self._chunks(collection, doc_ids) if self.store is not None else []
        change = collection.delete(doc_ids)
        if change.deleted:
            self._clear()
        return change, self.forget(gone) if gone else Forgotten()

    def drop(self, collection: Collection) -> Forgotten:
        """Forget all that was read of a collection's newest version; a damaged one cannot tell what that is."""
        self._clear()
        try:
            parts = collection.snapshot().store.iterate_chunks()
            return self.forget(chunk for part in parts for _, chunk in part)
        except CollectionError as error:
            log.warning("chunk states of a damaged collection may still be stored: %s", error)
            return Forgotten(trouble="chunk states of its passages may still be stored: it is damaged")

    def _chunks(self, collection: Collection, doc_ids: Sequence[str]) -> list[Chunk]:
        return collection.snapshot().store.chunks_of(doc_ids)

    # --- forgetting ---

    def _clear(self) -> None:
        """What the models of this process keep of prompts for a while goes: a deleted text may stand in them."""
        for model in self._opened():
            model.forget()
        for one in (self, self._of):
            if one is not None and one._calibrations is not None:
                one._calibrations.clear()

    @property
    def holds(self) -> bool:
        """True where the store has anything, or does not answer."""
        store = self.store
        if store is None:
            return False
        for tier in store.tiers:
            try:
                if next(tier.keys("kv"), None) is not None:
                    return True
            except CacheUnavailable:
                return True
        return False

    def forget(self, chunks: Iterable[Chunk]) -> Forgotten:
        """Delete what any model read of these chunks, in whatever form, from all tiers.

        Known models are those of the settings and those in MODELS. Never raises for a store or a model: says so.
        """
        store = self.store
        if store is None:
            return Forgotten()
        if not self.holds:
            try:
                store.outdate()  # another process may still have copies in memory
            except CacheUnavailable as error:
                return Forgotten(trouble=_without_places(error))
            return Forgotten()
        from rag.kv.forgetting import forget_beginnings

        tokenizers, troubles = self._tokenizers()
        passages = (ids for some in _parts(chunks) for tokenizer in tokenizers for ids in _written(tokenizer, some))
        try:
            values = forget_beginnings(store, passages)
        except CacheUnavailable as error:
            log.warning("chunk states may still be stored: %s", error)
            values, troubles = 0, [*troubles, f"chunk states may still be stored: {_without_places(error)}"]
        return Forgotten(values, "; ".join(troubles))

    def _tokenizers(self) -> tuple[list[PromptTokenizer], list[str]]:
        from rag.kv.tokenizers import tokenizer_of

        found: dict[str, PromptTokenizer] = {}
        troubles = []
        for name in self._models():
            try:
                tokenizer = tokenizer_of(name, trust_remote_code=self._settings.model.trust_remote_code)
            except ModelNotAvailable as error:
                log.warning("chunk states of %r may still be stored: %s", name, error)
                troubles.append(f"chunk states of {Path(name).name!r} may still be stored: no tokenizer to name them")
                continue
            found[tokenizer.digest] = tokenizer
        if not found and not troubles:
            troubles.append("chunk states may still be stored: no language model is set whose tokens would name them")
        return list(found.values()), troubles

    def _models(self) -> list[str]:
        """All that states may be of: of the settings, and used from this home before."""
        settings, file = self._settings, self._home / MODELS
        before = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
        named = [one.model for one in settings.rerankers.values() if one.reads]
        asked = [
            one.rerank_model
            for one in settings.pipelines.values()
            if one.rerank in settings.rerankers and settings.rerankers[one.rerank].reads
        ]
        wanted = dict.fromkeys([settings.model.name, *named, *asked, *before])
        return [name for name in wanted if name not in ("", LEXICAL)]

    def _remember(self, name: str) -> None:
        file = self._home / MODELS
        known = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
        if self.store is not None and name not in known:
            self._home.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as handle:
                handle.write(f"{name}\n")


def _salt(secret: str, tenant: str) -> str:
    """What sets the names of a tenant's states apart: keyed with the secret of [cache] where there is one."""
    if not tenant:
        return secret
    return blake2b(tenant.encode(), key=blake2b(secret.encode()).digest(), digest_size=16).hexdigest()


def _without_places(error: Exception) -> str:
    """What went wrong without the paths and addresses that messages have in brackets, which are no client's to know."""
    return str(error).partition(" (")[0]


def _parts(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    iterator = iter(chunks)
    while part := list(islice(iterator, _AT_ONCE)):
        yield part


def _written(tokenizer: PromptTokenizer, chunks: Sequence[Chunk]) -> Iterator[Ids]:
    """Each chunk whole, in every form that any prompt has; the first place is the only label that is stored."""
    from rag.reranking.passages import attention_text, prompt_text

    texts = dict.fromkeys(text for chunk in chunks for text in (attention_text(chunk), prompt_text(chunk)) if text)
    forms = [f"{before}{text}" for text in texts for before in ("", " ", "[1] ")]
    yield from map(tuple, tokenizer.encode_many(forms))
