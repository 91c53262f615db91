"""Language models that say one text whatever they read: real code from end to end, and an answer that is known.

A Llama of one layer that adds nothing to its embeddings, with an output matrix that leads from each token of the text
to the next. So no token may come twice in it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from rag.language_model import LanguageModel
from tests.tiny_models import CONTROLS, SENTENCES, byte_level

CONTEXT = 4096


@cache
def speaking(text: str) -> LanguageModel:
    """The model that says the text and ends, in float32 on the CPU."""
    return LanguageModel(str(saved_speaking(text)), device="cpu", dtype="float32")


@cache
def saved_speaking(text: str) -> Path:
    """Its directory: safetensors, config.json and tokenizer.json."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = byte_level("llama", (*SENTENCES, text), size=2000)  # every word is one token
    begins = tokenizer.encode(f"{CONTROLS['llama'][2]}\n\n", add_special_tokens=False).ids[-1]
    said = tokenizer.encode(text, add_special_tokens=False).ids
    chain = [begins, *said, tokenizer.token_to_id(CONTROLS["llama"][-1])]
    assert len(set(chain)) == len(chain), f"a token comes twice in {text!r}"
    config = LlamaConfig(
        vocab_size=len(tokenizer.get_vocab()),
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        embedded = torch.nn.functional.normalize(torch.randn(config.vocab_size, 64), dim=-1)
        model.model.embed_tokens.weight.copy_(embedded)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[chain[1:]] = embedded[chain[:-1]]
    directory = Path(mkdtemp(prefix="speaking-")) / "speaking-llama"
    wrapped: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]
    wrapped.save_pretrained(str(directory))
    model.save_pretrained(str(directory))
    return directory
