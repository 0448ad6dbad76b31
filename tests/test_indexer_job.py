"""The indexing job from catalogue to collection: every bad input of a feed, resuming, pruning, sharing of pictures."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from engine.cache import MemoryCache, TieredCache
from engine.config import load_settings
from engine.datatypes import Document, EncodedDocument
from engine.errors import CollectionBusy, ConfigurationError, EncoderMismatch, InvalidCatalogue
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue
from indexer.job import IndexRequest, index_catalogue
from indexer.report import JobFailed


class Shop:
    """A data folder, a catalogue folder, and a job that is run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shop"
        self.folder.mkdir()
        self.encoder = FakeEncoder()
        self.engine = SearchEngine(load_settings(data=folder / "data", max_image_mb=1.0), self.encoder, _cache())

    def picture(self, name: str, colour: str = "red", **options) -> str:
        Image.new("RGB", (40, 30), COLOURS[colour]).save(self.folder / name, **options)
        return name

    def csv(self, *rows, name: str = "feed.csv", header=("id", "title", "image")) -> Path:
        with (self.folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return self.folder / name

    def index(self, catalogue: Path, **options):
        return index_catalogue(self.engine, IndexRequest(catalogue, "shop", **options))

    def ids(self) -> set[str]:
        return set(self.engine.collection("shop").ids())

    def get(self, id: str) -> Document:
        document = self.engine.collection("shop").get([id])[0]
        assert document is not None
        return document


def _cache() -> TieredCache:
    return TieredCache(MemoryCache(100, ttl_s=100), None)


def lines_of(report) -> list[tuple[str, str, str]]:
    if report.errors is None:
        return []
    with report.errors.open(newline="", encoding="utf-8") as file:
        return [(line["row"], line["id"], line["code"]) for line in csv.DictReader(file)]


@pytest.fixture
def shop(tmp_path):
    shop = Shop(tmp_path)
    yield shop
    shop.engine.close()


def test_a_catalogue_goes_in_whole(shop):
    report = shop.index(tiny_catalogue(shop.folder))
    assert (report.read, report.created, report.refused, report.exit_code) == (6, 6, 0, 0)
    assert report.errors is None
    assert report.status == "done"
    document = shop.get("p1")
    assert document.title == "red mug"
    assert document.images == (str(shop.folder / "red.png"),)
    assert dict(document.attributes) == {"price": 10, "brand": "Acme"}
    assert [hit.id for hit in shop.engine.search("shop", "blue mug", k=1).hits] == ["p3"]
    assert json.loads((report.folder / "report.json").read_text())["created"] == 6


def test_a_second_run_encodes_nothing(shop):
    catalogue = tiny_catalogue(shop.folder)
    shop.index(catalogue)
    before = (shop.encoder.images_encoded, shop.encoder.texts_encoded)
    version = shop.engine.collection("shop").version
    report = shop.index(catalogue)
    assert (report.read, report.unchanged) == (6, 6)
    assert (shop.encoder.images_encoded, shop.encoder.texts_encoded) == before == (6, 6)
    assert shop.engine.collection("shop").version == version


def test_only_what_changed_is_encoded(shop):
    red, blue = shop.picture("red.png"), shop.picture("blue.png", "blue")
    header = ("id", "title", "image", "price")
    shop.index(shop.csv(("a", "red mug", red, 1), ("b", "blue mug", blue, 2), header=header))
    report = shop.index(shop.csv(("a", "red mug", red, 9), ("b", "blue mug", blue, 2), header=header))
    assert (report.updated, report.unchanged) == (1, 1)
    assert (shop.encoder.images_encoded, shop.encoder.texts_encoded) == (2, 2)
    assert shop.get("a").attributes["price"] == 9
    shop.picture("red.png", "green")
    report = shop.index(shop.csv(("a", "red mug", red, 9), ("b", "blue mug", blue, 2), header=header))
    assert (report.updated, report.unchanged) == (1, 1)
    assert (shop.encoder.images_encoded, shop.encoder.texts_encoded) == (3, 2)


def test_two_ids_with_one_photo_both_exist_and_share_one_vector(shop):
    red = shop.picture("red.png")
    shutil.copy(shop.folder / red, shop.folder / "copy.png")
    report = shop.index(shop.csv(("a", "first", red), ("b", "second", red), ("c", "third", "copy.png")))
    assert report.created == 3
    assert shop.encoder.images_encoded == 1
    assert {hit.id for hit in shop.engine.search("shop", image=shop.folder / red, k=3).hits} == {"a", "b", "c"}


def test_one_photo_in_every_batch_is_encoded_once(shop):
    red = shop.picture("red.png")
    shop.index(shop.csv(*((f"p{n}", f"mug {n}", red) for n in range(1000))))
    assert len(shop.engine.collection("shop")) == 1000
    assert shop.encoder.images_encoded == 1


def test_prune_removes_what_the_feed_no_longer_has(shop):
    red = shop.picture("red.png")
    shop.index(shop.csv(*((f"p{n}", f"mug {n}", red) for n in range(6))))
    assert shop.index(shop.csv(("p1", "mug 1", red), ("p9", "mug 9", red))).pruned == 0
    report = shop.index(shop.csv(("p1", "mug 1", red), ("p9", "mug 9", red)), prune=True)
    assert (report.unchanged, report.pruned, report.exit_code) == (2, 5, 0)
    assert shop.ids() == {"p1", "p9"}


def test_refused_rows_keep_their_earlier_version(shop):
    red = shop.picture("red.png")
    shop.index(shop.csv(("a", "mug", red), ("b", "cup", red), ("c", "jug", red)))
    report = shop.index(shop.csv(("a", "mug", "gone.png"), ("b", "cup", red)), prune=True)
    assert (report.refused, report.pruned, report.exit_code) == (1, 1, 3)
    assert shop.ids() == {"a", "b"}
    assert shop.get("a").title == "mug"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('id,title\na,mug\n"x" y,cup\nb,jug\n', "row 3"),  # whose row is this?
        ("id,title,price\na,mug,1\nb,c", "cut off"),  # broken off
        ('id,title\na,mug\nb,"cu', "cut off"),
    ],
)
def test_nothing_is_pruned_when_the_feed_may_name_more_than_was_read(shop, text, why):
    shop.index(shop.csv(("a", "mug"), ("b", "cup"), ("c", "jug"), header=("id", "title")))
    (shop.folder / "feed.csv").write_text(text)
    report = shop.index(shop.folder / "feed.csv", prune=True)
    assert report.pruned == 0
    assert why in report.notes[0]
    assert shop.ids() == {"a", "b", "c"}


