"""Many short questions behind cached chunks in one pass: their new tokens side by side, their states apart.

What a composition computes in place and the question behind it are one set of active tokens of a prompt; the sets of
several prompts are laid end to end. So weights are read once a layer for all of them, nothing is padded, and each
prompt's attention is over its own states: what it gives depends on the prompts beside it by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from rag.errors import InvalidInput, ModelOutOfMemory
from rag.kv.ahead import Place, ahead
from rag.kv.ape import correction, shift
from rag.kv.blend import Deviants
from rag.kv.capture import read_chunks
from rag.kv.compose import cached_bytes, placing, positions_of
from rag.kv.craft import Variant
from rag.kv.layer import finish, projected
from rag.kv.modes import Mode
from rag.kv.plan import Chunk, Ids, Piece, all_exact, ids_of, pieces_of, reusable, rounding, to_compute
from rag.kv.recompute import ROWS, ROWS_CUDA, Narrow, visible
from rag.kv.rope import Rope, angles, check_supported, rotated
from rag.kv.states import ChunkStates
from rag.runtime.attention import Contexts, attend
from rag.runtime.keyvalues import KeyValues
from rag.runtime.meter import Meter

if TYPE_CHECKING:
    import torch

    from rag.language_model import LanguageModel

ACTIVE = 2048
"""Tokens that one pass computes, of all its prompts; a prompt that has more goes alone."""
HELD = 8192
"""Tokens whose states one pass holds, of all its prompts; likewise."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A prompt in parts: what ``compose`` takes, and the token ids behind it, at least one.

    tag  whatever the caller knows it by
    """

    prefix: ChunkStates | Ids
    chunks: Sequence[Chunk]
    tail: Ids
    tag: int = 0


@dataclass(frozen=True, slots=True)
class Reused:
    """What of one prompt was computed in place, as a share of its token states without the tail, and how."""

    tokens: int
    recomputed: float
    exact: bool
    rounded: str


@dataclass(slots=True, eq=False)
class _Row:
    """One prompt. ``places`` are those of its active tokens that go on, ascending, the tail's at the end."""

    question: Question
    pieces: list[Piece]
    ids: Ids
    positions: list[int]
    active: list[int]
    fresh: int
    contexts: Contexts | None

    @property
    def length(self) -> int:
        return len(self.ids)


@dataclass(slots=True, eq=False)
class _Run:
    """A row while it is computed. ``count`` sums, over layers, the tokens computed that are not the tail's."""

    row: _Row
    places: torch.Tensor
    states: KeyValues
    place: Place
    narrow: Narrow | None
    count: int = 0


def ask(
    model: LanguageModel,
    questions: Sequence[Question],
    mode: Mode,
    meter: Meter,
    finished: Callable[[Question, torch.Tensor], T],
) -> Iterator[tuple[T, Reused]]:
    """What ``finished`` makes of each question's normed hidden states (tail, width), in the order given.

    The same, to rounding, as composing each prompt by itself and reading its tail behind it. As many prompts share a
    pass as ACTIVE and HELD allow; fewer where memory is short. Raises what ``compose`` does.
    """
    check_supported(model)
    for question in questions:
        if not question.tail:
            raise InvalidInput("a question behind chunks has at least one token")
    for batch in _batches(_rows(model, questions, mode, meter)):
        yield from _answers(model, batch, mode, meter, finished)


def _rows(model: LanguageModel, questions: Sequence[Question], mode: Mode, meter: Meter) -> Iterator[_Row]:
    """Each question's layout. What is not cached of chunks in parallel is read first, of all questions at once."""
    read = _read_apart(model, questions, meter) if mode.parallel else {}
    for question in questions:
        fresh = 0
        if mode.parallel:
            question, fresh = _filled(question, read)
        pieces = pieces_of(question.prefix, question.chunks)
        ids = tuple(token for piece in pieces for token in piece.ids)
        positions = positions_of(mode, pieces)
        lengths = [len(piece.ids) for piece in pieces[1:]]
        first = len(ids) - (shift(lengths) if mode.parallel else 0)
        model.check(first + len(question.tail))
        tail = range(len(ids), len(ids) + len(question.tail))
        if mode.exact:
            known = reusable(pieces) if mode.kind == "prefix" else 0
            active = [*range(pieces[known - 1].stop if known else 0, len(ids))]
        else:
            active = to_compute(mode, pieces)
        contexts = correction(mode, pieces[0].stop, len(ids)) if mode.parallel else None
        positions += range(first, first + len(question.tail))
        yield _Row(question, pieces, ids, positions, [*active, *tail], fresh, contexts)


