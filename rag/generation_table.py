"""The settings file's table for answers by the language model."""

from __future__ import annotations

from dataclasses import dataclass

from rag.errors import InvalidConfig
from rag.tables import in_range


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """[generation] How the language model of [model] answers, for pipelines with generate = "local".

    max_tokens  of an answer, and at most half of what the model reads
    temperature, top_p  how a token is chosen; temperature 0 takes the best
    seed     the same seed and question give the same answer
    stop     strings that end an answer; none is part of it
    rows     answers written at once, more wait; each has key/value memory of its own
    timeout  seconds an answer may take, waiting included, 0 for any time; what is there then is the answer
    """

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    rows: int = 8
    timeout: float = 300.0

    def __post_init__(self) -> None:
        in_range("generation.max_tokens", self.max_tokens, 1, 1_000_000)
        in_range("generation.temperature", self.temperature, 0, 100)
        in_range("generation.top_p", self.top_p, 0, 1)
        in_range("generation.seed", self.seed, 0, 2**63 - 1)
        in_range("generation.rows", self.rows, 1, 256)
        in_range("generation.timeout", self.timeout, 0, 86_400)
        if "" in self.stop:
            raise InvalidConfig(f"generation.stop = {list(self.stop)}; an empty string would end every answer")
