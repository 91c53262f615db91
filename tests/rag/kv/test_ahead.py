"""The next layer's states come while this one is computed, and are the same."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest
import torch

from rag.kv import ahead as module
from rag.kv.ahead import ahead
from rag.kv.capture import read_chunks
from rag.kv.compose import compose
from rag.kv.modes import parse_mode
from rag.kv.together import Question, ask
from rag.runtime.meter import Meter
from tests.tiny_models import loaded

CPU = torch.device("cpu")
LARGE = 2**30
CHUNKS = [tuple(range(5, 25)), tuple(range(40, 73)), tuple(range(7, 19))]
LEAD = (3, 4, 5)


def test_a_layer_is_placed_while_the_one_before_is_computed() -> None:
    begun = [threading.Event() for _ in range(4)]

    def place(layer: int) -> None:
        begun[layer].set()

    with ahead(place, 4, LARGE, CPU) as placed:
        for layer in range(4):
            placed(layer)
            assert layer == 3 or begun[layer + 1].wait(10), "nothing comes by itself"


def test_every_layer_is_placed_once_in_order_and_is_there_when_it_is_asked_for() -> None:
    done: list[int] = []

    def place(layer: int) -> None:
        time.sleep(0.02)
        done.append(layer)

    with ahead(place, 5, LARGE, CPU) as placed:
        for layer in range(5):
            placed(layer)
            assert done[: layer + 1] == list(range(layer + 1))
    assert done == [0, 1, 2, 3, 4]


def test_few_bytes_are_placed_where_they_are_asked_for() -> None:
    threads = set()
    with ahead(lambda _: threads.add(threading.get_ident()), 4, 1000, CPU) as placed:
        for layer in range(4):
            placed(layer)
    assert threads == {threading.get_ident()}


def test_what_goes_wrong_is_said_where_the_layer_is_asked_for() -> None:
    def place(layer: int) -> None:
        if layer == 2:
            raise MemoryError("layer 2")

    with ahead(place, 4, LARGE, CPU) as placed:
        placed(0)
        placed(1)
        with pytest.raises(MemoryError, match="layer 2"):
            placed(2)


def test_whoever_leaves_early_leaves_nothing_under_way() -> None:
    running = threading.Event()

    def place(layer: int) -> None:
        if layer:
            running.set()
            time.sleep(0.05)
            running.clear()

    with suppress(KeyError), ahead(place, 4, LARGE, CPU) as placed:
        placed(0)
        assert running.wait(10)
        raise KeyError
    assert not running.is_set()


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("mode", ["independent", "link-3", "blend-0.3", "craft", "ape", "full"])
def test_composed_states_are_the_same_to_the_bit(family: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(family)
    prefix = read_chunks(model, [LEAD], Meter(), on="model")[0]
    chunks = read_chunks(model, CHUNKS, Meter(), prefix=prefix)
    found = []
    for worth in (2**60, 0):
        monkeypatch.setattr(module, "WORTH", worth)
        states = compose(model, prefix, chunks, parse_mode(mode), Meter(), room=4).states
        rows = [Question(prefix, chunks, (9, 8, 7)), Question(prefix, chunks[::-1], (6, 5))]
        said = [hidden for hidden, _ in ask(model, rows, parse_mode(mode), Meter(), lambda _, hidden: hidden.clone())]
        keys = torch.stack([layer[:, :, : states.length] for layer in states.keys])
        found.append((keys, *said))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
