"""The bounded worker threads: results, errors, the bound, streams, and an orderly end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from api.workers import Abandoned, Emit, Workers
from rag.batching import lending
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


def test_a_thread_that_waits_for_a_model_lends_its_place() -> None:
    """One place: eight jobs that wait for each other can only end together if each lends it."""
    together = threading.Barrier(8, timeout=20)

    def wait(n: int) -> int:
        with lending.get()():
            together.wait()
        return n

    async def main() -> None:
        workers = Workers(1, 100, spares=7)
        workers.start()
        for _ in range(5):
            assert await asyncio.gather(*(workers.run(partial(wait, n)) for n in range(8))) == list(range(8))
        running: list[int] = []
        most: list[int] = []

        def count() -> None:
            running.append(1)
            most.append(len(running))
            time.sleep(0.01)
            running.pop()

        await asyncio.gather(*(workers.run(count) for _ in range(40)))
        assert most[-20:] == [1] * 20, "the places are handed back: one thread works at a time again"
        assert len(workers._threads) == 8
        await workers.close()
        assert not any(thread.is_alive() for thread in workers._threads)

    asyncio.run(main())


def test_who_would_wait_too_long_is_refused_with_the_time_and_once_nobody_waits_all_is_forgotten() -> None:
    async def main() -> None:
        workers = Workers(1, 1000, max_wait=0.5)
        workers.start()
        held = [workers.submit(partial(time.sleep, 0.05)) for _ in range(9)]
        await asyncio.gather(*held[:5])
        assert 0.05 <= workers._interval < 0.3
        held += [workers.submit(partial(time.sleep, 0.05)) for _ in range(2)]
        refused = None
        for _ in range(20):
            try:
                held.append(workers.submit(partial(time.sleep, 0.05)))
            except Overloaded as error:
                refused = error
        assert refused is not None
        assert "the limit is 0.5 s (server.max_wait_ms)" in str(refused)
        assert refused.retry_after >= 1
        assert workers.expected_wait <= 0.5 + 2 * workers._interval
        await asyncio.gather(*held)
        assert workers.expected_wait == 0.0
        await asyncio.gather(*(workers.run(lambda: None) for _ in range(50)))
        await workers.close()

    asyncio.run(main())