def test_an_empty_feed_is_refused_and_prunes_nothing(shop):
    shop.index(shop.csv(("a", "mug"), header=("id", "title")))
    for text in ("", "\n\n", "id,title\n", "id,title\n\n  \n"):
        (shop.folder / "empty.csv").write_text(text)
        with pytest.raises(InvalidCatalogue):
            shop.index(shop.folder / "empty.csv", prune=True)
    assert shop.ids() == {"a"}


def test_a_catalogue_that_cannot_be_read_makes_no_collection(shop):
    with pytest.raises(InvalidCatalogue):
        shop.index(shop.folder / "nothing.csv")
    assert shop.engine.collections() == []


def test_prune_does_not_go_with_a_part_of_the_feed(shop):
    catalogue = tiny_catalogue(shop.folder)
    with pytest.raises(ConfigurationError):
        shop.index(catalogue, prune=True, limit=3)
    assert shop.index(catalogue, limit=4).created == 4


# --- bad input, one by one --------------------------------------------------------------------------------------------


def _spoiled(shop: Shop, kind: str) -> str:
    path = shop.folder / f"{kind}.jpg"
    if kind == "truncated":
        Image.effect_noise((300, 300), 80).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "not_an_image":
        path.write_text("<html>404 not found</html>")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "too_many_pixels":
        png = bytearray((shop.folder / shop.picture("small.png")).read_bytes())
        png[16:24] = (30_000).to_bytes(4, "big") * 2
        import zlib

        png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
        path.write_bytes(png)
    elif kind == "no_pixels":
        path.write_bytes(b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\x02\x00;")
    elif kind == "too_large":
        Image.effect_noise((1200, 1200), 80).save(path.with_suffix(".bmp"))
        return path.with_suffix(".bmp").name
    return path.name


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("missing", "image_missing"),
        ("truncated", "image_truncated"),
        ("not_an_image", "image_not_an_image"),
        ("empty", "image_empty"),
        ("no_pixels", "image_empty"),
        ("too_many_pixels", "image_too_many_pixels"),
        ("too_large", "image_too_large"),
    ],
)
def test_a_bad_picture_is_refused_with_row_id_and_reason(shop, kind, code):
    good = shop.picture("good.png")
    report = shop.index(shop.csv(("a", "one", good), ("bad", "two", _spoiled(shop, kind)), ("c", "three", good)))
    assert lines_of(report) == [("3", "bad", code)]
    assert _spoiled(shop, kind) in report.errors.read_text(encoding="utf-8")  # the picture is named
    assert (report.created, report.refused, report.exit_code) == (2, 1, 3)
    assert shop.ids() == {"a", "c"}
    assert report.codes == {code: 1}


