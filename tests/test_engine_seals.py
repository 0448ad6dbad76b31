"""The form of cached values: seals that show foreign bytes, stamps that say when to make a value anew."""

import random

from hypothesis import given
from hypothesis import strategies as st

from engine.seals import Stamped, sealed, unsealed


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=100), st.binary(max_size=100))
def test_only_what_was_sealed_under_a_key_is_unsealed(key, value, other):
    assert unsealed(key, sealed(key, value)) == value
    assert unsealed(key + b"x", sealed(key, value)) is None
    assert unsealed(key, other) is None or other == sealed(key, unsealed(key, other) or b"")


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=100), st.binary(min_size=1, max_size=64))
def test_a_secret_is_part_of_the_seal(key, value, secret):
    assert unsealed(key, sealed(key, value, secret), secret) == value
    assert unsealed(key, sealed(key, value, secret)) is None
    assert unsealed(key, sealed(key, value), secret) is None
    assert unsealed(key, sealed(key, value, secret), secret + b"x" if len(secret) < 64 else secret[1:]) is None


@given(st.binary(max_size=100), st.floats(0, 1e10), st.floats(0, 1e3, width=32))
def test_stamps_survive_packing(value, made, cost):
    assert Stamped.unpack(Stamped(value, made, cost).pack()) == Stamped(value, made, cost)


def test_a_value_is_due_after_its_time_and_now_and_then_shortly_before():
    random.seed(1)
    cheap, costly = Stamped(b"", 0.0, 0.0), Stamped(b"", 0.0, 1.0)
    assert not any(cheap.due(100, now=99.9) for _ in range(1000))
    assert cheap.due(100, now=100.1)
    at = {left: sum(costly.due(100, now=100 - left) for _ in range(4000)) / 4000 for left in (20, 3, 1, 0.1)}
    # exp(-left / cost), as the paper has it
    assert at[20] == 0
    assert abs(at[3] - 0.0498) < 0.015
    assert abs(at[1] - 0.3679) < 0.03
    assert abs(at[0.1] - 0.9048) < 0.03


def test_whoever_leaves_the_draw_to_others_leaves_every_entry_that_might_be_due():
    random.seed(2)
    for left in (-1, 0, 0.5, 3, 20, 36):
        stamped = Stamped(b"", 0.0, 1.0)
        assert stamped.may_be_due(100, now=100 - left)
        assert left > 3 or any(stamped.due(100, now=100 - left) for _ in range(400))
    assert not Stamped(b"", 0.0, 1.0).may_be_due(100, now=50)
    assert not Stamped(b"", 0.0, 0.001).may_be_due(100, now=99)
