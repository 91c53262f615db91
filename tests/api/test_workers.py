"""The bounded worker threads: results, errors, the bound, streams, and an orderly end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from api.workers import Abandoned, Emit, Workers
from rag.errors import InvalidQuery, Overloaded


def with_workers(threads: int, queue: int, test: Callable[[Workers], Awaitable[None]]) -> None:
    async def main() -> None:
        workers = Workers(threads, queue)
        workers.start()
        try:
            await test(workers)
        finally:
            await workers.close()

    asyncio.run(main())


def words(error: Exception) -> bytes:
    return f"broke: {error}".encode()


def test_results_come_back_to_whom_they_belong() -> None:
    async def test(workers: Workers) -> None:
        found = await asyncio.gather(*(workers.run(partial(pow, n, 2)) for n in range(200)))
        assert found == [n * n for n in range(200)]
        assert workers.pending == 0

    with_workers(4, 200, test)


def test_work_is_done_on_the_fixed_threads() -> None:
    async def test(workers: Workers) -> None:
        names = await asyncio.gather(*(workers.run(lambda: threading.current_thread().name) for _ in range(50)))
        assert set(names) <= {"kvasir-worker-0", "kvasir-worker-1"}

    with_workers(2, 50, test)


def test_an_error_is_raised_where_it_is_awaited() -> None:
    def fail() -> None:
        raise InvalidQuery("no")

    async def test(workers: Workers) -> None:
        with pytest.raises(InvalidQuery, match="no"):
            await workers.run(fail)
        assert await workers.run(lambda: 1) == 1
        assert workers.pending == 0

    with_workers(1, 1, test)


def test_one_job_more_than_threads_and_queue_is_refused() -> None:
    async def test(workers: Workers) -> None:
        release = threading.Event()
        held = [asyncio.create_task(workers.run(release.wait)) for _ in range(2 + 3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await workers.run(lambda: None)
        assert refused.value.retry_after >= 1
        release.set()
        assert await asyncio.gather(*held) == [True] * 5
        await workers.run(lambda: None)

    with_workers(2, 3, test)


def test_the_loop_turns_while_all_threads_are_busy() -> None:
    async def test(workers: Workers) -> None:
        release = threading.Event()
        held = asyncio.create_task(workers.run(release.wait))
        ticks = 0
        until = time.perf_counter() + 0.2
        while time.perf_counter() < until:
            await asyncio.sleep(0.005)
            ticks += 1
        release.set()
        await held
        assert ticks > 5

    with_workers(1, 1, test)


def test_a_cancelled_job_that_waits_is_never_run() -> None:
    async def test(workers: Workers) -> None:
        release, ran = threading.Event(), threading.Event()
        held = asyncio.create_task(workers.run(release.wait))
        waiting = asyncio.create_task(workers.run(ran.set))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        release.set()
        await held
        await workers.run(lambda: None)
        assert not ran.is_set()
        assert workers.pending == 0

    with_workers(1, 5, test)


def test_many_results_share_a_wake_up() -> None:
    async def test(workers: Workers) -> None:
        wake_ups = 0
        fetch = workers._fetch

        def counted() -> None:
            nonlocal wake_ups
            wake_ups += 1
            fetch()

        workers._fetch = counted  # type: ignore[method-assign]
        tasks = [asyncio.create_task(workers.run(lambda: None)) for _ in range(100)]
        await asyncio.sleep(0)
        time.sleep(0.3)  # the loop is held up on purpose: everything finishes meanwhile
        await asyncio.gather(*tasks)
        assert wake_ups < 20

    with_workers(2, 100, test)


def test_a_stream_comes_in_order() -> None:
    def count(emit: Emit) -> None:
        for n in range(100):
            emit(str(n).encode())

    async def test(workers: Workers) -> None:
        pieces = [piece async for piece in await workers.stream(count, words)]
        assert pieces == [str(n).encode() for n in range(100)]

    with_workers(1, 1, test)


def test_an_error_before_the_first_piece_is_raised_and_a_later_one_is_the_last_piece() -> None:
    def late(emit: Emit) -> None:
        emit(b"one")
        raise InvalidQuery("late")

    def early(emit: Emit) -> None:
        raise InvalidQuery("early")

    async def test(workers: Workers) -> None:
        with pytest.raises(InvalidQuery, match="early"):
            await workers.stream(early, words)
        assert [piece async for piece in await workers.stream(late, words)] == [b"one", b"broke: late"]

    with_workers(1, 1, test)


def test_a_stream_nobody_listens_to_ends_its_job() -> None:
    async def test(workers: Workers) -> None:
        heard = threading.Event()
        ended: list[type[BaseException]] = []

        def endless(emit: Emit) -> None:
            try:
                while True:
                    emit(b"again")
                    heard.wait(0.01)
            except Abandoned:
                ended.append(Abandoned)
                raise

        pieces = await workers.stream(endless, words)
        assert await anext(pieces) == b"again"
        await pieces.aclose()  # type: ignore[attr-defined]
        await workers.run(lambda: None)  # the one thread is free again
        assert ended == [Abandoned]

    with_workers(1, 1, test)


def test_closing_finishes_what_was_taken_on() -> None:
    done: list[int] = []

    def work(n: int) -> None:
        time.sleep(0.02)
        done.append(n)

    async def main() -> None:
        workers = Workers(1, 10)
        workers.start()
        tasks = [asyncio.create_task(workers.run(partial(work, n))) for n in range(5)]
        await asyncio.sleep(0)
        await workers.close()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert done == [0, 1, 2, 3, 4]
