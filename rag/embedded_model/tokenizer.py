"""The embedded model's tokenizer: byte pairs over words, as GPT-2 cuts them, with numbers by three digits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rag.reranking.icr import INTRO, LATE, QUERY_LABEL
from rag.reranking.prompts import SET_LABELS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIZE = 8192
BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
CONTROLS = (BEGIN, END, PAD)
"""In the order of their ids, from 0."""
_WORDS = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""Radford et al., 2019; numbers by three. What begins with a blank or a line break is encoded alike in any text."""
_TEMPLATES = 200
"""How often the words of the templates are read, so that each is one token."""


def train_tokenizer(texts: Iterable[str], size: int = SIZE) -> Tokenizer:
    """A tokenizer of at most ``size`` entries, the controls among them; it begins every text with BEGIN."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(control, special=True, normalized=False) for control in CONTROLS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_with_templates(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A {BEGIN} $B",
        special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))],
    )
    return tokenizer


def wrapped(tokenizer: Tokenizer, context: int) -> Any:
    """As transformers saves it and loads it again."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD, model_max_length=context
    )


def _with_templates(texts: Iterable[str]) -> Iterator[str]:
    yield from texts
    letters = " ".join([f"Passage {label}: [{label}]" for label in SET_LABELS])
    places = " ".join(f"[{place}] {place}" for place in range(1, 101))
    template = f"{INTRO} {' '.join(LATE.values())} {QUERY_LABEL} Answer: Yes No Answer Yes or No {letters} {places}"
    yield from [template] * _TEMPLATES
