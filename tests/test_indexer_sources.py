"""Every format of catalogue gives the same numbered rows; what is none is refused with a remedy."""

import datetime
import decimal
import gzip
import json
import os
import resource
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.errors import InvalidCatalogue, StorageError
from indexer import staging
from indexer.folder import title_of
from indexer.shard import RowError
from indexer.sources import SourceOptions, open_source

TABLE = "id,title,price\np1,red mug,1\np2,café,2.5\np3,蓝色 杯子,3\n"
ROWS = [("p1", "red mug", 1), ("p2", "café", 2.5), ("p3", "蓝色 杯子", 3)]


def rows_of(path, size=20_000, **options):
    source = open_source(path, SourceOptions(**options))
    try:
        return [row for shard in list(source.shards(size)) for row in source.read(shard)]
    finally:
        source.close()


def brief(rows):
    return [(row.document.id, row.document.title, row.document.attributes.get("price")) for row in rows]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("comma.csv", TABLE.encode()),
        ("crlf.csv", TABLE.replace("\n", "\r\n").encode()),
        ("old-mac.csv", TABLE.replace("\n", "\r").encode()),
        ("semicolon.csv", TABLE.replace(",", ";").encode()),
        ("tab.tsv", TABLE.replace(",", "\t").encode()),
        ("bar.txt", TABLE.replace(",", "|").encode()),
        ("spaced.csv", TABLE.replace(",", ", ").encode()),
        ("excel.csv", b"sep=;\r\n" + TABLE.replace(",", ";").encode()),
        ("mark.csv", TABLE.encode("utf-8-sig")),
        ("utf16.csv", TABLE.encode("utf-16")),
        ("utf16be.csv", TABLE.encode("utf-16-be")),
        ("utf16le.csv", TABLE.encode("utf-16-le")),
        ("utf32.csv", TABLE.encode("utf-32")),
        ("packed.csv.gz", gzip.compress(TABLE.encode())),
        ("nameless", TABLE.encode()),
        ("no-last-line-end.csv", TABLE.rstrip().encode()),
    ],
)
def test_every_way_of_writing_csv(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    rows = rows_of(tmp_path / name)
    assert brief(rows) == ROWS
    assert rows[1].row - rows[0].row == 1


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-32-be", "utf-8"])
def test_a_named_encoding_is_used(tmp_path, encoding):
    (tmp_path / "feed.csv").write_bytes(TABLE.encode(encoding))
    assert brief(rows_of(tmp_path / "feed.csv", encoding=encoding)) == ROWS


def test_rows_are_numbered_as_a_spreadsheet_shows_them(tmp_path):
    (tmp_path / "feed.csv").write_text('\nid,title\na,"one\ntwo"\n\nb,x\n')
    assert [row.row for row in rows_of(tmp_path / "feed.csv")] == [3, 5]


def test_a_header_of_several_lines_is_one_header(tmp_path):
    (tmp_path / "feed.csv").write_text('id,title,"price\n(EUR)"\na,mug,3\n')
    assert dict(rows_of(tmp_path / "feed.csv")[0].document.attributes) == {"price\n(EUR)": 3}


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "jsonl.gz"])
def test_typed_formats(tmp_path, kind):
    objects = [{"id": id, "title": title, "price": price} for id, title, price in ROWS]
    path = tmp_path / f"feed.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([{**o, "price": float(o["price"])} for o in objects]), path)
    elif kind == "json":
        path.write_text(json.dumps(objects, indent=1))
    else:
        data = b"\xef\xbb\xbf" + b"\n\n".join(json.dumps(o).encode() for o in objects)
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    rows = rows_of(path)
    assert brief(rows) == ROWS
    assert [row.row for row in rows] == ([1, 3, 5] if kind.startswith("jsonl") else [1, 2, 3])


def test_a_broken_line_is_told_by_its_row_and_column(tmp_path):
    path = tmp_path / "feed.jsonl"
    path.write_text('{"id": "a", "title": "x"}\n{"id": "b",, }\n')
    broken = rows_of(path)[1]
    assert (broken.row, broken.code) == (2, "json")
    assert "column 12" in broken.reason
    assert "line 1" not in broken.reason


