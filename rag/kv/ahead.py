"""A layer's cached states are put in place while the layer before it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Place = Callable[[int], None]
"""Puts a layer's cached states in place; called before the layer is computed."""
WORTH = 2**20
"""Bytes a layer below which a thread costs more than it saves."""


@contextmanager
def ahead(place: Place, layers: int, nbytes: int, device: torch.device) -> Iterator[Place]:
    """``place`` for layers asked in order from 0: the one behind that which was asked for is begun in a thread.

    layers  how many there are;  nbytes  of cached states, over all of them
    On CUDA copies go by a stream of their own. What ``place`` raises is raised where its layer is asked for. At the end
    nothing is under way any more.
    """
    if layers < 2 or nbytes < WORTH * layers:
        yield place
        return
    work = _streamed(place, device) if device.type == "cuda" else _inferring(place)
    begun: Future[Callable[[], None]] | None = None

    def placed(layer: int) -> None:
        nonlocal begun
        ready = work(layer) if begun is None else begun.result()
        begun = _thread().submit(work, layer + 1) if layer + 1 < layers else None
        ready()

    try:
        yield placed
    finally:
        if begun is not None and not begun.cancel() and begun.exception() is None:
            begun.result()()  # what is asked of the device next waits for copies that nobody asked for


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="ahead")


def _inferring(place: Place) -> Callable[[int], Callable[[], None]]:
    import torch

    def work(layer: int) -> Callable[[], None]:
        with torch.inference_mode():
            place(layer)
        return lambda: None

    return work


def _streamed(place: Place, device: torch.device) -> Callable[[int], Callable[[], None]]:
    """The copies wait for what was asked of the device before; what is asked of it then waits for them."""
    import torch

    copying: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    computing = torch.cuda.current_stream(device)
    copying.wait_stream(computing)

    def work(layer: int) -> Callable[[], None]:
        with torch.inference_mode(), torch.cuda.stream(copying):
            try:
                place(layer)
            except BaseException:
                computing.wait_stream(copying)  # what was copied by then goes into memory that is given back
                raise
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(copying)
        return lambda: computing.wait_event(done)

    return work
