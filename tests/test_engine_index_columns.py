"""Attribute columns written block by block are those that one builder makes of everything."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datatypes import AttributeValue
from engine.index import columns
from engine.index.attributes import KINDS, Columns, ColumnsBuilder, Scalar
from engine.index.columns import ColumnsWriter

WORDS = st.sampled_from(["", "a", "ab", "b", "\U0001f600", "é", "\uffff"])
VALUES: st.SearchStrategy[AttributeValue] = (
    WORDS
    | st.integers(-(2**62), 2**62)
    | st.sampled_from([0.0, -0.0, 1.5, -2.5])
    | st.booleans()
    | st.lists(WORDS, max_size=3).map(tuple)
)
DOCUMENTS = st.lists(st.tuples(WORDS, st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)), max_size=20)


def laid_out(found: Columns, names: list[str]) -> dict[str, dict[str, list[tuple[Scalar, list[int]]]]]:
    """Every value of every column with its documents."""
    return {
        name: {
            kind: [(value, list(column[kind].equal(value))) for value in list(column[kind].values)]
            for kind in KINDS
            if kind in column
        }
        for name in names
        if (column := found.get(name))
    }


@pytest.mark.parametrize("block", [1, 4, 10**6])
@settings(max_examples=40, deadline=None)
@given(documents=DOCUMENTS)
def test_blocks_make_no_difference(block: int, documents: list[tuple[str, Mapping[str, AttributeValue]]]):
    builder = ColumnsBuilder()
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK_VALUES", block)
        writer = ColumnsWriter(Path(name))
        for number, (title, attributes) in enumerate(documents):
            builder.add(f"p{number}", title, attributes)
            writer.add(f"p{number}", title, attributes)
        writer.finish()
        written, expected = Columns.open(Path(name)), builder.build()
        assert sorted(path.name for path in Path(name).iterdir()) == ["attributes.bin", "attributes.json"]
        assert sorted(written.names()) == sorted(expected.names())
        assert laid_out(written, expected.names()) == laid_out(expected, expected.names())
        assert written.everything() == expected.everything()