def test_parquet_types(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "title": pa.array(["a", "b"]).dictionary_encode(),
            "tags": pa.array([["x", "y"], []]),
            "sizes": pa.array([[38, 39], None], pa.list_(pa.int16())),
            "cost": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.00")]),
            "seen": pa.array([datetime.datetime(2024, 1, 31, 12, 30), None], pa.timestamp("ns")),
            "day": pa.array([datetime.date(2024, 1, 31), None]),
            "weight": pa.array([float("nan"), 2.5]),
            "sold": pa.array([True, None]),
            "blob": pa.array([b"\xff", b""]),
            "box": pa.array([{"w": 1, "h": None}, None], pa.struct([("w", pa.int8()), ("h", pa.int8())])),
            "parts": pa.array([[{"n": 1}], None], pa.list_(pa.struct([("n", pa.int8())]))),
        }
    )
    pq.write_table(table, tmp_path / "feed.parquet")
    first, second = rows_of(tmp_path / "feed.parquet")
    assert first.document.id == "1"
    assert dict(first.document.attributes) == {
        "tags": ("x", "y"),
        "sizes": ("38", "39"),
        "cost": 1.5,
        "seen": "2024-01-31 12:30:00.000000",
        "day": "2024-01-31",
        "sold": True,
        "box.w": 1,
    }
    assert dict(second.document.attributes) == {"cost": 2, "weight": 2.5}
    assert [remark.code for remark in first.remarks] == ["attribute_left_out"]
    assert second.remarks == ()


def test_parquet_shards_are_row_groups(tmp_path):
    table = pa.table({"id": [f"p{n}" for n in range(1000)], "title": [f"t{n}" for n in range(1000)]})
    pq.write_table(table, tmp_path / "feed.parquet", row_group_size=70)
    source = open_source(tmp_path / "feed.parquet")
    shards = list(source.shards(100))
    assert sum(shard.rows for shard in shards) == 1000
    assert len(shards) > 1
    assert [row.document.id for shard in reversed(shards) for row in source.read(shard)][-140:] == [f"p{n}" for n in range(140)]
    source.close()


def test_text_in_parquet_that_is_not_utf8_refuses_its_row(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"\xff\xfe", b"also"]).buffers())
    pq.write_table(pa.table({"id": ["a", "b", "c"], "title": bad}), tmp_path / "feed.parquet")
    rows = rows_of(tmp_path / "feed.parquet")
    assert [isinstance(row, RowError) for row in rows] == [False, True, False]
    assert rows[1].row == 2


