"""Collections written by earlier versions open forever, and answer as they did."""

import tarfile
from pathlib import Path

import pytest

from engine.collection import Collection
from engine.config import Settings
from engine.folder import FORMAT
from engine.index import segment
from tests.storage import IMAGE, TITLE, axis, encoded, ids_of

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("collection-*.tar.xz"))


def test_there_is_one_of_the_present_format():
    assert f"collection-{FORMAT}.{segment.FORMAT}.tar.xz" in [path.name for path in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_it_opens_and_answers(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path, filter="data")
    collection = Collection.open(tmp_path / "golden", settings=Settings(threads=1))
    present = file.name == f"collection-{FORMAT}.{segment.FORMAT}.tar.xz"
    assert ("rebuilding" in caplog.text) == (not present)  # an older index is made anew from the documents
    assert sorted(collection.ids()) == sorted({f"p{n}" for n in range(20)} - {"p7", "p8"} | {"late", "newest"})
    assert collection.count("n < 10") == 8
    assert collection.count("brand = 'b0' and tags contains 'x'") == 7
    asked = [(axis(3), IMAGE, "p3"), (axis(103), TITLE, "p3"), (axis(50), IMAGE, "late"), (axis(60), IMAGE, "newest")]
    for vector, weights, id in asked:
        (found,) = collection.search(vector[None], 1, weights=weights)
        assert (ids_of(collection, found), found[0].score) == ([id], 1.0)
    document = collection.get(["p4"])[0]
    assert document is not None
    assert (document.title, dict(document.attributes)) == ("title of p4", {"n": 4, "brand": "b1", "tags": ("x", "t4")})
    collection.upsert([encoded("after", [axis(70)])])
    collection.compact()
    assert collection.count(None) == 21
    collection.close()
