"""A failing thing is left alone for a while, then tried by one caller; a hanging call holds nobody."""

import threading
import time

import pytest

from engine.circuit import Circuit, Lanes


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_calls_go_through_until_one_fails(clock: Clock) -> None:
    circuit = Circuit(1, 4, clock=clock)
    assert circuit.closed
    entered = circuit.enter()
    assert entered is not None
    assert circuit.fail(entered) == 1
    assert not circuit.closed
    assert circuit.enter() is None


def test_the_pause_doubles_to_its_limit_and_success_ends_it(clock: Clock) -> None:
    circuit, pauses = Circuit(1, 4, clock=clock), []
    for _ in range(5):
        pauses.append(circuit.fail(circuit.enter()))
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 4, 4]
    assert circuit.enter() is not None
    assert circuit.succeed()
    assert circuit.closed
    assert not circuit.succeed()
    assert circuit.fail(circuit.enter()) == 1


def test_one_caller_tries_while_the_others_wait(clock: Clock) -> None:
    circuit = Circuit(1, 4, clock=clock)
    circuit.fail(circuit.enter())
    clock.now = 1
    assert [circuit.enter() is not None for _ in range(3)] == [True, False, False]


def test_failures_of_one_moment_open_it_once(clock: Clock) -> None:
    circuit = Circuit(1, 4, clock=clock)
    first, second = circuit.enter(), circuit.enter()
    clock.now = 0.5
    assert circuit.fail(first) == 1
    assert circuit.fail(second) is None
    clock.now = 1.5
    assert circuit.enter() is not None


def test_lanes_return_what_a_call_returns_or_raises() -> None:
    lanes = Lanes("test", 2)
    assert lanes.submit(lambda: 7).result(5) == 7
    with pytest.raises(ZeroDivisionError):
        lanes.submit(lambda: 1 / 0).result(5)
    lanes.close()


def test_a_hanging_call_holds_one_lane_only() -> None:
    lanes, hang = Lanes("test", 2), threading.Event()
    hung = lanes.submit(hang.wait)
    assert lanes.submit(lambda: 1).result(5) == 1
    lanes.submit(hang.wait)
    waiting = lanes.submit(lambda: pytest.fail("a cancelled call ran"))
    assert waiting.cancel()
    hang.set()
    assert hung.result(5)
    assert lanes.submit(lambda: 2).result(5) == 2
    lanes.close()


def test_after_closing_nothing_runs_and_the_threads_end() -> None:
    before = threading.active_count()
    lanes = Lanes("test", 3)
    lanes.submit(lambda: None).result(5)
    lanes.close()
    assert lanes.submit(lambda: None).cancelled()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