def test_a_folder_of_pictures(tmp_path):
    for name in ("red_trail-runner.jpg", "shoes/Blue.PNG", "shoes/IMG_2031.jpg", ".hidden.jpg", ".git/x.jpg", "data/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    rows = rows_of(tmp_path, exclude=tmp_path / "data")
    assert [(row.row, row.document.id, row.document.title) for row in rows] == [
        (1, "red_trail-runner.jpg", "red trail runner"),
        (2, "shoes/Blue.PNG", "Blue"),
        (3, "shoes/IMG_2031.jpg", ""),
    ]
    assert rows[1].document.images == (str(tmp_path / "shoes/Blue.PNG"),)
    assert dict(rows[1].document.attributes) == {"folder": "shoes"}
    assert [row.row for row in rows_of(tmp_path, size=2)] == [row.row for row in rows_of(tmp_path, size=1)]


def test_a_file_name_that_is_no_text_is_refused(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg"), "wb") as file:
        file.write(b"x")
    row = rows_of(tmp_path)[0]
    assert isinstance(row, RowError)
    assert row.code == "invalid"


@pytest.mark.parametrize(
    ("file", "title"),
    [
        ("red_trail-runner.jpg", "red trail runner"),
        ("IMG_2031.jpg", ""),
        ("DSC00012.JPG", ""),
        ("2024-01-31 12.30.jpg", ""),
        ("P1010007.jpg", ""),
        ("iphone 15.jpg", "iphone 15"),
        ("红色杯子.jpg", "红色杯子"),
        ("a.b.jpg", "a b"),
    ],
)
def test_titles_of_file_names(file, title):
    assert title_of(file) == title


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("feed.csv", b"", "empty"),
        ("feed.csv", b"\xef\xbb\xbf \n", "empty"),
        ("feed.csv", b"id,title\n", "no rows"),
        ("feed.csv", b"id,id,title\n1,2,3\n", "twice"),
        ("feed.csv", b"id,title" + b"".join(b",c%d" % n for n in range(200_000)) + b"\nA,b\n", "200,002 columns"),
        ("feed.csv", b'id,"title\na,b\n', "header"),
        ("feed.csv", b"id,pr\xe9nom,title\na,b,c\n", "UTF-8"),
        ("feed.xlsx", b"PK\x03\x04xxxxxxxx", "spreadsheet"),
        ("feed.csv", b"<!doctype html><html>", "web page"),
        ("feed.parquet", b"PAR1garbage", "Parquet"),
        ("feed.json", b"[1, 2", "JSON"),
        ("feed.json", b"[]", "no JSON object"),
        ("feed.jsonl", b"{broken\n", "no JSON object"),
        ("feed.csv.gz", gzip.compress(b"id,title\na,b\n" * 100)[:-20], "unpacked"),
        ("feed.csv", "id,title\na,b".encode("utf-16")[:-1], "UTF-16"),
    ],
)
def test_what_is_no_catalogue_is_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidCatalogue, match=message):
        open_source(tmp_path / name)


def test_a_packed_file_that_grows_without_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "SMALL", 100_000)
    (tmp_path / "feed.csv.gz").write_bytes(gzip.compress(b"id,title\n" + b"\n" * 2_000_000))
    with pytest.raises(InvalidCatalogue, match="more than 200 times its size: unpack it first"):
        open_source(tmp_path / "feed.csv.gz")
    rows = "".join(f"{n},mug {n}\n" for n in range(20_000))
    (tmp_path / "feed.csv.gz").write_bytes(gzip.compress(f"id,title\n{rows}".encode()))
    open_source(tmp_path / "feed.csv.gz").close()


def test_a_packed_file_for_which_there_is_no_room_says_where(tmp_path):
    (tmp_path / "feed.csv.gz").write_bytes(gzip.compress(b"id,title\n" + b"a,b\n" * 100_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="make room there, or set TMPDIR"):
            open_source(tmp_path / "feed.csv.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_paths_that_are_no_catalogue_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("empty", "nothing.csv", "pipe.csv"):
        with pytest.raises(InvalidCatalogue):
            open_source(tmp_path / name)


@pytest.mark.parametrize("encoding", ["klingon", "zip", "punycode", "idna", "undefined", "a\0b", ""])
def test_what_is_no_encoding_of_a_catalogue_is_refused(tmp_path, encoding):
    (tmp_path / "feed.csv").write_text("id,title\na,b\n")
    with pytest.raises(InvalidCatalogue, match="is no text encoding: use utf-8"):
        open_source(tmp_path / "feed.csv", SourceOptions(encoding=encoding))


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        (b"id,title\na,b\n", True),
        (b"id,title\na,b", True),
        (b'id,title\na,"b', False),
        (b"id,title,x\na,b", False),
        (b'{"id": 1, "title": "x"}\n', True),
        (b'{"id": 1, "title": "x"}', True),
        (b'{"id": 1, "title": "x"}\n{"id": 2, "ti', False),
    ],
)
def test_a_catalogue_cut_off_is_noticed(tmp_path, data, complete):
    (tmp_path / "feed").write_bytes(data)
    source = open_source(tmp_path / "feed")
    list(source.shards(10))
    assert source.complete is complete
    source.close()


