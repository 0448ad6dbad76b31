"""Damaged pictures and bodies, by the hundred (and by ten thousand in `make soak`): no 5xx, no hang, no growth."""

import base64
import io
import random
import time

import orjson
import psutil
import pytest
from PIL import Image

# Starlette leaves the file of a form that breaks off to the garbage collector, which closes it.
pytestmark = pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")

SHOP = "/v1/collections/shop"
MAX_GROWTH = 250_000_000
LONGEST_S = 20.0


def pictures():
    """One small picture of each kind that is accepted, and of some that are not."""
    made = {}
    image = Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 20).convert("RGB")
    for kind, options in [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})]:
        made[f"{kind}{options}"] = encoded(image, kind, **options)
    for kind in ("GIF", "BMP", "TIFF", "AVIF", "PPM", "ICO", "TGA"):
        made[kind] = encoded(image, kind)
    made["TIFF deflate"] = encoded(image, "TIFF", compression="tiff_deflate")
    made["PNG palette"] = encoded(image.convert("P"), "PNG")
    made["GIF animated"] = encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)])
    return list(made.values())


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def damaged(data, chance):
    """Damage bytes the way networks, disks and attackers do."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(7):
            case 0:
                del data[at:]
            case 1 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 2 if data:
                data[at] = chance.choice((0, 0xFF, 0x7F, 0x80, 0x0A))
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 30))
            case 4:
                del data[at : at + chance.randrange(1, 30)]
            case 5:
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
            case 6:
                data += data[at : at + chance.randrange(1, 200)]
    return bytes(data)


BODIES = [
    ("POST", "/search/text", {"query": "red mug", "k": 5, "where": "price < 50", "target": "any"}),
    ("POST", "/search", {"terms": [{"text": "red", "weight": 0.5}, {"id": "p1"}, {"vector": [0.1] * 256}], "k": 3}),
    ("POST", "/documents", {"documents": [{"id": "n", "title": "x", "attributes": {"a": 1, "b": ["c"], "d": True}}]}),
    ("PATCH", "/documents/p2", {"title": "mug", "attributes": {"price": 5.5, "brand": None}}),
]


def requests(chance):
    """Yield requests without end: damaged pictures by every way in, and damaged bodies."""
    shelf = pictures()
    while True:
        data = damaged(chance.choice(shelf), chance)
        inline = base64.b64encode(data).decode()
        yield "POST", f"{SHOP}/search/image", {"files": {"image": ("a.png", data, chance.choice(("image/png", "text/html", "")))}}
        yield "POST", f"{SHOP}/search/image", {"json": {"image": inline}}
        yield "POST", f"{SHOP}/documents", {"json": {"documents": [{"id": "n", "title": "x", "images": [inline]}]}}
        yield "POST", "/v1/embeddings", {"json": {"input": [{"image": inline}]}}
        method, path, body = chance.choice(BODIES)
        headers = {"content-type": "application/json"}
        yield method, SHOP + path, {"content": damaged(orjson.dumps(body), chance), "headers": headers}
        form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + data + b"\r\n--x--\r\n"
        headers = {"content-type": "multipart/form-data; boundary=x"}
        yield "POST", f"{SHOP}/search/image", {"content": damaged(form, chance), "headers": headers}


def hold(client, count, seed):
    statuses, process = {}, psutil.Process()
    stream = requests(random.Random(seed))
    for _ in range(60):  # caches, pools and decoders reach their size
        send(client, *next(stream))
    before = process.memory_info().rss
    for number in range(count):
        began = time.monotonic()
        method, path, options = next(stream)
        answer = send(client, method, path, options)
        assert answer.status_code < 500, (number, method, path, answer.text, options)
        assert time.monotonic() - began < LONGEST_S, (number, method, path)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert process.memory_info().rss - before < MAX_GROWTH
    assert client.get("/readyz").status_code == 200
    return statuses


def send(client, method, path, options):
    return client.request(method, path, **options)


def test_hundreds_of_damaged_pictures_and_bodies(mugs):
    statuses = hold(mugs, 300, seed=1)
    assert sum(statuses.values()) == 300
    assert statuses.get(422, 0) > 30  # most damage is noticed
    assert statuses.get(200, 0) > 10  # and some is survived, so the requests do reach the decoders


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_damaged_pictures_and_bodies(mugs):
    assert sum(hold(mugs, 10_000, seed=2).values()) == 10_000
