"""The bundle format: what is checked when one is opened, and that nothing altered gets through."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.build import BUNDLES
from engine.encoders.bundle import MODEL_FILES, Bundle, read_manifest, record, write_manifest
from engine.errors import BundleError

DEFAULT = BUNDLES / "default"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle with the manifest of the default one and a few bytes for every file."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in (*MODEL_FILES, "calibrator.json", "MODEL_CARD.md"):
        (folder / name).write_bytes(name.encode() * 10)
    manifest = read_manifest(DEFAULT)
    files = {path.name: record(path) for path in folder.iterdir()}
    write_manifest(folder, type(manifest)(**{**{f: getattr(manifest, f) for f in manifest.__slots__}, "files": files}))
    return folder


def test_the_default_bundle_is_whole() -> None:
    manifest = Bundle.load(DEFAULT).manifest
    assert manifest.name == "default"
    assert {"en", "zh", "de"} <= set(manifest.languages)
    assert sum(file.bytes for file in manifest.files.values()) <= 90_000_000
    assert json.loads((DEFAULT / "bundle.json").read_text(encoding="utf-8"))["fingerprint"] == manifest.fingerprint


def test_a_whole_bundle_opens(small: Path) -> None:
    assert Bundle.load(small).path == small


@pytest.mark.parametrize("name", [*MODEL_FILES, "calibrator.json"])
def test_a_missing_file_is_named(small: Path, name: str) -> None:
    (small / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}.*missing.*copy the bundle again"):
        Bundle.load(small)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_file_cut_short_is_named_with_its_size(small: Path, name: str) -> None:
    (small / name).write_bytes((small / name).read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"{name}.* bytes, expected"):
        Bundle.load(small)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_one_altered_byte_is_noticed(small: Path, name: str) -> None:
    data = bytearray((small / name).read_bytes())
    data[3] ^= 1
    (small / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}.*digest"):
        Bundle.load(small)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "files": {}}'])
def test_a_manifest_that_cannot_be_used_is_refused(small: Path, text: str) -> None:
    (small / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(small)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        Bundle.load(tmp_path)


def test_the_fingerprint_covers_what_decides_a_vector(small: Path) -> None:
    before = read_manifest(small)
    changed = {name: record(small / name) for name in before.files}
    for name in (*MODEL_FILES, "MODEL_CARD.md"):
        (small / name).write_bytes(b"other")
        files = changed | {name: record(small / name)}
        after = type(before)(**{**{f: getattr(before, f) for f in before.__slots__}, "files": files})
        assert (after.fingerprint == before.fingerprint) == (name == "MODEL_CARD.md")


def test_weights_are_read_by_parameter_name() -> None:
    bundle = Bundle.load(DEFAULT)
    weights = bundle.weights("text")
    assert weights["layers.0.query.weight"].dtype == np.float32
    assert weights["head.narrow.weight"].shape[0] == 256
    assert sum(array.size for array in weights.values()) == bundle.manifest.parameters["text"]


def test_a_copy_elsewhere_is_the_same_bundle(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT, tmp_path / "copy")
    assert Bundle.load(tmp_path / "copy").manifest.fingerprint == read_manifest(DEFAULT).fingerprint
