"""`semblance embed`: rows in input order, whole files or none, errors that name the row."""

import json
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import cli.rows
from cli.main import app
from cli.vectors import vector_file
from engine.errors import InvalidInput, StorageError
from engine.testing import COLOURS, FakeEncoder


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEncoder:
    fake = FakeEncoder()
    monkeypatch.setattr("engine.build.build_encoder", lambda settings: fake)
    monkeypatch.chdir(tmp_path)
    return fake


def embed(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["embed", *map(str, arguments), "--output", "out.npy"], input=stdin)


def rows_of(texts: list[str]) -> np.ndarray:
    return FakeEncoder().encode_texts(texts)


def picture(name: str, colour: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 32), COLOURS[colour]).save(path)
    return path


def test_texts_become_unit_rows_in_the_order_of_the_lines():
    texts = [f"text number {n}" for n in range(700)]
    Path("texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert embed("--texts", "texts.txt").exit_code == 0
    vectors = np.load("out.npy")
    assert vectors.shape == (700, 256)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors, rows_of(texts))


def test_lines_end_as_any_system_ends_them_and_only_there():
    Path("texts.txt").write_bytes("\ufeffred mug\r\n椅子\u2028green\x0b\x85\r\nlast".encode())
    assert embed("--texts", "texts.txt").exit_code == 0
    assert np.load("out.npy").shape == (3, 256)
    assert list(cli.rows.texts("texts.txt")) == ["red mug", "椅子\u2028green\x0b\x85", "last"]


def test_texts_from_standard_input():
    assert embed("--texts", "-", stdin=b"one\ntwo\n").exit_code == 0
    assert np.array_equal(np.load("out.npy"), rows_of(["one", "two"]))


def test_an_empty_file_gives_no_rows():
    Path("texts.txt").touch()
    assert embed("--texts", "texts.txt").exit_code == 0
    assert np.load("out.npy").shape == (0, 256)


def test_a_folder_is_taken_in_the_order_of_paths():
    colours = [*COLOURS] * 5
    names = [f"pics/{number:02}.png" for number in range(28)] + ["pics/sub/1.webp", "pics/zz.jpg"]
    for number in np.random.default_rng(0).permutation(30):
        picture(names[number], colours[number])
    picture("pics/.hidden.png", "black")
    Path("pics/notes.txt").write_text("not a picture", encoding="utf-8")
    assert embed("--images", "pics").exit_code == 0
    assert np.array_equal(np.load("out.npy"), rows_of(colours))


def test_a_list_is_taken_as_it_stands_repetitions_included():
    names = [picture(f"pics/{colour}.png", colour).name for colour in COLOURS]
    order = [*names[::-1], *names, names[0]] * 20
    Path("pics/list.txt").write_text("\n".join(order), encoding="utf-8")
    assert embed("--images", "pics/list.txt").exit_code == 0
    assert np.array_equal(np.load("out.npy"), rows_of([name.removesuffix(".png") for name in order]))


def test_a_list_may_name_paths_from_the_current_folder():
    picture("pics/red.png", "red")
    Path("lists").mkdir()
    Path("lists/list.txt").write_text(f"pics/red.png\n{Path('pics/red.png').absolute()}\n", encoding="utf-8")
    assert embed("--images", "lists/list.txt").exit_code == 0
    assert np.load("out.npy").shape == (2, 256)
    assert embed("--images", "-", stdin=b"pics/red.png\n").exit_code == 0


def test_a_bad_picture_is_named_and_leaves_nothing_behind():
    picture("red.png", "red")
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff not really")
    Path("list.txt").write_text("red.png\nbroken.jpg\nred.png\n", encoding="utf-8")
    Path("out.npy").write_bytes(b"what was there before")
    result = embed("--images", "list.txt")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: list.txt line 2 (broken.jpg): ")
    assert Path("out.npy").read_bytes() == b"what was there before"
    assert sorted(os.listdir()) == ["broken.jpg", "list.txt", "out.npy", "red.png"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"one\n\nthree\n", "texts.txt line 2 is empty"),
        (b"one\n  \nthree\n", "texts.txt line 2 is empty"),
        (b"one\ncaf\xe9\n", "texts.txt line 2 is not UTF-8 (byte 4)"),
        (b"a\nb\n" + b"x" * 10_001, "texts.txt line 3 has a NUL or more than 10000 characters"),
        (b"a\n" + b"x" * 100_000, "texts.txt line 2 is longer than 10000 characters"),
        (b"\x00\n", "texts.txt line 1 has a NUL"),
    ],
)
def test_a_bad_line_is_named(content, reason):
    Path("texts.txt").write_bytes(content)
    result = embed("--texts", "texts.txt")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {reason}")
    assert not Path("out.npy").exists()