def test_odd_pictures_are_handled_right(shop):
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(shop.folder / "cmyk.jpg")  # red
    left_red = Image.new("RGB", (60, 20), COLOURS["blue"])
    left_red.paste(COLOURS["red"], (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    left_red.save(shop.folder / "turned.jpg", exif=exif, quality=95)
    frames = [Image.new("RGB", (20, 20), COLOURS[c]) for c in ("green", "red")]
    frames[0].save(shop.folder / "animated.gif", save_all=True, append_images=frames[1:])
    report = shop.index(
        shop.csv(("cmyk", "a", "cmyk.jpg"), ("turned", "b", "turned.jpg"), ("animated", "c", "animated.gif")),
    )
    assert (report.created, report.refused) == (3, 0)
    vectors = {id: shop.engine.collection("shop").embeddings_of(id)[0].vector for id in ("cmyk", "animated")}
    names = shop.encoder.encode_texts(["red", "green"])
    assert vectors["cmyk"] @ names[0] > 0.99
    assert vectors["animated"] @ names[1] > 0.99


def test_a_row_needs_a_title_or_a_picture(shop):
    good = shop.picture("good.png")
    report = shop.index(shop.csv(("text", "only text", ""), ("picture", "", good), ("nothing", " ", "")))
    assert shop.ids() == {"text", "picture"}
    assert lines_of(report) == [("4", "nothing", "nothing_to_search")]


def test_of_several_pictures_the_good_ones_go_in(shop):
    red, blue = shop.picture("red.png"), shop.picture("blue.png", "blue")
    bad = _spoiled(shop, "not_an_image")
    report = shop.index(shop.csv(("a", "mug", f"{bad}|{red}|gone.png|{blue}"), ("b", "cup", f"{bad}|gone.png")))
    assert shop.get("a").images == (str(shop.folder / red), str(shop.folder / blue))
    assert lines_of(report) == [("2", "a", "picture_left_out")] * 2 + [("3", "b", "image_not_an_image")]
    reasons = report.errors.read_text(encoding="utf-8")
    assert f"without this picture: {bad}: the file is" in reasons
    assert "gone.png' cannot be read" in reasons
    assert (report.created, report.refused, report.remarks, report.exit_code) == (1, 1, 1, 3)
    again = shop.index(shop.folder / "feed.csv")
    assert (again.unchanged, again.refused) == (1, 1)
    assert shop.encoder.images_encoded == 2


def test_the_first_of_two_rows_with_one_id_counts(shop):
    report = shop.index(shop.csv(("a", "first"), ("b", "other"), ("a", "second"), header=("id", "title")))
    assert shop.get("a").title == "first"
    assert lines_of(report) == [("4", "a", "id_duplicate")]
    assert "row 2" in report.errors.read_text()


def test_values_of_the_wrong_type_are_refused(shop):
    rows = [
        {"id": "ok", "title": "mug", "price": 5},
        {"id": ["list"], "title": "mug"},
        {"id": "t", "title": {"en": "mug"}},
        {"id": "i", "title": "mug", "image": 7},
        {"id": None, "title": "mug"},
        {"id": "big", "title": "mug", "price": 1e300},
        {"id": 12, "title": 34},
    ]
    path = shop.folder / "feed.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, "text", 5])) + "\n{broken\n" + '{"id": "n", "title": "x", "price": NaN}\n')
    report = shop.index(path)
    assert lines_of(report) == [
        ("2", "", "type"),
        ("3", "t", "type"),
        ("4", "i", "type"),
        ("5", "", "id_missing"),
        ("6", "big", "invalid"),
        ("8", "", "json"),
        ("9", "", "json"),
        ("10", "", "json"),
        ("11", "", "json"),
    ]
    assert shop.ids() == {"ok", "12"}
    assert shop.get("12").title == "34"


def test_broken_quoting_and_wrong_bytes_refuse_their_rows_only(shop):
    good = shop.picture("good.png")
    (shop.folder / "feed.csv").write_bytes(
        f'id,title,image\na,"mug,{good}\nb,"good, cup",{good}\nc,caf'.encode() + b"\xe9" + f",{good}\nd,jug,{good}\n".encode()
    )
    report = shop.index(shop.folder / "feed.csv")
    assert lines_of(report) == [("2", "a", "quoting"), ("4", "c", "encoding")]
    assert shop.ids() == {"b", "d"}


def test_an_image_of_a_host_that_is_not_allowed_is_refused(shop):
    report = shop.index(shop.csv(("a", "mug", "https://cdn.example/x.jpg")))
    assert lines_of(report) == [("2", "a", "fetch")]
    assert "SEMBLANCE_FETCH_HOSTS" in report.errors.read_text()


def test_formulas_in_a_feed_do_not_run_in_errors_csv(shop):
    report = shop.index(shop.csv(("=cmd|' /C calc'!A0", "", ""), ("@x", "", ""), ("-1", "", ""), ("\t=1", "", "")))
    with report.errors.open(newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert len(cells) == 20
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_retry_failed_takes_only_the_refused_rows(shop):
    good = shop.picture("good.png")
    catalogue = shop.csv(("a", "mug", good), ("-b", "cup", "later.png"), ("c", "jug", good), ("d", "can", "never.png"))
    first = shop.index(catalogue)
    assert first.refused == 2
    shop.picture("later.png", "blue")
    second = shop.index(catalogue, retry_failed=first.folder)
    assert (second.read, second.created, second.refused) == (2, 1, 1)
    assert shop.ids() == {"a", "-b", "c"}
    with pytest.raises(InvalidCatalogue, match="errors"):
        shop.index(catalogue, retry_failed=catalogue)


# --- what stops a job -------------------------------------------------------------------------------------------------


class Moody(FakeEncoder):
    """Fails on pictures of one colour, or altogether."""

    def __init__(self, *, red: bool = False, after: int | None = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.red, self.after, self.error = red, after, error or RuntimeError("out of luck")

    def encode_images(self, images):
        if self.after is not None and self.images_encoded >= self.after:
            raise self.error
        if self.red and any(image.getpixel((0, 0))[0] > 210 and image.getpixel((0, 0))[2] < 35 for image in images):
            raise self.error
        return super().encode_images(images)


def _with_encoder(shop: Shop, encoder: FakeEncoder) -> SearchEngine:
    return SearchEngine(shop.engine.settings, encoder, _cache())


def _many(shop: Shop, count: int) -> Path:
    for number in range(count):
        Image.new("RGB", (8, 8), (0, number % 256, 40 + number // 256)).save(shop.folder / f"{number}.png")
    return shop.csv(*((f"p{n}", f"mug {n}", f"{n}.png") for n in range(count)))


def test_a_picture_the_model_chokes_on_is_refused_alone(shop):
    engine = _with_encoder(shop, Moody(red=True))
    red, blue, green = (shop.picture(f"{c}.png", c) for c in ("red", "blue", "green"))
    rows = [(f"p{n}", f"mug {n}", (red, blue, green)[n % 3]) for n in range(9)]
    report = index_catalogue(engine, IndexRequest(shop.csv(*rows), "shop"))
    assert (report.created, report.refused) == (6, 3)
    assert {code for _, _, code in lines_of(report)} == {"encoder"}
    engine.close()


def test_a_broken_model_ends_the_job_and_keeps_what_was_committed(shop):
    catalogue = _many(shop, 300)
    engine = _with_encoder(shop, Moody(after=128))
    with pytest.raises(JobFailed, match="run the same command again") as failure:
        index_catalogue(engine, IndexRequest(catalogue, "shop"))
    report = failure.value.report
    assert (report.status, report.exit_code, report.created) == ("failed", 1, 128)
    assert len(engine.collection("shop")) == 128
    assert json.loads((report.folder / "report.json").read_text())["status"] == "failed"
    engine.close()
    again = shop.index(catalogue)
    assert (again.unchanged, again.created) == (128, 172)
    assert shop.encoder.images_encoded == 172


def test_ctrl_c_ends_the_job_and_keeps_what_was_committed(shop):
    catalogue = _many(shop, 200)
    engine = _with_encoder(shop, Moody(after=64, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        index_catalogue(engine, IndexRequest(catalogue, "shop"))
    assert len(engine.collection("shop")) == 64
    reports = list((shop.engine.settings.data / "_jobs").glob("*/report.json"))
    assert [json.loads(path.read_text())["status"] for path in reports] == ["stopped"]
    engine.close()


def test_trouble_with_the_disk_ends_the_job(shop, monkeypatch):
    catalogue = _many(shop, 100)
    collection = shop.engine.ensure("shop")
    upsert, calls = collection.upsert, []

    def full(documents: list[EncodedDocument]) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        upsert(documents)

    monkeypatch.setattr(collection, "upsert", full)
    with pytest.raises(JobFailed, match="No space left"):
        shop.index(catalogue)
    assert len(collection) == 64


def test_a_vector_deleted_while_it_was_about_to_be_shared_is_encoded_anew(shop, monkeypatch):
    red = shop.picture("red.png")
    shop.index(shop.csv(("a", "mug", red)))
    collection = shop.engine.collection("shop")
    known = collection.vectors_of

    def deleted_at_once(contents):
        found = known(contents)
        collection.delete(["a"])
        collection.compact()
        return found

    monkeypatch.setattr(collection, "vectors_of", deleted_at_once)
    report = shop.index(shop.csv(("b", "cup", red)))
    assert (report.created, report.refused) == (1, 0)
    assert shop.ids() == {"b"}


def test_another_encoder_s_collection_is_left_alone(shop):
    catalogue = tiny_catalogue(shop.folder)
    shop.index(catalogue)
    other = FakeEncoder()
    other.fingerprint = "another"
    engine = _with_encoder(shop, other)
    with pytest.raises(EncoderMismatch):
        index_catalogue(engine, IndexRequest(catalogue, "shop"))
    engine.close()


def test_progress_counts_up_to_the_total(shop):
    seen = []
    catalogue = _many(shop, 100)
    index_catalogue(shop.engine, IndexRequest(catalogue, "shop"), progress=seen.append)
    assert seen[0].stage == "reading"
    assert (seen[-1].read, seen[-1].total, seen[-1].created) == (100, 100, 100)
    assert [p.read for p in seen] == sorted(p.read for p in seen)


def test_a_catalogue_that_changes_while_it_is_read_prunes_nothing(shop, monkeypatch):
    shop.index(shop.csv(*((f"p{n}", "mug" * 1500) for n in range(9)), header=("id", "title")))
    monkeypatch.setattr("indexer.job.SHARD_ROWS", 2)
    catalogue = shop.csv(*((f"p{n}", "mug" * 1500) for n in range(6)), header=("id", "title"))

    class Meddler:
        def run(self, work, shards):
            for shard in shards:
                yield work(shard)
                catalogue.write_text("id,title\np0,mug\n")

    report = index_catalogue(shop.engine, IndexRequest(catalogue, "shop", prune=True), runner=Meddler())
    assert report.pruned == 0
    assert "changed meanwhile" in report.notes[0]
    assert len(shop.ids()) == 9


def test_another_writer_is_waited_for(shop, monkeypatch):
    collection = shop.engine.ensure("shop")
    upsert, calls = collection.upsert, []

    def busy(documents):
        calls.append(1)
        if len(calls) < 3:
            raise CollectionBusy("someone else is writing")
        upsert(documents)

    monkeypatch.setattr(collection, "upsert", busy)
    monkeypatch.setattr("indexer.committing.BUSY_PAUSES_S", (0.0, 0.0, 0.0))
    assert shop.index(tiny_catalogue(shop.folder)).created == 6


def test_an_id_that_collides_is_refused_alone(shop, monkeypatch):
    monkeypatch.setattr("engine.documents.key_of", lambda id: 97 if id in "ab" else ord(id[0]))
    report = shop.index(shop.csv(("a", "one"), ("b", "two"), ("c", "three"), header=("id", "title")))
    assert lines_of(report) == [("3", "b", "id_collision")]
    assert (report.created, report.refused) == (2, 1)


def test_when_every_row_is_refused_the_report_says_why(shop):
    report = shop.index(shop.csv(("a", "one", "x.png"), ("b", "two", "y.png")))
    assert report.exit_code == 3
    assert "not there" in report.notes[0]


def test_two_poisoned_pictures_at_the_end_are_refused_and_not_the_model_s_fault(shop):
    engine = _with_encoder(shop, Moody(red=True))
    catalogue = _many(shop, 64)
    red = shop.picture("red.png")
    with catalogue.open("a") as file:
        file.write(f"x,one,{red}\ny,two,{red}\n")
    report = index_catalogue(engine, IndexRequest(catalogue, "shop"))
    assert (report.created, report.refused, report.status) == (64, 2, "done")
    engine.close()


def test_pictures_of_one_row_are_bounded_together(shop, monkeypatch):
    monkeypatch.setattr("indexer.loading.MAX_ROW_BYTES", 1_000)
    shop.engine = SearchEngine(load_settings(data=shop.folder.parent / "small", max_image_mb=0.001), shop.encoder, _cache())
    names = []
    for number in range(12):
        names.append(f"{number}.png")
        Image.new("RGB", (40, 40), (number, 0, 0)).save(shop.folder / names[-1])
    report = shop.index(shop.csv(("a", "mug", "|".join(names)), ("b", "cup", names[0])))
    assert lines_of(report) == [("2", "a", "image_too_large")]
    assert shop.ids() == {"b"}
