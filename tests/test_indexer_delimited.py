"""CSV records: what is read right, what is refused, and that a bad row costs nothing but itself."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.delimited import MAX_LINE, Dialect, Lines, RecordReader

HEADER_WIDTH = 4


def read(text: str | bytes, *, delimiter: str = ",", width: int = HEADER_WIDTH, encoding: str = "utf-8"):
    data = text if isinstance(text, bytes) else text.encode()
    reader = RecordReader(Dialect(delimiter, encoding), 0, width)
    return list(reader.records(Lines(io.BytesIO(data), 0), 2))


def cells(records):
    return [record.cells for record in records if record.cells is not None]


def errors(records):
    return [(record.error.row, record.error.id, record.error.code) for record in records if record.error is not None]


GOOD = [["p1", "red mug", "r.png", "1"], ["p2", "blue mug", "b.png", "2"], ["p3", "green mug", "g.png", "3"]]


def test_plain_rows_keep_their_cells_and_numbers():
    records = read("p1,red mug,r.png,1\r\np2,blue mug,b.png,2\np3,green mug,g.png,3")
    assert cells(records) == GOOD
    assert [record.row for record in records] == [2, 3, 4]


def test_quoted_cells_hold_delimiters_line_breaks_and_doubled_quotes():
    records = read('p1,"a, b","line one\nline two","5"" mug"\r\np2,x,y,z\n')
    assert cells(records) == [["p1", "a, b", "line one\nline two", '5" mug'], ["p2", "x", "y", "z"]]


def test_a_quote_inside_an_unquoted_cell_is_a_character():
    assert cells(read('p1,5" mug,r.png,1\n')) == [["p1", '5" mug', "r.png", "1"]]


@pytest.mark.parametrize(
    "broken",
    [
        'p9,"Broken mug,x.png,9',  # never closed
        'p9,"Vintage" mug,x.png,9',  # text after the closing quote
        'p9,mug,"x.png,9',
        'p9,"5" mug",x.png,9',
        'p9,mug,x.png,"',
        'p9,"""mug,x.png,9',
        'p9,"a\\" b",x.png,9',  # a backslash does not protect a quote
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_stray_quote_costs_its_own_row_only(broken, quoted, place):
    rows = [",".join(f'"{c}"' if quoted else c for c in row) for row in GOOD]
    rows.insert(place, broken)
    records = read("\n".join(rows) + "\n")
    assert cells(records) == GOOD
    assert errors(records) == [(2 + place, "p9", "quoting")]


def test_a_stray_quote_that_a_later_quote_happens_to_close_is_found_out():
    records = read('p1,"red mug,r.png,1\np2,blue mug",b.png,2\np3,green mug,g.png,3\n')
    assert [error[:2] for error in errors(records)] == [(2, "p1")]
    assert cells(records) == [["p2", 'blue mug"', "b.png", "2"], GOOD[2]]


def test_a_description_of_several_lines_with_commas_is_no_stray_quote():
    text = 'p1,mug,"Soft, warm, nice, good\nred, green, blue, pink\nwash at 30",1\n'
    assert cells(read(text)) == [["p1", "mug", "Soft, warm, nice, good\nred, green, blue, pink\nwash at 30", "1"]]


def test_every_row_broken_is_every_row_refused_quickly():
    records = read("".join(f'p{n},"mug,x,{n}\n' for n in range(20_000)))
    assert len(errors(records)) == 20_000


def test_a_quote_that_swallows_a_megabyte_is_given_up():
    rows = [f"p{n},mug,x.png,{n}" for n in range(60_000)]
    records = read("\n".join(['p,"oops,x,1', *rows]) + "\n")
    assert errors(records) == [(2, "p", "quoting")]
    assert len(cells(records)) == 60_000