def _read_apart(
    model: LanguageModel, questions: Sequence[Question], meter: Meter
) -> dict[tuple[Ids, Ids], ChunkStates]:
    """(prefix, chunk) -> states of chunks that have none, each read once; (prefix, ()) -> the prefix's."""
    heads: dict[Ids, ChunkStates] = {}
    wanted: dict[Ids, dict[Ids, None]] = {}
    for question in questions:
        ids = _ids(question.prefix)
        if isinstance(question.prefix, ChunkStates):
            heads[ids] = question.prefix
        wanted.setdefault(ids, {}).update(dict.fromkeys(_missing(question)))
    found: dict[tuple[Ids, Ids], ChunkStates] = {}
    for ids, missing in wanted.items():
        head = heads[ids] if ids in heads else read_chunks(model, [ids], meter, on="model")[0]
        found[ids, ()] = head
        made = read_chunks(model, list(missing), meter, prefix=head, on="model")
        found |= {(ids, chunk): states for chunk, states in zip(missing, made, strict=True)}
    return found


def _filled(question: Question, read: dict[tuple[Ids, Ids], ChunkStates]) -> tuple[Question, int]:
    """The question with states for all it has, and of how many tokens they were read for it."""
    ids = _ids(question.prefix)
    there: list[Chunk] = [
        chunk if isinstance(chunk, ChunkStates | Variant) else read[ids, ids_of(chunk)] for chunk in question.chunks
    ]
    fresh = sum(map(len, _missing(question))) + (0 if isinstance(question.prefix, ChunkStates) else len(ids))
    return replace(question, prefix=read[ids, ()], chunks=there), fresh


def _ids(prefix: ChunkStates | Ids) -> Ids:
    return prefix.ids if isinstance(prefix, ChunkStates) else tuple(prefix)


def _missing(question: Question) -> list[Ids]:
    """The chunks of which nothing is cached."""
    return [ids_of(chunk) for chunk in question.chunks if not isinstance(chunk, ChunkStates | Variant)]


