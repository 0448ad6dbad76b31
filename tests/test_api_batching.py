"""Every way a search can end, with a fake `search` whose timing the test controls."""

import asyncio
import threading
import time

import pytest

from api.batching import MicroBatcher
from engine.datatypes import Query, SearchResult, Term
from engine.errors import CollectionNotFound, DeadlineExceeded, InvalidFilter, Overloaded, Unavailable


def query(text: str) -> Query:
    return Query((Term(text),))


def result(text: str) -> SearchResult:
    return SearchResult((), 0.5, "answer", len(text), {"for": float(text)} if text.isdecimal() else {}, 1)


def answer_all(collection, queries):
    return [result(q.terms[0].content) for q in queries]


class GatedSearch:
    """Records its batches; each call waits until the gate is open."""

    def __init__(self, answer=answer_all):
        self.batches = []
        self.gate = threading.Event()
        self._answer = answer

    def __call__(self, collection, queries):
        self.batches.append((collection, [q.terms[0].content for q in queries]))
        assert self.gate.wait(5)
        return self._answer(collection, queries)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def run(scenario, search=answer_all, **options):
    """Run `scenario(batcher)` in a loop of its own and check that nothing is left behind."""

    async def main():
        loop = asyncio.get_running_loop()
        complaints = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        batcher = MicroBatcher(search, **options)
        try:
            return await scenario(batcher)
        finally:
            await batcher.close(5)
            assert batcher.queued == 0
            assert batcher.longest_running_s == 0
            assert complaints == []

    return asyncio.run(main())


def test_a_lone_search_starts_at_once():
    async def scenario(batcher):
        began = time.perf_counter()
        answer = await batcher.submit("shop", query("7"))
        return answer, time.perf_counter() - began

    answer, seconds = run(scenario)
    assert answer.timings_ms == {"for": 7.0}
    assert seconds < 0.1


def test_searches_that_arrive_together_share_calls_and_each_gets_its_own_answer():
    search = GatedSearch()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.submit("shop", query("0")))
        await until(lambda: search.batches)
        rest = [asyncio.create_task(batcher.submit("shop", query(str(n)))) for n in range(1, 11)]
        await until(lambda: batcher.queued == 10)
        search.gate.set()
        return [await task for task in (first, *rest)]

    answers = run(scenario, search, max_batch=8)
    assert [answer.timings_ms["for"] for answer in answers] == list(range(11))
    assert [len(texts) for _, texts in search.batches] == [1, 8, 2]


def test_a_slow_collection_does_not_hold_up_another():
    search = GatedSearch(answer_all)

    def route(collection, queries):
        return search(collection, queries) if collection == "slow" else answer_all(collection, queries)

    async def scenario(batcher):
        slow = asyncio.create_task(batcher.submit("slow", query("1")))
        await until(lambda: search.batches)
        fast = await batcher.submit("fast", query("2"))
        assert not slow.done()
        search.gate.set()
        await slow
        return fast

    assert run(scenario, route).timings_ms == {"for": 2.0}


def test_an_error_returned_for_one_query_fails_it_alone():
    def search(collection, queries):
        return [InvalidFilter("no", column=3) if q.terms[0].content == "bad" else result("1") for q in queries]

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit("shop", query(text)) for text in ("1", "bad", "1")), return_exceptions=True)

    good, bad, also_good = run(scenario, search)
    assert isinstance(bad, InvalidFilter)
    assert isinstance(good, SearchResult)
    assert isinstance(also_good, SearchResult)


@pytest.mark.parametrize("poison", [ValueError("boom"), MemoryError(), StopIteration(), InvalidFilter("x")])
def test_a_query_that_breaks_the_whole_call_fails_alone(poison):
    def search(collection, queries):
        if any(q.terms[0].content == "bad" for q in queries):
            raise poison
        return answer_all(collection, queries)

    async def scenario(batcher):
        texts = ["0", "1", "2", "bad", "4", "5", "6"]
        return await asyncio.gather(*(batcher.submit("shop", query(text)) for text in texts), return_exceptions=True)

    answers = run(scenario, search)
    failed = [number for number, answer in enumerate(answers) if not isinstance(answer, SearchResult)]
    assert failed == [3]
    assert isinstance(answers[3], RuntimeError if isinstance(poison, StopIteration) else type(poison))
    assert [a.timings_ms["for"] for n, a in enumerate(answers) if n != 3] == [0, 1, 2, 4, 5, 6]


