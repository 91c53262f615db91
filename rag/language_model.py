"""The one language model of a process: any causal LM of a known family, loaded once, shared by all its users."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rag.encoders import has_bfloat16, hash_model, local_path, needs_hub
from rag.errors import InvalidInput, ModelNotAvailable, ModelOutOfMemory
from rag.runtime.attention import NAME, LayersDone, Readout, attend
from rag.runtime.decoding import end_ids
from rag.runtime.families import Family, family_of
from rag.runtime.keyvalues import KeyValues, RowStates, empty_states
from rag.runtime.meter import Meter
from rag.runtime.packaged import packaged_path
from rag.runtime.parts import gated_mlp, part_size
from rag.runtime.prompt import Prompt
from rag.runtime.reader import Array, Heads, Reader
from rag.runtime.rows import Rows, no_memory
from rag.runtime.tokens import PromptTokenizer, controls_of
from rag.runtime.turns import Turns

Ids = tuple[int, ...]
T = TypeVar("T")

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class LanguageModel(Reader):
    """A Hugging Face causal LM by local path or hub name (Llama, Mistral, Qwen2, Qwen2.5, Qwen3), or ``embedded``.

    device  auto (a GPU where there is one), cpu, cuda, cuda:1
    dtype   float32, bfloat16, float16 or auto: bfloat16 where the device computes it natively
    Weights are read from safetensors only, and no code that comes with a model runs unless trust_remote_code is set.
    Loaded when first used. Raises ModelNotAvailable then.
    """

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False
    ) -> None:
        self.name = model
        self._path = packaged_path(model) or local_path(model)
        self._options = (device, dtype, trust_remote_code)
        self._loading = threading.Lock()
        self._turns = Turns()
        self._parts: tuple[PreTrainedModel, PromptTokenizer, Family] | None = None
        self._rows = Rows(self, self._turns)

    @classmethod
    def wrap(cls, model: PreTrainedModel, tokenizer: PromptTokenizer, family: Family, name: str = "") -> LanguageModel:
        """A model that is loaded already, in evaluation mode; its attention function is replaced by the runtime's."""
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, attend)
        model.set_attn_implementation(NAME)
        wrapped = cls(name or type(model).__name__)
        wrapped._parts = (model, tokenizer, family)
        return wrapped

    # --- loading ---

    def _loaded(self) -> tuple[PreTrainedModel, PromptTokenizer, Family]:
        if self._parts is not None:  # without the lock: prompts are written while the model runs
            return self._parts
        with self._loading:
            if self._parts is None:
                try:
                    self._parts = self._open(local_files_only=not needs_hub(self._path))
                except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError) as error:
                    reason = str(error).strip().split("\n")[0][:200]
                    raise ModelNotAvailable(
                        f"language model {self.name!r} cannot be loaded ({reason}); give a local directory with "
                        "config.json, safetensors weights and tokenizer.json, or a hub name where the hub answers"
                    ) from error
            return self._parts

    def _open(self, *, local_files_only: bool) -> tuple[PreTrainedModel, PromptTokenizer, Family]:
        import torch
        from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        device, dtype, trust = self._options
        where: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": trust}
        config = AutoConfig.from_pretrained(self._path, **where)
        family_of(config.model_type, ())  # another architecture is refused before its tokenizer is read
        tokenizer = AutoTokenizer.from_pretrained(self._path, **where)
        if not tokenizer.is_fast:
            raise ModelNotAvailable(f"language model {self.name!r} has no fast tokenizer (tokenizer.json)")
        serialized = tokenizer.backend_tokenizer.to_str()
        family = family_of(config.model_type, controls_of(serialized), str(tokenizer.chat_template or ""))
        if (rope := (getattr(config, "rope_parameters", None) or {}).get("rope_type")) in ("longrope", "dynamic"):
            raise ModelNotAvailable(
                f"language model {self.name!r} has positions of type {rope!r}, which depend on a prompt's length; "
                "take a model with default, linear, llama3 or yarn positions"
            )
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        kind = ("bfloat16" if has_bfloat16(chosen) else "float32") if dtype == "auto" else dtype
        AttentionInterface.register(NAME, attend)
        model: Any = AutoModelForCausalLM.from_pretrained(
            self._path, dtype=getattr(torch, kind), use_safetensors=True, attn_implementation=NAME, **where
        )
        return model.to(chosen).eval(), PromptTokenizer(serialized, family.reserved), family

    @property
    def model(self) -> PreTrainedModel:
        return self._loaded()[0]

    @property
    def tokenizer(self) -> PromptTokenizer:
        return self._loaded()[1]

    @property
    def family(self) -> Family:
        return self._loaded()[2]

    @property
    def fingerprint(self) -> str:
        """Name and a hash of configuration, tokenizer and weights."""
        return f"{Path(self.name).name}:{hash_model(self._path)}"

    @property
    def folder(self) -> str:
        return self._path if Path(self._path).is_dir() else ""

    @property
    def context(self) -> int:
        """Tokens a prompt may have: the model's positions, or its attention window where that is shorter."""
        config = self.model.config
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        return int(min(config.max_position_embeddings, window or config.max_position_embeddings))

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.model.config.num_hidden_layers), int(self.model.config.num_attention_heads)

    # --- attention ---

    def attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None = None
    ) -> list[Array]:
        return self._attention(prefix, suffixes, meter, heads, per_head=False)

    def head_attention(self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter) -> list[Array]:
        return self._attention(prefix, suffixes, meter, None, per_head=True)

    def _attention(
        self, prefix: Prompt, suffixes: Sequence[Prompt], meter: Meter, heads: Heads | None, *, per_head: bool
    ) -> list[Array]:
        ids, ends = prefix.ids, [suffix.ids for suffix in suffixes]
        self.check(len(ids) + max(map(len, ends)))
        layers, width = self.shape
        if heads is not None and not all(0 <= i < layers and all(0 <= h < width for h in heads[i]) for i in heads):
            raise InvalidInput(f"a head of the set lies outside the model's {layers} layers of {width} heads")
        last = layers - 1 if heads is None else max(heads)

        def read() -> list[Array]:
            states = self.memory(1, len(ids) + max(map(len, ends)), last + 1)
            self.prefill(ids, states, meter, last)
            return [self.read_behind(end, states, meter, heads, per_head=per_head) for end in ends]

        return self.alone(meter, read, len(ids))

    def read_behind(
        self, ids: Ids, states: KeyValues, meter: Meter, heads: Heads | None, *, per_head: bool = False
    ) -> Array:
        """The attention of ``ids`` to each token that ``states`` hold. For whoever has the turn."""
        readout = Readout(states.length, self.shape, heads, per_head=per_head)
        meter.allow(len(ids))
        self.follow(ids, states, readout=readout, last=self.shape[0] - 1 if heads is None else max(heads))
        meter.count(len(ids), held=states.bytes)
        assert readout.rows is not None
        found: Array = readout.rows.cpu().numpy()
        return found

    # --- labels ---

    @property
    def waiting(self) -> int:
        """Prompts that wait for a batch."""
        return self._rows.waiting

    def labels(self, prompts: Sequence[Prompt], labels: Sequence[int], meter: Meter) -> Array:
        return self._rows.labels(prompts, labels, meter)

    def likelihood(self, prompts: Sequence[Prompt], meter: Meter) -> Array:
        return self._rows.likelihood(prompts, meter)

    # --- answers ---

    @property
    def ends(self) -> frozenset[int]:
        """Tokens behind which an answer is over."""
        return end_ids(self.tokenizer, self.family, getattr(self.model.generation_config, "eos_token_id", None))

    def begin(self, prompt: Prompt, meter: Meter, room: int) -> KeyValues:
        """The states of a prompt but for its last token, whose pass is that of the answer's first; room behind them."""
        ids = prompt.ids
        self.check(len(ids) + room)

        def read() -> KeyValues:
            states = self.memory(1, len(ids) + room)
            self.prefill(ids[:-1], states, meter, self.shape[0] - 1)
            return states

        return self.alone(meter, read, len(ids))

    # --- passes ---

    def alone(self, meter: Meter, work: Callable[[], T], tokens: int) -> T:
        """What ``work`` gives while nobody else runs the model; tried again with nothing kept where memory ran out.

        Not to be called from within ``work``. Raises ModelOutOfMemory, OutOfBudget, Cancelled.
        """
        import torch

        with self._turns.turn(meter), torch.inference_mode():
            for _ in range(2):
                try:
                    return work()
                except (MemoryError, RuntimeError) as error:
                    if not no_memory(error):
                        raise
                self._rows.forget()
        raise ModelOutOfMemory(f"no memory for a prompt of {tokens} tokens; shorten the list or the passages")

    @property
    def kept(self) -> int:
        """Tokens of prompts' beginnings whose states are in memory."""
        return self._rows.kept

    def forget(self) -> None:
        """Give up the states of prompts' beginnings, which are kept for prompts that begin alike. Waits for a turn."""
        with self._turns.turn(Meter()):
            self._rows.forget()

    def memory(self, batch: int, capacity: int, layers: int | None = None) -> KeyValues:
        """Room for the states of ``capacity`` tokens in the first ``layers`` layers."""
        return empty_states(self.model, batch, capacity, layers)

    def prefill(self, ids: Sequence[int], states: KeyValues, meter: Meter, last: int) -> None:
        """Compute the states of ``ids`` up to the keys of layer ``last``, part by part."""
        step = part_size(self.model, len(ids))
        for at in range(0, len(ids), step):
            part = ids[at : at + step]
            meter.allow(len(part))
            self.follow(part, states, last=last)
            states.keep(len(part))
            meter.count(len(part), passes=int(at == 0), held=states.bytes)

    def follow(
        self, ids: Sequence[int], states: KeyValues, *, readout: Readout | None = None, last: int = -1
    ) -> torch.Tensor | None:
        """``forward`` of one sequence that sees all that ``states`` hold, and itself causally."""
        return self.forward(self._tensor([ids]), states, None, readout=readout, last=last)

    def forward(
        self,
        ids: torch.Tensor,
        states: KeyValues | RowStates,
        mask: torch.Tensor | None,
        *,
        positions: torch.Tensor | None = None,
        readout: Readout | None = None,
        last: int = -1,
    ) -> torch.Tensor | None:
        """One pass over new tokens (B, T) behind what ``states`` holds; their states are written, not yet kept.

        Returns the normed hidden states (B, T, width), None where the pass ended in layer ``last``.
        """
        import torch

        core: Any = self.model.model
        if positions is None:
            assert isinstance(states, KeyValues)
            first = states.length - states.shift
            positions = torch.arange(first, first + ids.shape[1], device=ids.device)[None]
        hidden = core.embed_tokens(ids)
        rope = core.rotary_emb(hidden, position_ids=positions)
        try:
            for layer in core.layers:
                mixed, _ = layer.self_attn(
                    hidden_states=layer.input_layernorm(hidden),
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=states,
                    position_embeddings=rope,
                    readout=readout,
                    contexts=states.contexts,
                    last=last,
                )
                hidden += mixed
                del mixed  # its memory serves the MLP
                hidden += gated_mlp(layer.mlp, layer.post_attention_layernorm(hidden))
        except LayersDone:
            return None
        normed: torch.Tensor = core.norm(hidden)
        return normed

    def scores(self, hidden: torch.Tensor, labels: Sequence[int] | None) -> torch.Tensor:
        """Logits (rows, labels) in float32 of normed hidden states (rows, width); all of the vocabulary for None."""
        head: torch.Tensor = self.model.lm_head.weight
        if labels is None:
            return (hidden @ head.T).float()
        return hidden.float() @ head[list(labels)].float().T

    def _tensor(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        import torch

        return torch.tensor(ids, dtype=torch.long, device=self.model.device)

    def check(self, tokens: int) -> None:
        """Raises InvalidInput for a prompt longer than the model reads."""
        if tokens > self.context:
            raise InvalidInput(
                f"a prompt of {tokens} tokens; {self.name!r} reads at most {self.context}: shorten list or query"
            )
