"""Where configured names meet classes; the CLI, the API and the evaluation all build their pipelines here."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rag.caching import Caching
from rag.config import LEXICAL, MAX_K, IndexConfig, PipelineConfig, RerankerConfig, Settings
from rag.errors import CacheUnavailable, InvalidConfig
from rag.pipeline import Pipeline
from rag.runtime.meter import Limits
from rag.selection_table import SEARCHES

if TYPE_CHECKING:
    from indexes.collection import Collection
    from indexes.corpus import Chunk
    from indexes.home import Home
    from rag.encoders import SentenceEncoder
    from rag.generation.prefix_tree import PrefixTree
    from rag.protocols import Generator, PromptCounter, Reranker, Retriever, Selector
    from rag.reranking.cross_encoder import CrossEncoderModel
    from rag.runtime.batch_decode import BatchDecode
    from rag.runtime.reader import Reader

UNLIMITED = Limits()
AT_ONCE = 8
"""Sets that a language model values at once where a search has a time limit: it is looked at in between."""


class Engine:
    """Everything a process shares: the home directory, the models, open collections. Threads may share it.

    Nothing heavy is loaded before it is needed.
    """

    variants = True
    """Whether passages are taken as they were read behind others; not where some of those may not be seen."""

    def __init__(self, settings: Settings) -> None:
        from indexes.home import Home

        self.settings = settings
        self.home: Home = Home(settings.home)
        self._lock = threading.RLock()
        self._encoder: SentenceEncoder | None = None
        self._collections: dict[str, Collection] = {}
        self._cross_encoders: dict[str, CrossEncoderModel] = {}
        self._language_models: dict[str, Reader] = {}
        self.caching = Caching(settings, self.language_model, lambda: list(self._language_models.values()))
        self._batch: BatchDecode | None = None
        self._sent: PrefixTree | None = None
        self._pipelines: dict[tuple[str, PipelineConfig], Pipeline] = {}

    # --- shared parts ---

    @property
    def encoder(self) -> SentenceEncoder:
        with self._lock:
            if self._encoder is None:
                from rag.encoders import SentenceEncoder

                chosen = self.settings.encoder
                self._encoder = SentenceEncoder(
                    chosen.model,
                    device=chosen.device,
                    dtype=chosen.dtype,
                    threads=chosen.threads,
                    batch_size=chosen.batch_size,
                    trust_remote_code=chosen.trust_remote_code,
                )
            return self._encoder

    def language_model(self, name: str = "") -> Reader:
        """The language model by hub name or path, "" for the configured one. All who ask for a name share one.

        Its weights are read when it is first used. Raises InvalidConfig where no model is configured.
        """
        chosen = self.settings.model
        wanted = name or chosen.name
        if not wanted:
            raise InvalidConfig(
                'no language model is set: write [model] name = "PATH" in the settings file, or set KVASIR_MODEL__NAME'
            )
        with self._lock:
            if wanted not in self._language_models:
                self._language_models[wanted] = self._open_language_model(wanted)
            return self._language_models[wanted]

    def _open_language_model(self, name: str) -> Reader:
        if name == LEXICAL:
            from rag.runtime.lexical import LexicalReader

            return LexicalReader()
        from rag.language_model import LanguageModel

        chosen = self.settings.model
        return LanguageModel(name, device=chosen.device, dtype=chosen.dtype, trust_remote_code=chosen.trust_remote_code)

    def collection(self, reference: str) -> Collection:
        """The collection by name, alias or name@version. Raises CollectionNotFound."""
        with self._lock:
            if reference not in self._collections:
                from indexes import jvm
                from indexes.collection import Collection
                from indexes.snapshot import ReadSettings

                jvm.configure(self.settings.index.java_heap_mb)
                self.home.resolve(reference)
                settings = ReadSettings(
                    bm25=bm25_parameters(self.settings.index),
                    vectors=vector_settings(self.settings.index),
                    verify=self.settings.index.verify,
                    chunk_cache_mb=self.settings.index.chunk_cache_mb,
                )
                self._collections[reference] = Collection(self.home, reference, settings)
            return self._collections[reference]

    def waiting(self) -> dict[str, int]:
        """What waits for language models: prompts for a label or a likelihood, and answers for a place in the batch."""
        with self._lock:
            models, batch = list(self._language_models.values()), self._batch
        labels = sum(getattr(model, "waiting", 0) for model in models)
        return {"labels": labels, "answers": batch.waiting if batch is not None else 0}

    # --- rerankers ---

    def reranker(self, name: str, *, model: str = "", depth: int = 100, limits: Limits = UNLIMITED) -> Reranker:
        """The configured reranker over the ``depth`` best; ``model`` in place of its own.

        Raises InvalidConfig for an unknown name, a model that is missing, or heads that are not known.
        """
        chosen = self.settings.reranker(name, model)
        made = self._reranker(chosen, depth, limits.within(self.settings.server.rerank_deadline_ms))
        if not chosen.first_stage:
            return made
        from rag.reranking.mixed import MixedReranker

        return MixedReranker(made, chosen.first_stage, depth)

    def _reranker(self, chosen: RerankerConfig, depth: int, limits: Limits) -> Reranker:
        if chosen.reads:
            return self._reading(chosen, depth, limits)
        if chosen.kind == "sentences":
            from rag.reranking.sentences import SentenceReranker

            return SentenceReranker(self.encoder, depth)
        from rag.reranking.cross_encoder import CrossEncoderModel, CrossEncoderReranker

        with self._lock:
            if chosen.model not in self._cross_encoders:
                self._cross_encoders[chosen.model] = CrossEncoderModel(
                    chosen.model, device=self.settings.encoder.device
                )
            return CrossEncoderReranker(self._cross_encoders[chosen.model], depth, limits)

    def _reading(self, chosen: RerankerConfig, depth: int, limits: Limits) -> Reranker:
        """A reranker that has a language model read the passages, or read them once and for all."""
        reader = self.caching.reader(chosen.model, chosen.reuse, variants=self.variants)
        common: dict[str, Any] = {"depth": depth, "limits": limits}
        if chosen.passage_tokens:
            common["passage_tokens"] = chosen.passage_tokens
        sort: dict[str, Any] = {"sort": chosen.sort} if chosen.sort else {}
        match chosen.kind:
            case "icr":
                from rag.reranking.attention import AttentionReranker
                from rag.reranking.heads import ALL, AUTO, head_set

                if chosen.heads not in (ALL, AUTO):
                    head_set(chosen.heads)  # an unknown one is refused before anything is loaded
                common |= {"heads": chosen.heads, "late": chosen.late, "best_last": chosen.best_last}
                return AttentionReranker(reader, cache=self.caching.calibrations(), **common)
            case "prp":
                from rag.reranking.pairwise import PairwiseReranker

                return PairwiseReranker(reader, k=chosen.k, **sort, **common)
            case "setwise":
                from rag.reranking.setwise import SetwiseReranker

                return SetwiseReranker(reader, k=chosen.k, group=chosen.group, **sort, **common)
            case "listwise":
                from rag.reranking.listwise import ListwiseReranker

                return ListwiseReranker(reader, window=chosen.window, stride=chosen.stride, **common)
            case _:
                from rag.reranking.pointwise import PointwiseReranker

                kind: Any = "likelihood" if chosen.kind == "likelihood" else "yes-no"
                return PointwiseReranker(reader, kind=kind, **common)

    # --- pipelines ---

    def pipeline(
        self, collection: str, name: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Pipeline:
        """The named pipeline over a collection. Raises PipelineNotFound, InvalidConfig, CollectionNotFound."""
        chosen = self.settings.pipeline(name, overrides)
        key = (collection, chosen)
        with self._lock:
            if key not in self._pipelines:
                if len(self._pipelines) >= 256:
                    self._pipelines.clear()
                self._pipelines[key] = self._assemble(name or self.settings.default_pipeline, collection, chosen)
            return self._pipelines[key]

    def _assemble(self, name: str, collection: str, chosen: PipelineConfig) -> Pipeline:
        retriever = self._retriever(self.collection(collection), chosen)
        return Pipeline(
            name=name,
            retriever=retriever,
            selector=self._selector(chosen),
            generator=self._generator(chosen),
            fallback=self._extractive() if chosen.generate != "extractive" else None,
            k=chosen.k,
            depth=chosen.depth,
            budget=chosen.budget,
            candidates=self.settings.selection.depth if chosen.select in SEARCHES else 0,
            max_k=MAX_K,
            max_query_chars=self.settings.max_query_chars,
        )

    def _retriever(self, collection: Collection, chosen: PipelineConfig) -> Retriever:
        from rag.retrieval.composite import Fused, Reranked

        leaves = tuple(self._leaf(kind, collection, chosen) for kind in chosen.retrieve)
        retriever: Retriever = leaves[0]
        if len(leaves) > 1:
            weights = chosen.weights or tuple(1.0 / len(leaves) for _ in leaves)
            retriever = Fused(retrievers=leaves, weights=weights, fuse=chosen.fuse, depth=chosen.depth)
        if chosen.rerank == "none":
            return retriever
        reranker = self.reranker(
            chosen.rerank,
            model=chosen.rerank_model,
            depth=chosen.rerank_depth,
            limits=Limits(chosen.rerank_deadline_ms, chosen.rerank_max_prefill_tokens),
        )
        return Reranked(retriever, reranker, chosen.depth)

    def _leaf(self, kind: str, collection: Collection, chosen: PipelineConfig) -> Retriever:
        if kind == "bm25":
            from rag.retrieval.bm25 import Bm25

            return Bm25(collection)
        if kind == "dense":
            from rag.retrieval.dense import Dense

            return Dense(collection, self.encoder)
        from rag.retrieval.fast_forward import FastForward

        return FastForward(collection, self.encoder, chosen.alpha, chosen.depth)

    def _selector(self, chosen: PipelineConfig) -> Selector:
        if chosen.select == "mmr":
            from rag.selection.mmr import MaximalMarginalRelevance

            return MaximalMarginalRelevance(self.encoder, self._counter(chosen), chosen.mmr_lambda, chosen.order)
        if chosen.select in SEARCHES:
            return self._searching(chosen)
        from rag.selection.budget import BudgetFill

        return BudgetFill(self._counter(chosen), chosen.order)

    def _counter(self, chosen: PipelineConfig) -> PromptCounter:
        """The prompt of what answers, by its tokens: the language model's, else the text encoder's."""
        from rag.entry import Entries
        from rag.generation.prompt import around

        model, entries = self.settings.model, Entries(self.encoder)
        if chosen.generate == "remote":
            return Entries(self.encoder, around())
        if chosen.generate != "local" or model.name in ("", LEXICAL):
            return entries
        from rag.generation.counting import LocalCounter
        from rag.kv.tokenizers import form_of

        return LocalCounter(partial(form_of, model.name, trust_remote_code=model.trust_remote_code), entries)

    def _searching(self, chosen: PipelineConfig) -> Selector:
        """Sets weighed as [selection] says."""
        from rag.selection.problem import Limits as SearchLimits
        from rag.selection.search import SetSelector

        table = self.settings.selection
        limits = SearchLimits(
            evaluations=table.evaluations or None,
            seconds=table.milliseconds / 1e3 or None,
            tokens=table.model_tokens or None,
            **({"batch": AT_ONCE} if table.weights.likelihood and table.milliseconds else {}),
        )
        return SetSelector(
            count=self._counter(chosen),
            encoder=self.encoder if table.similarity == "encoder" else None,
            order=chosen.order,
            searcher=SEARCHES[chosen.select],
            name=chosen.select,
            weights=table.weights,
            limits=limits,
            depth=table.depth,
            most=table.most,
            ordered=table.ordered,
            reader=partial(self.caching.reader, "") if table.weights.likelihood else None,
            passage_tokens=table.passage_tokens,
            kept=self._kept if table.weights.ttft and chosen.generate == "local" else None,
        )

    def _kept(self, chunks: Sequence[Chunk]) -> list[bool]:
        """Of which chunks the language model's states are stored. Raises CacheUnavailable."""
        library = self.caching.library()
        if (cache := library.cache) is None:
            return [False] * len(chunks)
        failures = cache.troubles[0]
        ids = library.model.tokenizer.encode_many([chunk.titled for chunk in chunks])
        found = [cache.contains(tuple(one)) for one in ids]
        if cache.troubles[0] > failures:
            raise CacheUnavailable(cache.troubles[1])
        return found

    def _generator(self, chosen: PipelineConfig) -> Generator:
        if chosen.generate == "remote":
            from rag.generation.prefix_tree import PrefixTree
            from rag.generation.remote import Remote

            reorder = self.settings.remote.prefix_order and chosen.order == "score"
            with self._lock:
                self._sent = PrefixTree() if self._sent is None else self._sent  # an empty one is false
            return Remote(self.settings.remote, self._sent, reorder)
        if chosen.generate == "local":
            return self._local()
        return self._extractive()

    def _local(self) -> Generator:
        """Answers by the language model, from cached states where [cache] has a mode; pipelines share its batch."""
        from rag.generation.local import Local
        from rag.kv.reader import CachedReader
        from rag.language_model import LanguageModel

        model = self.language_model()
        if not isinstance(model, LanguageModel):
            raise InvalidConfig(f"{model.name!r} writes no answers; name a language model in [model], or give --model")
        reader = self.caching.reader("", variants=self.variants)
        return Local(reader if isinstance(reader, CachedReader) else model, self._decoder(), self.settings.generation)

    def _decoder(self) -> BatchDecode:
        """What writes the answers of all pipelines, several at once."""
        from rag.language_model import LanguageModel
        from rag.runtime.batch_decode import BatchDecode

        model = self.language_model()
        assert isinstance(model, LanguageModel), "who asks has looked"
        with self._lock:
            self._batch = self._batch or BatchDecode(model, self.settings.generation.rows)
            return self._batch

    def _extractive(self) -> Generator:
        from rag.generation.extractive import Extractive

        return Extractive(self.encoder)


def bm25_parameters(chosen: IndexConfig) -> Any:
    from indexes.lucene import Bm25Parameters

    return Bm25Parameters(chosen.k1, chosen.b)


def vector_settings(chosen: IndexConfig) -> Any:
    from indexes.vectors import VectorSettings

    return VectorSettings(
        kind=chosen.vectors,
        exact_up_to=chosen.exact_up_to,
        hnsw_m=chosen.hnsw_m,
        hnsw_ef_construction=chosen.hnsw_ef_construction,
        hnsw_ef_search=chosen.hnsw_ef_search,
        ivf_lists=chosen.ivf_lists,
        ivf_probes=chosen.ivf_probes,
        pq_bytes=chosen.pq_bytes,
    )
