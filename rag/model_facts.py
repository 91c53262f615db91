"""What the files of a language model say about it, without its weights being read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from rag.encoders import hash_model, local_path
from rag.errors import ModelNotAvailable
from rag.reranking.heads import OWN, head_set
from rag.runtime.families import family_of
from rag.runtime.packaged import packaged_path
from rag.runtime.tokens import controls_of

CARD = "CARD.md"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """name as it is configured; folder where its files are; bytes of its weights; heads of its own set, else none.

    state_bytes  key/value states of one token, in the weights' type;  card  a text about it, "" where there is none
    """

    name: str
    folder: str
    architecture: str
    family: str
    parameters: int
    layers: int
    heads: int
    key_heads: int
    width: int
    vocabulary: int
    context: int
    dtype: str
    weight_bytes: int
    state_bytes: int
    fingerprint: str
    head_set: tuple[tuple[int, int], ...]
    card: str


_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "U8": 1}


def model_facts(name: str) -> ModelFacts:
    """Raises ModelNotAvailable for what is no directory of a model on this machine, or of a family nobody knows."""
    folder = Path(packaged_path(name) or _cached(name))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        files = sorted(folder.glob("*.safetensors"))
        tensors = [tensor for file in files for tensor in _tensors(file)]
    except (OSError, ValueError) as error:
        raise ModelNotAvailable(
            f"{name!r} is no language model on this machine ({error}); give a directory with config.json, "
            "tokenizer.json and safetensors weights, a hub name that was loaded before, or embedded"
        ) from error
    if not tensors:
        raise ModelNotAvailable(f"{folder} holds no safetensors weights; convert them, or name another model")
    family = family_of(str(config.get("model_type", "")), controls_of(tokenizer))
    heads = int(config["num_attention_heads"])
    width = int(config["hidden_size"])
    key_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or width // heads)
    layers = int(config["num_hidden_layers"])
    dtype = max({kind for kind, _ in tensors}, key=lambda kind: sum(count for of, count in tensors if of == kind))
    own = folder / OWN
    return ModelFacts(
        name=name,
        folder=str(folder),
        architecture=str((config.get("architectures") or [config["model_type"]])[0]),
        family=family.name,
        parameters=sum(count for _, count in tensors),
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        width=width,
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        dtype=dtype,
        weight_bytes=sum(file.stat().st_size for file in files),
        state_bytes=2 * layers * key_heads * size * _BYTES.get(dtype, 2),
        fingerprint=f"{Path(name).name}:{hash_model(str(folder))}",
        head_set=head_set(str(own)).heads if own.is_file() else (),
        card=str(folder / CARD) if (folder / CARD).is_file() else "",
    )


def _cached(name: str) -> str:
    """The directory itself, or what the hub's cache has under a hub name; "" is returned as it came."""
    path = local_path(name)
    if Path(path).is_dir() or path.startswith(("/", ".")):
        return path
    from huggingface_hub import try_to_load_from_cache

    try:
        found: Any = try_to_load_from_cache(path, "config.json")
    except ValueError:
        return path
    return str(Path(found).parent) if isinstance(found, str) else path


def _tensors(file: Path) -> list[tuple[str, int]]:
    """(type, count) of each tensor, from the file's header."""
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > 2**27:
            raise ValueError(f"{file.name} has a header of {length} bytes")
        header = json.loads(handle.read(length))
    return [(each["dtype"], prod(each["shape"])) for name, each in header.items() if name != "__metadata__"]
