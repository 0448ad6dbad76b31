"""The live delta and the snapshots made of deltas, followed step by step."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from engine.documents import key_of
from engine.index.changes import Changes, Record
from engine.index.delta import Delta
from engine.index.snapshot import MERGE_RATIO, Snapshot
from tests.storage import axis


def record(id: str, *pictures: int, **attributes: object) -> Record:
    vectors = tuple(("image", axis(n).astype(np.float16).tobytes()) for n in pictures)
    return Record(key_of(id), id, f"title {id}", "", attributes, vectors)


def contents(delta: Delta) -> dict[int, list[int]]:
    """Key -> the axes of its pictures."""
    rows = delta.rows("image")
    found = {int(key): [] for key in delta.keys}
    for document, vector in zip(rows.documents, rows.vectors, strict=True):
        found[int(delta.keys[document])].append(int(vector.argmax()))
    return found


def test_a_delta_is_ordered_by_key():
    delta = Delta.of([record("b", 1), record("a", 2, 3), record("c")])
    assert delta.keys.tolist() == sorted(map(key_of, "abc"))
    assert contents(delta) == {key_of("a"): [2, 3], key_of("b"): [1], key_of("c"): []}
    assert delta.rows("image").vectors.dtype == np.float32
    assert len(delta.rows("title")) == 0


def test_merging_leaves_the_dead_out():
    older, newer = Delta.of([record("a", 1), record("b", 2, 3), record("d", 4)]), Delta.of([record("c", 5), record("e")])
    dead = BitMap([int(np.searchsorted(older.keys, key_of("a")))])
    merged = Delta.merged(older, dead, newer)
    assert contents(merged) == {key_of("b"): [2, 3], key_of("c"): [5], key_of("d"): [4], key_of("e"): []}
    assert merged.keys.tolist() == sorted(map(key_of, "bcde"))
    ids = Snapshot(1, None, (merged,), (BitMap(),)).count("id in ('b', 'c', 'd', 'e')")
    assert ids == 4


def test_a_snapshot_never_changes():
    first = Snapshot.of(None).advanced(Changes(1, {key_of("a"): record("a", 0, price=1)}))
    second = first.advanced(Changes(2, {key_of("a"): record("a", 1, price=2), key_of("b"): record("b", price=1)}))
    third = second.advanced(Changes(3, {key_of("a"): None}))
    assert [(s.version, len(s), s.count("price = 1"), s.count("price = 2")) for s in (first, second, third)] == [
        (1, 1, 1, 0),
        (2, 2, 1, 1),
        (3, 1, 1, 0),
    ]


def test_following_a_long_log_leaves_few_parts():
    snapshot = Snapshot.of(None)
    for number in range(1, 400):
        snapshot = snapshot.advanced(Changes(number, {key_of(f"p{number}"): record(f"p{number}", number % 256)}))
    assert len(snapshot) == 399
    assert len(snapshot.parts) <= 3 + np.log(399) / np.log(MERGE_RATIO) * (MERGE_RATIO - 1)


changes = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)), min_size=1),
    max_size=12,
)


@given(changes)
@settings(max_examples=60, deadline=None)
def test_any_history_leaves_what_it_says(history: list[dict[str, list[int] | None]]):
    truth: dict[str, list[int]] = {}
    snapshot = Snapshot.of(None)
    for version, step in enumerate(history, start=1):
        records = {
            key_of(id): None if pictures is None else record(id, *pictures, n=len(pictures)) for id, pictures in step.items()
        }
        snapshot = snapshot.advanced(Changes(version, records))
        truth |= {id: pictures for id, pictures in step.items() if pictures is not None}
        truth = {id: pictures for id, pictures in truth.items() if step.get(id, ()) is not None}
        alive: dict[int, list[int]] = {}
        for selection in snapshot.select(None):
            own = contents(selection.part)
            numbers = range(len(selection.part)) if selection.documents is None else selection.documents
            alive |= {int(selection.part.keys[number]): own[int(selection.part.keys[number])] for number in numbers}
        assert alive == {key_of(id): pictures for id, pictures in truth.items()}
        assert len(snapshot) == len(truth)
        for wanted in range(4):
            assert snapshot.count(f"n = {wanted}") == sum(len(pictures) == wanted for pictures in truth.values())
