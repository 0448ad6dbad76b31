import asyncio
import threading

import pytest

from api.workers import Workers, WriteOrder
from engine.errors import DeadlineExceeded, InvalidQuery, Overloaded, StorageError, Unavailable


@pytest.fixture
def workers():
    workers = Workers(threads=1, max_queue=2, deadline_s=0.3)
    yield workers
    workers.close()


def test_work_runs_off_the_loop_and_its_result_comes_back(workers):
    async def scenario():
        return await workers.run(threading.get_ident)

    assert asyncio.run(scenario()) != threading.get_ident()


def test_what_work_raises_is_raised(workers):
    def fail():
        raise InvalidQuery("no")

    with pytest.raises(InvalidQuery, match="no"):
        asyncio.run(workers.run(fail))


def test_a_deadline_frees_the_caller_and_work_that_has_not_begun_never_begins(workers):
    gate, begun = threading.Event(), []

    async def scenario():
        first = asyncio.create_task(workers.run(gate.wait))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(workers.run(lambda: begun.append(1)))
        answers = await asyncio.gather(first, second, return_exceptions=True)
        gate.set()
        await asyncio.sleep(0.05)
        return answers, await workers.run(lambda: "next")

    answers, after = asyncio.run(scenario())
    assert [type(answer) for answer in answers] == [DeadlineExceeded, DeadlineExceeded]
    assert begun == []
    assert after == "next"


def test_a_full_pool_refuses(workers):
    gate = threading.Event()

    async def scenario():
        tasks = [asyncio.create_task(workers.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await workers.run(lambda: None)
        gate.set()
        await asyncio.gather(*tasks)
        return await workers.run(lambda: "room")

    assert asyncio.run(scenario()) == "room"


def test_a_closed_pool_is_unavailable(workers):
    workers.close()
    with pytest.raises(Unavailable):
        asyncio.run(workers.run(lambda: None))


def test_writes_of_one_collection_take_turns_and_of_two_do_not():
    async def scenario():
        order = WriteOrder(max_waiting=4, deadline_s=1)
        log = []

        async def write(collection, number):
            async with order.turn(collection):
                log.append(("in", collection, number))
                await asyncio.sleep(0.02)
                log.append(("out", collection, number))

        await asyncio.gather(write("a", 1), write("a", 2), write("b", 3))
        return log

    log = asyncio.run(scenario())
    of_a = [entry for entry in log if entry[1] == "a"]
    assert of_a == [("in", "a", 1), ("out", "a", 1), ("in", "a", 2), ("out", "a", 2)]
    assert log.index(("in", "b", 3)) < log.index(("out", "a", 1))


def test_waiting_writers_are_bounded_in_number_and_time():
    async def scenario():
        order = WriteOrder(max_waiting=1, deadline_s=0.1)
        async with order.turn("a"):
            waiting = asyncio.create_task(_enter(order))
            await asyncio.sleep(0.01)
            with pytest.raises(Overloaded):
                await _enter(order)
            with pytest.raises(DeadlineExceeded):
                await waiting
        return await _enter(order)

    assert asyncio.run(scenario()) == "entered"


async def _enter(order):
    async with order.turn("a"):
        return "entered"


def test_a_disk_that_refuses_the_lock_is_said_and_the_next_write_gets_its_turn(tmp_path):
    (tmp_path / "locks").write_text("a file where the folder should be")

    async def scenario():
        order = WriteOrder(max_waiting=2, deadline_s=1, folder=tmp_path / "locks")
        with pytest.raises(StorageError, match="locks cannot be written"):
            async with order.turn("shop"):
                pass
        (tmp_path / "locks").unlink()
        async with order.turn("shop"):
            return True

    assert asyncio.run(scenario())
