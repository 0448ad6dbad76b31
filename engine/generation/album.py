"""Drawings kept on disk by what they depend on, so that the same request is not drawn twice.

A drawing is two files in `<data>/_drawings/`: the PNG with its provenance, and a JSON sheet beside it. The oldest go first.
"""

import base64
import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from engine.datatypes import Vector
from engine.drawings import GenerationRequest
from engine.errors import NotFound
from engine.generation.provenance import to_png
from engine.generation.studio import Drawing

FOLDER = "_drawings"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, eq=False)
class KeptDrawing:
    """A drawing at rest; `vector` is its own, re-embedded. It is synthetic, as every drawing."""

    id: str
    size: int
    seed: int
    model: str
    prompt_digest: str
    similarity: float
    similarities: tuple[float, ...]
    nudity_checked: bool
    vector: Vector

    def as_dict(self) -> dict[str, Any]:
        """Lay it out as JSON, without its vector; `synthetic` is always true."""
        fields = ("id", "size", "seed", "model", "prompt_digest", "nudity_checked")
        rounded = {"similarity": round(self.similarity, 4), "candidates": [round(value, 4) for value in self.similarities]}
        return {name: getattr(self, name) for name in fields} | rounded | {"synthetic": True}


def drawing_id(request: GenerationRequest, *, generator: str, fingerprint: str) -> str:
    """Digest everything a drawing depends on: 32 hex digits."""
    picture = None
    if request.image is not None:
        picture = [list(request.image.size), hashlib.blake2b(request.image.tobytes(), digest_size=16).hexdigest()]
    numbers = [request.size, request.steps, request.guidance, request.seed, request.count, request.strength]
    fields = [generator, fingerprint, request.prompt, list(request.weights), numbers, picture]
    vectors = np.ascontiguousarray(request.vectors, "<f4").tobytes()
    return hashlib.blake2b(orjson.dumps(fields) + vectors, digest_size=16, person=b"drawing").hexdigest()


class Album:
    """The kept drawings of a data folder, at most `most`; several processes may share it."""

    def __init__(self, data: Path, *, most: int) -> None:
        self._folder = data / FOLDER
        self._most = most

    def find(self, id: str) -> KeptDrawing | None:
        """Return a drawing that is kept, None when it is not or its files are damaged."""
        try:
            sheet = orjson.loads(self._file(id, "json").read_bytes())
            vector = np.frombuffer(base64.b64decode(sheet.pop("vector")), "<f4")
            kept = KeptDrawing(vector=vector, **(sheet | {"similarities": tuple(sheet["similarities"])}))
            return kept if self._file(id, "png").stat().st_size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def png(self, id: str) -> bytes:
        """Read the picture file; raises `NotFound`."""
        try:
            return self._file(id, "png").read_bytes()
        except OSError:
            raise NotFound(f"there is no drawing {id[:80]!r}: it was never made, or newer ones took its place") from None

    def keep(self, id: str, drawing: Drawing, *, restyled: bool) -> KeptDrawing:
        """Keep a drawing; the sheet is written last, so that what has one is whole."""
        picture = drawing.picture
        sheet = {
            "id": id,
            "size": int(picture.pixels.shape[0]),
            "seed": picture.seed,
            "model": picture.model,
            "prompt_digest": picture.prompt_digest,
            "similarity": float(picture.similarity or 0.0),
            "similarities": list(drawing.similarities),
            "nudity_checked": drawing.nudity_checked,
        }
        vector = np.ascontiguousarray(drawing.vector, "<f4")
        self._write(self._file(id, "png"), to_png(picture, restyled=restyled))
        self._write(self._file(id, "json"), orjson.dumps(sheet | {"vector": base64.b64encode(vector.tobytes()).decode()}))
        self._forget_the_oldest()
        return KeptDrawing(vector=vector, **(sheet | {"similarities": drawing.similarities}))  # type: ignore[arg-type]

    def _file(self, id: str, kind: str) -> Path:
        if not _ID.fullmatch(id):
            raise NotFound(f"{id[:80]!r} is no drawing's id: it has 32 hexadecimal digits")
        return self._folder / f"{id}.{kind}"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{uuid.uuid4().hex}.part")
        partial.write_bytes(data)
        os.replace(partial, path)

    def _forget_the_oldest(self) -> None:
        sheets = list(self._folder.glob("*.json"))
        if len(sheets) <= max(self._most, 1):
            return
        by_age = sorted(sheets, key=_age)
        for sheet in by_age[: len(sheets) - max(self._most, 1)]:
            sheet.unlink(missing_ok=True)
            sheet.with_suffix(".png").unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