def test_a_missing_collection_is_looked_for_once_however_many_asked():
    calls = []

    def search(collection, queries):
        calls.append(len(queries))
        raise CollectionNotFound("no collection")

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit("shop", query("1")) for _ in range(5)), return_exceptions=True)

    assert all(isinstance(answer, CollectionNotFound) for answer in run(scenario, search))
    assert calls == [5]


def test_too_few_answers_are_a_failure_not_a_mix_up():
    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit("shop", query("1")) for _ in range(3)), return_exceptions=True)

    answers = run(scenario, lambda collection, queries: [])
    assert [type(answer) for answer in answers] == [RuntimeError] * 3


def test_a_full_queue_refuses_and_has_room_again_afterwards():
    search = GatedSearch()

    async def scenario(batcher):
        running = asyncio.create_task(batcher.submit("shop", query("0")))
        await until(lambda: search.batches)
        waiting = [asyncio.create_task(batcher.submit("shop", query("1"))) for _ in range(2)]
        await until(lambda: batcher.queued == 2)
        with pytest.raises(Overloaded):
            await batcher.submit("shop", query("2"))
        with pytest.raises(Overloaded):
            await batcher.submit("other", query("2"))
        search.gate.set()
        await asyncio.gather(running, *waiting)
        return await batcher.submit("shop", query("3"))

    assert run(scenario, search, max_queue=2).timings_ms == {"for": 3.0}


def test_a_cancelled_caller_frees_its_place_and_is_not_searched_for():
    search = GatedSearch()

    async def scenario(batcher):
        running = asyncio.create_task(batcher.submit("shop", query("0")))
        await until(lambda: search.batches)
        leaving = asyncio.create_task(batcher.submit("shop", query("1")))
        await until(lambda: batcher.queued == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert batcher.queued == 0
        staying = asyncio.create_task(batcher.submit("shop", query("2")))
        await until(lambda: batcher.queued == 1)
        search.gate.set()
        await asyncio.gather(running, staying)

    run(scenario, search, max_queue=1)
    assert [texts for _, texts in search.batches] == [["0"], ["2"]]


def test_a_caller_cancelled_during_its_batch_leaves_the_others_their_answers():
    search = GatedSearch()

    async def scenario(batcher):
        tasks = [asyncio.create_task(batcher.submit("shop", query(str(n)))) for n in range(3)]
        await until(lambda: search.batches)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        search.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = run(scenario, search)
    assert isinstance(second, asyncio.CancelledError)
    assert (first.timings_ms["for"], third.timings_ms["for"]) == (0, 2)


def test_a_deadline_answers_the_caller_and_the_batcher_goes_on():
    search = GatedSearch()

    async def scenario(batcher):
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("shop", query("0"))
        assert batcher.longest_running_s > 0
        with pytest.raises(DeadlineExceeded):  # behind the stuck one, never begun
            await batcher.submit("shop", query("1"))
        assert batcher.queued == 0
        search.gate.set()
        return await batcher.submit("shop", query("2"))

    assert run(scenario, search, deadline_s=0.1).timings_ms == {"for": 2.0}
    assert [texts for _, texts in search.batches] == [["0"], ["2"]]


def test_closing_answers_what_is_under_way_and_refuses_what_comes_later():
    search = GatedSearch()

    async def scenario(batcher):
        running = asyncio.create_task(batcher.submit("shop", query("0")))
        await until(lambda: search.batches)
        waiting = asyncio.create_task(batcher.submit("shop", query("1")))
        await until(lambda: batcher.queued == 1)
        closing = asyncio.create_task(batcher.close(5))
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await batcher.submit("shop", query("2"))
        search.gate.set()
        await closing
        return [await running, await waiting]

    assert [answer.timings_ms["for"] for answer in run(scenario, search)] == [0, 1]


def test_closing_does_not_wait_for_a_stuck_search_for_ever():
    search = GatedSearch()

    async def scenario(batcher):
        running = asyncio.create_task(batcher.submit("shop", query("0")))
        await until(lambda: search.batches)
        waiting = asyncio.create_task(batcher.submit("shop", query("1")))
        await until(lambda: batcher.queued == 1)
        await batcher.close(0.05)
        answers = await asyncio.gather(running, waiting, return_exceptions=True)
        search.gate.set()
        return answers

    assert [type(answer) for answer in run(scenario, search)] == [Unavailable, Unavailable]
