"""The bundle: a folder that holds one model whole and explains itself.

    bundle.json        format, sizes of the towers, languages, what it was trained on and how well, digests of every file
    image.xml, .bin    the image tower as an OpenVINO graph; its constants carry the names of the torch parameters
    text.xml, .bin     the text tower, from token vectors on
    tokens.npy         the token vectors, four bits a weight (see `engine.encoders.texts`)
    tokenizer.json     the unigram tokenizer
    calibrator.json    the parameters of `engine.confidence`
    MODEL_CARD.md      for people

Reading and checking a bundle belongs here; running it does not.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from engine.encoders.runtime import openvino
from engine.errors import BundleError

FORMAT = 1
MANIFEST = "bundle.json"
MODEL_FILES = ("image.xml", "image.bin", "text.xml", "text.bin", "tokens.npy", "tokenizer.json")
WEIGHT = "weight:"
SCALE = "scale:"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size and digest of one file of a bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `bundle.json` says. `image_tower` and `text_tower` are the sizes in `engine.encoders.towers`."""

    name: str
    image_tower: dict[str, Any]
    text_tower: dict[str, Any]
    languages: tuple[str, ...]
    parameters: dict[str, int]
    training: dict[str, Any]
    files: dict[str, FileRecord]

    @property
    def image_size(self) -> int:
        """Side in pixels of the square the image tower looks at."""
        return int(self.image_tower["size"])

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides a vector: weights, tokenizer, sizes; 16 hexadecimal digits."""
        parts = {name: self.files[name].sha256 for name in MODEL_FILES}
        decisive = {"format": FORMAT, "files": parts, "image": self.image_tower, "text": self.text_tower}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose files have been checked against their digests."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Read and verify a bundle; raises `BundleError` if a file is missing, cut short or altered."""
        manifest = read_manifest(path)
        for name, record in manifest.files.items():
            verify(path / name, record)
        return cls(path, manifest)

    def weights(self, graph: str) -> dict[str, Float32[np.ndarray, "..."]]:
        """Read the weights of the `image` or `text` graph by parameter name, unpacked to float32."""
        return read_weights(self.path / f"{graph}.xml")


def read_weights(graph: Path) -> dict[str, Float32[np.ndarray, "..."]]:
    """Read the weights of an exported graph by parameter name, unpacked to float32."""
    model = openvino.Core().read_model(graph)
    named = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Constant"}
    weights = {}
    for name, constant in named.items():
        if name.startswith(WEIGHT):
            values = constant.get_data().astype(np.float32)
            scale = named.get(SCALE + name.removeprefix(WEIGHT))
            weights[name.removeprefix(WEIGHT)] = values if scale is None else values * scale.get_data()
    return weights


def read_manifest(path: Path) -> Manifest:
    """Read `bundle.json`; raises `BundleError` when there is none or its format is not understood."""
    try:
        fields = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{str(path)!r} holds no {MANIFEST}: name a folder that holds a bundle") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{str(path / MANIFEST)!r} cannot be read ({error}): copy the bundle again") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        seen = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        raise BundleError(f"{str(path / MANIFEST)!r} has format {seen!r}, this version reads {FORMAT}: use a matching bundle")
    return _parse_manifest(path, fields)


def _parse_manifest(path: Path, fields: dict[str, Any]) -> Manifest:
    try:
        files = {name: FileRecord(**record) for name, record in fields["files"].items()}
        missing = sorted(set(MODEL_FILES) - set(files))
        if missing:
            raise BundleError(f"{str(path / MANIFEST)!r} does not list {', '.join(missing)}: copy the bundle again")
        names = ("name", "image_tower", "text_tower", "parameters", "training")
        return Manifest(files=files, languages=tuple(fields["languages"]), **{name: fields[name] for name in names})
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{str(path / MANIFEST)!r} is incomplete ({error}): copy the bundle again") from None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `bundle.json`; called last, so that a folder with it is complete."""
    fields = {"format": FORMAT, "fingerprint": manifest.fingerprint, **asdict(manifest)}
    (path / MANIFEST).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def record(path: Path) -> FileRecord:
    """Measure and digest a file."""
    with path.open("rb") as file:
        return FileRecord(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def verify(path: Path, expected: FileRecord) -> None:
    """Check a file against its record; raises `BundleError` if it is missing, cut short or altered."""
    if not path.is_file():
        raise BundleError(f"{str(path)!r} is missing: copy the bundle again")
    seen = record(path)
    if seen.bytes != expected.bytes:
        raise BundleError(f"{str(path)!r} has {seen.bytes} bytes, expected {expected.bytes}: copy the bundle again")
    if seen.sha256 != expected.sha256:
        raise BundleError(f"{str(path)!r} has digest {seen.sha256[:12]}, expected {expected.sha256[:12]}: copy the bundle again")