def _batches(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """Rows in order, as many together as fit."""
    batch: list[_Row] = []
    for row in rows:
        more = [*batch, row]
        if batch and (sum(len(one.active) for one in more) > ACTIVE or sum(len(one.positions) for one in more) > HELD):
            yield batch
            more = [row]
        batch = more
    if batch:
        yield batch


def _answers(
    model: LanguageModel,
    rows: Sequence[_Row],
    mode: Mode,
    meter: Meter,
    finished: Callable[[Question, torch.Tensor], T],
) -> list[tuple[T, Reused]]:
    """One pass; two of half the rows each where memory is too short for it."""

    def run() -> list[tuple[T, Reused]]:
        meter.allow(sum(len(row.active) for row in rows))
        hidden, runs = _pass(model, rows, mode, meter)
        said = [finished(row.question, states) for row, states in zip(rows, hidden, strict=True)]
        depth = model.shape[0]
        counted = sum(-(-one.count // depth) + len(one.row.question.tail) for one in runs)
        meter.count(counted, held=sum(one.states.bytes for one in runs))
        return [(one, _reused(model, done, mode)) for one, done in zip(said, runs, strict=True)]

    try:
        return model.alone(meter, run, max(len(row.positions) for row in rows))
    except ModelOutOfMemory:
        if len(rows) == 1:
            raise
    half = len(rows) // 2
    return [
        *_answers(model, rows[:half], mode, meter, finished),
        *_answers(model, rows[half:], mode, meter, finished),
    ]


def _reused(model: LanguageModel, run: _Run, mode: Mode) -> Reused:
    row = run.row
    computed = [place for place in row.active if place < row.length]
    exact = all_exact(mode, row.pieces, computed, model.model.dtype)
    share = (run.count / model.shape[0] + row.fresh) / row.length if row.length else 0.0
    return Reused(row.length, share, exact, "" if exact else rounding(mode, row.pieces))


def _begun(model: LanguageModel, row: _Row, mode: Mode) -> _Run:
    import torch

    device = model.model.device
    states = model.memory(1, len(row.positions))
    known = row.pieces
    if mode.exact:
        known = row.pieces[: reusable(row.pieces)] if mode.kind == "prefix" else []
    stop = known[-1].stop if known else 0
    narrow: Narrow | None = None
    if mode.kind == "blend":
        cached = [piece.states is not None for piece in row.pieces for _ in piece.ids]
        narrow = Deviants(mode, torch.tensor([*cached, *(False for _ in row.question.tail)], device=device))
    places = torch.tensor(row.active, dtype=torch.long, device=device)
    return _Run(row, places, states, placing(model, states, known, row.positions[:stop]), narrow)


def _pass(
    model: LanguageModel, rows: Sequence[_Row], mode: Mode, meter: Meter
) -> tuple[list[torch.Tensor], list[_Run]]:
    """The normed hidden states of each row's tail, and what was done for it."""
    import torch

    core: Any = model.model.model
    device = model.model.device
    runs = [_begun(model, row, mode) for row in rows]
    ids = [(*row.ids, *row.question.tail) for row in rows]
    tokens = torch.tensor([every[i] for every, row in zip(ids, rows, strict=True) for i in row.active], device=device)
    positions = torch.tensor([row.positions[i] for row in rows for i in row.active])
    hidden, rope = core.embed_tokens(tokens[None]), angles(model, positions)
    depth, cached = len(core.layers), sum(cached_bytes(row.pieces) for row in rows)
    with ahead(lambda at: _placed(runs, at), depth, cached, device) as place:
        for at, layer in enumerate(core.layers):
            meter.allow()
            place(at)
            hidden, rope = _layer(layer, at, depth, runs, hidden, rope)
    normed = core.norm(hidden)[0]
    return [normed[span] for _, span in _spans(runs)], runs


def _placed(runs: Sequence[_Run], at: int) -> None:
    for run in runs:
        run.place(at)


def _layer(
    layer: Any, at: int, layers: int, runs: Sequence[_Run], hidden: torch.Tensor, rope: Rope
) -> tuple[torch.Tensor, Rope]:
    """What a layer makes of the active tokens of all rows, those that go on; and their angles."""
    import torch

    device = hidden.device
    query, key, value = projected(layer, hidden)
    query, key = rotated(query, rope), rotated(key, rope)
    kept = [_stored(run, span, at, key, value, layers) for run, span in _spans(runs)]
    if any(chosen is not None for chosen in kept):
        going = torch.cat([
            span.start + (torch.arange(len(run.places), device=device) if chosen is None else chosen)
            for (run, span), chosen in zip(_spans(runs), kept, strict=True)
        ])  # fmt: skip
        hidden, query = hidden[:, going], query[:, :, going]
        rope = (rope[0][:, going], rope[1][:, going])
        for run, chosen in zip(runs, kept, strict=True):
            run.places = run.places if chosen is None else run.places[chosen]
    mixed = torch.cat([_attended(layer, run, at, query[:, :, span]) for run, span in _spans(runs)], dim=1)
    step = ROWS_CUDA if hidden.is_cuda else ROWS
    for first in range(0, hidden.shape[1], step):
        finish(layer, hidden[:, first : first + step], mixed[:, first : first + step])
    return hidden, rope


def _spans(runs: Sequence[_Run]) -> list[tuple[_Run, slice]]:
    """Where each row's tokens lie among those of all."""
    bounds = [0, *accumulate(len(run.places) for run in runs)]
    return [(run, slice(*ends)) for run, ends in zip(runs, pairwise(bounds), strict=True)]


def _stored(
    run: _Run, span: slice, at: int, key: torch.Tensor, value: torch.Tensor, layers: int
) -> torch.Tensor | None:
    """Puts a row's fresh keys and values where they belong. Which of its tokens go on; None for all of them.

    Behind the last layer only the tail is wanted.
    """
    import torch

    fresh, tail = (key[:, :, span], value[:, :, span]), len(run.row.question.tail)
    kept = run.narrow(at, run.places, fresh, run.states) if run.narrow is not None else None
    run.states.keys[at][:, :, run.places], run.states.values[at][:, :, run.places] = fresh
    run.count += len(run.places) - tail
    if at == layers - 1:
        return torch.arange(len(run.places) - tail, len(run.places), device=run.places.device)
    return kept


def _attended(layer: Any, run: _Run, at: int, query: torch.Tensor) -> torch.Tensor:
    """(1, tokens, heads, d): attention of a row's tokens to its own states."""
    import torch

    attention, keys, values = layer.self_attn, run.states.keys[at], run.states.values[at]
    rows = ROWS_CUDA if query.is_cuda else ROWS
    parts = []
    for first in range(0, len(run.places), rows):
        places = run.places[first : first + rows]
        upto = int(places[-1]) + 1
        mask = None if upto - int(places[0]) == len(places) else visible(places, upto)[None, None]
        some = query[:, :, first : first + rows]
        parts.append(
            attend(attention, some, keys[:, :, :upto], values[:, :, :upto], mask, attention.scaling,
                   contexts=run.row.contexts)[0]
        )  # fmt: skip
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
