"""What storing alone changes: passages as the full prefill has them, put through a scheme and back."""

from __future__ import annotations

from itertools import accumulate, pairwise

from rag.kv.capture import read_chunks, read_watched
from rag.kv.compose import Composed, compose
from rag.kv.layout import encode, parse
from rag.kv.library import ChunkLibrary
from rag.kv.modes import Mode
from rag.kv.plan import Chunk, Ids
from rag.kv.prompt_parts import Layout
from rag.kv.quantize import Scheme
from rag.kv.reader import CachedReader
from rag.kv.states import ChunkStates
from rag.runtime.meter import Meter

_PLACED = Mode(kind="independent")


class StoredReader(CachedReader):
    """Reads each prompt whole, then has its passages' states rounded by a scheme. For measuring: it saves nothing."""

    def __init__(self, library: ChunkLibrary, scheme: Scheme) -> None:
        super().__init__(library, _PLACED, labelled=False)
        self.scheme = scheme

    def _wanted(self, layout: Layout) -> list[Ids]:
        return []

    def _composed(self, layout: Layout, room: int, meter: Meter, layers: int | None = None) -> Composed:
        head = read_chunks(self.model, [layout.head], meter, on="model")[0]
        rows = [ids for ids, _ in layout.pieces]
        bounds = [0, *accumulate(map(len, rows))]
        whole = read_watched(self.model, [i for ids in rows for i in ids], meter, lambda *_: None, prefix=head)
        chunks: list[Chunk] = []
        for (ids, passage), (start, stop) in zip(layout.pieces, pairwise(bounds), strict=True):
            cut = (whole.keys[:, :, start:stop].contiguous(), whole.values[:, :, start:stop].contiguous())
            states = ChunkStates(ids, *cut, len(layout.head) + start)
            chunks.append(parse(encode(states, self.scheme, "", allow_int4=True)).read() if passage else states)
        return compose(self.model, head, chunks, self.mode, meter, room=room, layers=layers)