def test_the_longest_text_allowed_is_embedded():
    Path("texts.txt").write_text("椅" * 10_000 + "\r\n", encoding="utf-8")
    assert embed("--texts", "texts.txt").exit_code == 0


def test_exactly_one_kind_of_input():
    for arguments in ([], ["--texts", "a", "--images", "b"]):
        result = embed(*arguments)
        assert result.exit_code == 2
        assert "either --texts FILE or --images" in result.stderr


def test_an_empty_name_is_not_another_file():
    Path("None").write_text("", encoding="utf-8")
    assert embed("--texts", "").exit_code == 1
    assert not Path("out.npy").exists()


@pytest.mark.parametrize(("option", "source"), [("--texts", "missing.txt"), ("--images", "missing.txt")])
def test_a_missing_input_is_named(option, source):
    result = embed(option, source)
    assert result.exit_code == 1
    assert result.stderr == "error: there is no file missing.txt\n"


def test_a_folder_without_pictures_is_an_error():
    Path("empty").mkdir()
    result = embed("--images", "empty")
    assert result.exit_code == 1
    assert "there is no picture below empty" in result.stderr


def test_an_output_in_no_folder_is_named():
    Path("texts.txt").write_text("one\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["embed", "--texts", "texts.txt", "--output", "nowhere/out.npy"])
    assert result.exit_code == 1
    assert result.stderr == "error: cannot write nowhere/out.npy: there is no folder nowhere\n"


def test_json_is_one_document():
    Path("texts.txt").write_text("one\ntwo\n", encoding="utf-8")
    result = embed("--texts", "texts.txt", "--json")
    assert json.loads(result.stdout) == {
        "output": "out.npy",
        "rows": 2,
        "dimensions": 256,
        "encoder": "fake:colours",
        "fingerprint": "fake-colours-1",
    }


def test_memory_does_not_grow_with_the_input():
    with Path("texts.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"text {n}\n" for n in range(20_000))
    tracemalloc.start()
    try:
        assert embed("--texts", "texts.txt").exit_code == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert Path("out.npy").stat().st_size == 128 + 20_000 * 1024
    assert peak < 8_000_000


def test_pictures_are_decoded_only_a_little_ahead(monkeypatch):
    opened = []
    monkeypatch.setattr(cli.rows, "read_bytes", lambda path, limit: opened.append(path) or b"")
    monkeypatch.setattr(cli.rows, "decode", lambda data, size, max_pixels: Image.new("RGB", (2, 2)))
    rows = cli.rows.batches(((f"row {n}", Path(str(n))) for n in range(1000)), 10)
    images = cli.rows.decoded(rows, cli_settings(), 32)
    next(images)
    time.sleep(0.3)
    assert len(opened) <= 10 * (cli.rows.BATCHES_AHEAD + 1)
    images.close()


def cli_settings():
    from engine.config import load_settings

    return load_settings()


def test_a_vector_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "v.npy"
    with pytest.raises(InvalidInput):
        write_three_rows_and_fail(target)
    assert os.listdir(tmp_path) == []
    with vector_file(target) as file:
        for start in range(0, 1_000, 100):
            file.append(np.arange(start, start + 100, dtype=np.float32)[:, None].repeat(256, axis=1))
    assert np.array_equal(np.load(target)[:, 7], np.arange(1_000, dtype=np.float32))
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    with pytest.raises(StorageError, match="it is a folder"), vector_file(tmp_path):
        pass


def write_three_rows_and_fail(target: Path) -> None:
    with vector_file(target) as file:
        file.append(np.ones((3, 256), np.float32))
        raise InvalidInput("row 4 is bad")


def current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
