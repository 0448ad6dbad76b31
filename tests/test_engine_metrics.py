import time

from engine.metrics import StageTimer


def test_blocks_of_one_name_add_up_and_total_covers_them():
    timer = StageTimer()
    for _ in range(2):
        with timer.stage("encode"):
            time.sleep(0.002)
    timings = timer.as_dict()
    assert list(timings) == ["encode", "total"]
    assert timings["encode"] >= 4
    assert timings["total"] >= timings["encode"]


def test_a_failing_block_is_timed_too():
    timer = StageTimer()
    try:
        with timer.stage("search"):
            raise ValueError
    except ValueError:
        pass
    assert "search" in timer.as_dict()
