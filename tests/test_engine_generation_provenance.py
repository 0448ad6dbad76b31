"""Provenance: what the file says of itself, read by other programs, and that no drawing becomes a product."""

import io
from dataclasses import FrozenInstanceError, replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.datatypes import Document
from engine.drawings import GeneratedImage, GenerationRequest
from engine.generation.provenance import COMPOSITE_TYPE, SOURCE_TYPE, is_synthetic, prompt_digest, to_png
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, FakeGenerator, tiny_catalogue


def request(words: str = "red mug", **fields) -> GenerationRequest:
    return GenerationRequest(FakeEncoder().encode_texts([words]), prompt=words, size=64, **fields)


@pytest.fixture
def drawing() -> GeneratedImage:
    return FakeGenerator().generate(request(seed=11))[0]


def plain_png(drawing: GeneratedImage) -> bytes:
    buffer = io.BytesIO()
    drawing.image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_png_says_in_xmp_that_a_model_made_it(drawing):
    picture = Image.open(io.BytesIO(to_png(drawing)))
    assert np.array_equal(np.asarray(picture), drawing.pixels)
    description = ElementTree.fromstring(picture.info["XML:com.adobe.xmp"].encode()).find(".//{*}Description")
    fields = {name.rpartition("}")[2]: value for name, value in description.attrib.items()}
    assert fields["DigitalSourceType"] == SOURCE_TYPE
    assert fields["AISystemUsed"] == fields["CreatorTool"] == "fake:one-colour"
    assert (fields["synthetic"], fields["seed"], fields["promptDigest"]) == ("true", "11", drawing.prompt_digest)


def test_a_restyled_photo_says_so(drawing):
    assert COMPOSITE_TYPE.encode() in to_png(drawing, restyled=True)
    assert is_synthetic(to_png(drawing, restyled=True))


def test_the_words_asked_for_do_not_travel(drawing):
    assert b"red mug" not in to_png(drawing)


def test_hostile_model_names_stay_data(drawing):
    hostile = replace(drawing, model='x" semblance:synthetic="false')
    packet = Image.open(io.BytesIO(to_png(hostile))).info["XML:com.adobe.xmp"]
    description = ElementTree.fromstring(packet.encode()).find(".//{*}Description")
    assert [value for name, value in description.attrib.items() if name.endswith("}synthetic")] == ["true"]


def test_a_drawing_is_always_synthetic(drawing):
    assert drawing.synthetic is True
    with pytest.raises((FrozenInstanceError, AttributeError)):
        drawing.synthetic = False
    with pytest.raises((ValueError, TypeError)):
        replace(drawing, synthetic=False)


def test_the_mark_is_found_compressed_and_in_other_formats(drawing):
    packet = Image.open(io.BytesIO(to_png(drawing))).info["XML:com.adobe.xmp"]
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet, zip=True)
    compressed, jpeg, webp = io.BytesIO(), io.BytesIO(), io.BytesIO()
    drawing.image.save(compressed, "PNG", pnginfo=info)
    assert SOURCE_TYPE.encode() not in compressed.getvalue()
    drawing.image.save(jpeg, "JPEG", xmp=packet.encode())
    drawing.image.save(webp, "WEBP", xmp=packet.encode())
    assert [is_synthetic(file.getvalue()) for file in (compressed, jpeg, webp)] == [True] * 3


def test_photos_and_damaged_files_are_not_taken_for_drawings(drawing):
    edited = PngImagePlugin.PngInfo()
    edited.add_itxt("XML:com.adobe.xmp", f"<x Type='{COMPOSITE_TYPE}'/>", zip=True)  # a photo another tool retouched
    retouched = io.BytesIO()
    drawing.image.save(retouched, "PNG", pnginfo=edited)
    png = plain_png(drawing)
    assert [is_synthetic(data) for data in (png, retouched.getvalue(), b"", png[:30] + b"zTXt")] == [False] * 4


def test_the_digest_is_of_the_question_alone():
    assert prompt_digest(request(seed=1)) == prompt_digest(request(seed=2))
    assert len({prompt_digest(request(words)) for words in ("red mug", "red  mug", "blue mug")}) == 3


@pytest.fixture
def engine(tmp_path):
    tiny_catalogue(tmp_path)
    with SearchEngine(Settings(data=tmp_path / "data"), FakeEncoder(), TieredCache(MemoryCache(100, ttl_s=60), None)) as engine:
        engine.index("shop", [Document(name, f"{name} mug", images=(f"{name}.png",)) for name in COLOURS], base=tmp_path)
        yield engine


def test_a_drawing_cannot_become_a_product(engine, tmp_path, drawing):
    """By upload or by file, alone or beside a photo: it is refused, and no search ever finds it."""
    (tmp_path / "drawing.png").write_bytes(to_png(drawing))
    photo = (tmp_path / "red.png").read_bytes()
    offered = [
        Document("uploaded", "a mug", images=("upload",)),
        Document("filed", "a mug", images=("drawing.png",)),
        Document("second", "a mug", images=("photo", "upload")),
    ]
    statuses = engine.index("shop", offered, base=tmp_path, uploads={"upload": to_png(drawing), "photo": photo})
    assert [status.status for status in statuses] == ["refused"] * 3
    assert all("drawing made by a model" in status.error for status in statuses)
    hits = engine.search("shop", image=drawing.image, k=20).hits
    assert {hit.id for hit in hits} == set(COLOURS)


def test_the_indexing_job_refuses_drawings_row_by_row(engine, tmp_path, drawing):
    from indexer.job import IndexRequest, index_catalogue

    (tmp_path / "drawing.png").write_bytes(to_png(drawing))
    (tmp_path / "feed.csv").write_text("id,title,image\na,red mug,red.png\nb,a mug,drawing.png\nc,blue mug,blue.png|drawing.png\n")
    report = index_catalogue(engine, IndexRequest(tmp_path / "feed.csv", "feed"))
    assert sorted(engine.collection("feed").ids()) == ["a", "c"]
    assert [hit.id for hit in engine.search("feed", image=drawing.image, k=9).hits] == ["a", "c"]
    assert report.refused == 1
