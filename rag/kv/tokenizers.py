"""A model's tokenizer without its weights: enough to know under which tokens its states are stored."""

from __future__ import annotations

from functools import lru_cache

from rag.encoders import local_path, needs_hub
from rag.errors import ModelNotAvailable
from rag.runtime.families import Family, family_of
from rag.runtime.packaged import packaged_path
from rag.runtime.tokens import PromptTokenizer, controls_of


def tokenizer_of(name: str, *, trust_remote_code: bool = False) -> PromptTokenizer:
    """The tokenizer that a LanguageModel of this name has. Raises ModelNotAvailable."""
    return form_of(name, trust_remote_code=trust_remote_code)[0]


@lru_cache(maxsize=16)
def form_of(name: str, *, trust_remote_code: bool = False) -> tuple[PromptTokenizer, Family]:
    """Tokenizer and family that a LanguageModel of this name has. Raises ModelNotAvailable."""
    from transformers import AutoConfig, AutoTokenizer

    path = packaged_path(name) or local_path(name)
    try:
        where = {"local_files_only": not needs_hub(path), "trust_remote_code": trust_remote_code}
        config = AutoConfig.from_pretrained(path, **where)
        family_of(config.model_type, ())
        tokenizer = AutoTokenizer.from_pretrained(path, **where)
        serialized = tokenizer.backend_tokenizer.to_str()
        family = family_of(config.model_type, controls_of(serialized), str(tokenizer.chat_template or ""))
        return PromptTokenizer(serialized, family.reserved), family
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ModelNotAvailable(f"the tokenizer of {name!r} cannot be loaded ({reason})") from error