@given(
    lengths=st.lists(st.sampled_from(["p,x", '"p","x\ny"', 'p,"broken', "", "p,x,y"]), min_size=1, max_size=30),
    size=st.integers(1, 7),
)
def test_shards_of_any_size_give_the_same_rows(tmp_path_factory, lengths, size):
    path = tmp_path_factory.mktemp("plan") / "feed.csv"
    path.write_text("id,title\n" + "\n".join(lengths) + "\nlast,row\n")
    assert rows_of(path, size=size) == rows_of(path)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["title", "n", "tags"]), st.text(max_size=5) | st.integers(-99, 99) | st.lists(st.text(max_size=3))
        ),
        min_size=1,
    )
)
def test_any_json_objects_are_rows_or_reasons(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("json") / "feed.jsonl"
    path.write_text("\n".join(json.dumps({"id": f"p{n}", "title": "t", **o}) for n, o in enumerate(objects)))
    rows = rows_of(path)
    assert [row.row for row in rows] == list(range(1, len(objects) + 1))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_catalogue(tmp_path, kind):
    path, words = tmp_path / "feed", "soft warm nice good " * 50
    with path.open("w") as file:
        file.write("id,title,description\n" if kind == "csv" else "")
        for n in range(6_000):
            file.write(f'p{n},mug,"{words}"\n' if kind == "csv" else json.dumps({"id": n, "title": "mug", "body": words}) + "\n")
    tracemalloc.start()
    try:
        source = open_source(path)
        rows = sum(1 for shard in source.shards(1000) for _ in source.read(shard))
        source.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 6_000
    assert peak < path.stat().st_size / 3


def test_a_price_that_is_no_amount_goes_in_with_a_remark(tmp_path):
    (tmp_path / "feed.csv").write_text("id,title,price,price_currency\np1,mug,9.5,EUR\np2,cup,cheap,EUR\np3,jug,,\n")
    good, odd, none = rows_of(tmp_path / "feed.csv")
    assert (good.remarks, none.remarks) == ((), ())
    assert odd.document.attributes["price"] == "cheap"
    assert [(remark.row, remark.id, remark.code) for remark in odd.remarks] == [(3, "p2", "amount_expected")]
    assert "'cheap'" in odd.remarks[0].reason


SHOPIFY = """Handle,Title,Body (HTML),Option1 Name,Option1 Value,Variant SKU,Variant Price,Image Src
shirt,Linen shirt,<p>Cool</p>,Size,S,LS-S,39.90,a.jpg
shirt,,,,M,LS-M,39.90,b.jpg
shirt,,,,L,LS-L,42.90,
mug,Mug,,,,,9.00,c.jpg
mug,Mug again,,,,,9.00,c.jpg
,,,,,,,
shirt,,,,XL,LS-XL,39.90,d.jpg
"""


@pytest.mark.parametrize("size", [1, 2, 20_000])
def test_rows_that_continue_a_product_are_one(tmp_path, size):
    (tmp_path / "shopify.csv").write_text(SHOPIFY)
    rows = rows_of(tmp_path / "shopify.csv", size=size)
    shirt = rows[0]
    assert [row.row for row in rows] == [2, 5, 6, 7, 8]
    assert [path.rpartition("/")[2] for path in shirt.document.images] == ["a.jpg", "b.jpg"]
    assert shirt.document.description == "Cool"
    attributes = {"Option1 Name": "Size", "Option1 Value": ("S", "M", "L"), "Variant SKU": "LS-S", "price": 39.9}
    assert shirt.document.attributes == attributes
    assert [row.document.title for row in rows[1:3]] == ["Mug", "Mug again"]  # a duplicate, which the job refuses
    assert isinstance(rows[3], RowError)


def test_pictures_separated_by_commas_are_several(tmp_path):
    (tmp_path / "feed.csv").write_text('id,title,images\n1,a,"a.jpg, b.PNG"\n2,b,"red, blue.jpg"\n')
    images = [[path.rpartition("/")[2] for path in row.document.images] for row in rows_of(tmp_path / "feed.csv")]
    assert images == [["a.jpg", "b.PNG"], ["red, blue.jpg"]]
