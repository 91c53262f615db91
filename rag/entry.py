"""One source as it stands in a prompt: what selection counts is what generation writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag.protocols import PromptCounter, TokenCounter
from rag.values import Chunk

# Strings that chat templates and tokenizers of common model families read as control tokens.
_CONTROL = re.compile(
    r"<\|[^|<>\n]{1,40}\|>"  # Llama 3, Qwen, Phi
    r"|<｜[^｜<>\n]{1,40}｜>"  # DeepSeek
    r"|<(?:start|end)_of_(?:turn|image)>|<(?:bos|eos|pad|unk|mask|s|/s|unused\d{1,4})>|\[@BOS@\]"  # Gemma, Llama 2
    r"|<</?SYS>>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|SYSTEM_PROMPT|MODEL_SETTINGS|THINK|ARGS"
    r"|CALL_ID|IMG(?:_BREAK|_END)?|(?:BEGIN_)?AUDIO|PREFIX|MIDDLE|SUFFIX)\]"  # Mistral
    r"|</?(?:think|tool_call|tool_response)>|<\|?(?:im_start|im_end)\|?>"  # Qwen
)


def plain(text: str) -> str:
    """The text with every control string broken by a space after its first character: ``<|eot_id|>`` is data."""
    return _CONTROL.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)


def entry(number: int, chunk: Chunk) -> str:
    """One numbered source as it stands in a prompt, its closing blank line included; it forms no control string."""
    title = f"{chunk.title}\n" if chunk.title else ""
    return f"[{number}] {plain(title + chunk.text)}\n\n"


@dataclass(frozen=True)
class Entries(PromptCounter):
    """Counts entries by one tokenizer. ``around`` is what stands around them in the prompt, nothing where none is."""

    count: TokenCounter
    around: str = ""

    def frame(self) -> int:
        return self.count([self.around])[0] if self.around else 0

    def sources(self, numbers: Sequence[int], chunks: Sequence[Chunk]) -> list[int]:
        return self.count([entry(number, chunk) for number, chunk in zip(numbers, chunks, strict=True)])
