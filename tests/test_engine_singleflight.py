"""Equal work is done once at a time; nobody waits for ever, nobody gets another's failure."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.singleflight import SingleFlight


def test_answers_in_order_and_computes_each_key_once() -> None:
    asked = []

    def compute(keys: list[bytes]) -> list[bytes]:
        asked.append(keys)
        return [key.upper() for key in keys]

    flight = SingleFlight[bytes]()
    assert flight.run_many([b"b", b"a", b"b"], compute) == [b"B", b"A", b"B"]
    assert asked == [[b"b", b"a"]]
    assert flight.run_many([], compute) == []
    assert flight.run_many([b"a"], compute) == [b"A"]
    assert asked == [[b"b", b"a"], [b"a"]]


def test_concurrent_callers_share_one_computation() -> None:
    flight, begun, go, calls = SingleFlight[int](), threading.Event(), threading.Event(), []

    def slow(keys: list[bytes]) -> list[int]:
        calls.append(keys)
        begun.set()
        assert go.wait(10)
        return [1] * len(keys)

    def quick(keys: list[bytes]) -> list[int]:
        calls.append(keys)
        return [2] * len(keys)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flight.run_many, [b"k"], slow)
        assert begun.wait(10)
        second = pool.submit(flight.run_many, [b"k", b"own"], quick)
        while len(calls) < 2:
            pass
        go.set()
        assert first.result(10) == [1]
        assert second.result(10) == [1, 2]
    assert calls == [[b"k"], [b"own"]]


def test_a_failure_belongs_to_the_one_whose_call_failed() -> None:
    flight, begun, go = SingleFlight[int](), threading.Event(), threading.Event()

    def fails(keys: list[bytes]) -> list[int]:
        begun.set()
        assert go.wait(10)
        raise ValueError("mine")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flight.run_many, [b"k"], fails)
        assert begun.wait(10)
        second = pool.submit(flight.run_many, [b"k"], lambda keys: [5] * len(keys))
        go.set()
        with pytest.raises(ValueError, match="mine"):
            first.result(10)
        assert second.result(10) == [5]
    assert flight.run_many([b"k"], lambda keys: [6]) == [6]


def test_crossing_callers_do_not_wait_for_each_other() -> None:
    flight, barrier = SingleFlight[int](), threading.Barrier(2, timeout=10)

    def compute(keys: list[bytes]) -> list[int]:
        barrier.wait()
        return [len(keys)] * len(keys)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(flight.run_many, [b"a"], compute)
        two = pool.submit(flight.run_many, [b"b"], compute)
        assert one.result(10) == two.result(10) == [1]

    results = []
    with ThreadPoolExecutor(8) as pool:
        orders = [[b"a", b"b"], [b"b", b"a"], [b"b", b"c"], [b"c", b"a"]] * 50
        results = list(pool.map(lambda keys: flight.run_many(keys, lambda mine: [key[0] for key in mine]), orders))
    assert results == [[key[0] for key in keys] for keys in orders]


def test_a_short_answer_is_an_error_and_leaves_nothing_behind() -> None:
    flight = SingleFlight[int]()
    with pytest.raises(ValueError, match="zip"):
        flight.run_many([b"a", b"b"], lambda keys: [1])
    assert flight.run_many([b"a", b"b"], lambda keys: [1, 2]) == [1, 2]
