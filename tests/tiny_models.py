"""Language models of all families, with RANDOM weights: they run the real code and rank by no merit at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import pytest

from rag.language_model import LanguageModel
from rag.reranking import prompts
from rag.reranking.prompts import Form
from rag.runtime.prompt import Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
CONTROLS = {
    "llama": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
    "qwen2": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"),
    "qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"),
}
"""Control strings in the order of their ids; all are special tokens but ``<think>``."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVW"
SENTENCES = (
    "Given a query, which of the following two passages is more relevant to the query? Passage A: Passage B:",
    "Output only the passage label of the most relevant passage. Here are some paragraphs: Query: Answer:",
    "Please find information that are relevant to the following query in the paragraphs above.",
    "The lighthouse of Vendel was built in 1871 and rises 42 metres above the sea.",
    "The ferry takes thirty minutes in summer; in winter it does not sail on Sundays.",
    "Puffins nest on the western cliffs, and cats are banned while the chicks are small.",
    "Cheese is made of sheep's milk on two farms, and the festival begins when the first wheel is cut.",
    "Answer Yes or No. [1] > [2] " + " ".join(f"Passage {letter}" for letter in LETTERS),
)
QUERY = "When was the lighthouse of Vendel built?"
TEXTS = [*SENTENCES[3:7], "Cats", "A lighthouse. " * 9, "灯台 🙂", SENTENCES[0] + SENTENCES[1]]
"""Of very different lengths."""
CONTEXT = 2048
ROPES: dict[str, dict[str, float]] = {
    "default": {},
    "linear": {"factor": 2.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
    "yarn": {"factor": 8.0, "original_max_position_embeddings": 256},
}
"""Kinds of positions and their parameters."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 (digits by three) and Qwen (one by one) cut a text into words."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Imported by modules that run these models: on a busy machine, threads cost them far more than they save."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def saved(family: str, rope: str = "default") -> Path:
    """The directory of the family's model, made once a process: safetensors, config.json and tokenizer.json."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    directory = Path(mkdtemp(prefix=f"tiny-{family}-")) / f"tiny-{family}"
    wrapped(family).save_pretrained(str(directory))
    _weights(family, len(tokenizer_of(family).get_vocab()), rope).save_pretrained(str(directory))
    return directory


@cache
def loaded(family: str) -> LanguageModel:
    """The family's model in float32 on the CPU. Tests that change it load their own."""
    return LanguageModel(str(saved(family)), device="cpu", dtype="float32")


@cache
def tokenizer_of(family: str) -> Tokenizer:
    """The whole tokenizer, which reads control strings in any text."""
    return _sentence_pieces(family) if family == "mistral" else byte_level(family)


def pairs(model: LanguageModel, texts: Sequence[str] = TEXTS) -> tuple[Form, list[Prompt]]:
    """Pairwise prompts of every two texts, in both orders."""
    form = prompts.pairwise(model, QUERY)
    ids = model.tokenizer.encode_many(texts)
    return form, [form.write((a, b)) for a in ids for b in ids if a is not b]


def wrapped(family: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer_of(family))  # type: ignore[no-untyped-call]


def plain_model(family: str) -> Any:
    """The same weights in transformers' own eager attention: what the runtime must agree with."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(str(saved(family)), dtype="float32", attn_implementation="eager")
    return model.eval()


def _weights(family: str, vocabulary: int, rope: str = "default") -> Any:
    """3 layers (Qwen3: 2), width 64, 4 query heads on 2 key heads; initializer_range 0.2 lets attention differ."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2 if family == "qwen3" else 3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        tie_word_embeddings=family.startswith("qwen"),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        rope_parameters={"rope_type": rope, "rope_theta": 10_000.0, **ROPES[rope]},
    )
    torch.manual_seed(FAMILIES.index(family))
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.bias", "k_proj.bias")):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def byte_level(family: str, texts: Sequence[str] = SENTENCES, size: int = 560) -> Tokenizer:
    """As Llama 3 and Qwen have it: a regular expression, then byte pairs; Llama begins with its first control token."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE(ignore_merges=family == "llama"))
    if family != "llama":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT % ("{1,3}" if family == "llama" else "")), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([*texts] * 3, trainer)
    *special, last = CONTROLS[family]
    tokenizer.add_special_tokens([AddedToken(control, special=True, normalized=False) for control in special])
    tokenizer.add_tokens([AddedToken(last, special=last != "<think>", normalized=False)])
    if family == "llama":
        bos = special[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


def _sentence_pieces(family: str) -> Tokenizer:
    """As Mistral has it: a blank is a letter, one is put before every text, unknown letters are bytes."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # One word a text: real vocabularies have no pieces across blanks.
    words = [word for sentence in SENTENCES * 3 for word in sentence.split()]
    trained.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>"])
    )
    spec = json.loads(trained.to_str())
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [piece for piece in spec["model"]["vocab"] if piece not in first]
    spec["model"] |= {"vocab": {piece: i for i, piece in enumerate([*first, *pieces])}, "byte_fallback": True}
    spec["model"]["fuse_unk"] = True
    spec["added_tokens"] = []
    spec["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_special_tokens([AddedToken(control, special=True, normalized=False) for control in CONTROLS[family]])
    return tokenizer