def test_a_cell_of_more_than_a_megabyte_is_no_cell():
    records = read('p1,"' + ("x" * 9_999 + "\n") * 110 + '",y,z\np2,a,b,c\n')
    assert errors(records)[0] == (2, "p1", "quoting")
    assert cells(records) == [["p2", "a", "b", "c"]]


def test_rows_with_too_many_or_too_few_cells_are_refused():
    records = read("p1,a,b\np2,a,b,c,d\np3,a,b,c,,\np4,a,b,c\n")
    assert errors(records) == [(2, "p1", "columns"), (3, "p2", "columns")]
    assert cells(records) == [["p3", "a", "b", "c"], ["p4", "a", "b", "c"]]


def test_blank_lines_count_as_rows_and_are_skipped():
    records = read("\n  \np1,a,b,c\n\np2,a,b,c\n")
    assert [record.row for record in records] == [4, 6]


def test_a_row_that_is_not_utf8_is_refused_with_its_id_and_a_remedy():
    records = read(b"p1,caf\xe9,x,1\np2,mug,x,2\n\xe9p3,a,b,c\n")
    assert errors(records) == [(2, "p1", "encoding"), (4, None, "encoding")]
    assert "0xE9" in records[0].error.reason
    assert "--encoding cp1252" in records[0].error.reason
    assert cells(records) == [["p2", "mug", "x", "2"]]


def test_bad_bytes_inside_quotes_refuse_the_whole_record_and_nothing_else():
    records = read(b'p1,"one\ncaf\xe9, three\nfour",x,1\np2,mug,x,2\n')
    assert errors(records) == [(2, "p1", "encoding")]
    assert cells(records) == [["p2", "mug", "x", "2"]]


def test_other_encodings_are_read_when_named():
    assert cells(read("p1,红色,x,1\n".encode("gb18030"), encoding="gb18030")) == [["p1", "红色", "x", "1"]]
    assert cells(read("p1,café,x,1\n".encode("cp1252"), encoding="cp1252")) == [["p1", "café", "x", "1"]]


def test_a_line_beyond_the_limit_is_refused_and_the_next_is_read():
    records = read(b"p1," + b"x" * (MAX_LINE + 10) + b",y,z\np2,a,b,c\n")
    assert errors(records) == [(2, "p1", "too_long")]
    assert cells(records) == [["p2", "a", "b", "c"]]


def test_a_cell_beyond_the_csv_module_s_limit_is_refused_alone():
    records = read('p1,"' + "x" * 200_000 + '",y,z\np2,a,b,c\n')
    assert errors(records) == [(2, "p1", "quoting")]
    assert len(cells(records)) == 1


def test_the_id_of_a_broken_row_is_told_only_when_it_is_certain():
    reader = RecordReader(Dialect(",", "utf-8"), 1, 3)
    broken = reader.records(Lines(io.BytesIO(b'"a" b,p1,c\nx,p2,"c\n'), 0), 2)
    assert [record.error.id for record in broken] == [None, "p2"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(
    rows=st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_writer_writes_is_read_back(rows, delimiter, line_end):
    rows = [[f"id{number}", *row] for number, row in enumerate(rows)]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    records = read(buffer.getvalue(), delimiter=delimiter)
    assert cells(records) == rows


@given(garbage=st.binary(max_size=200))
def test_no_bytes_break_the_reader_or_the_row_after_them(garbage):
    records = read(garbage.replace(b'"', b"") + b"\np1,a,b,c\n")
    assert records[-1].cells == ["p1", "a", "b", "c"]


@given(
    lines=st.lists(st.text('ab",', max_size=12), max_size=12),
)
def test_reading_from_any_record_s_offset_gives_the_same_records(lines):
    data = "\n".join(lines).encode()
    reader = RecordReader(Dialect(",", "utf-8"), 0, 2)
    records = list(reader.records(Lines(io.BytesIO(data), 0), 1))
    for number, record in enumerate(records):
        assert list(reader.records(Lines(io.BytesIO(data), record.offset), record.row)) == records[number:]
