"""What a caller gives: terms, options, pictures, new products. Each knows its form in JSON."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

Picture: TypeAlias = bytes | Path
"""The bytes of a picture file, or where the file is."""

Recording: TypeAlias = bytes | Path
"""The bytes of a sound file, or where the file is."""

_CONTENTS = ("text", "image", "image_url", "id", "vector")


@dataclass(frozen=True, slots=True)
class FacetSearch:
    """What to count by: an attribute, by its values, or by ranges of its numbers between `edges`."""

    name: str
    edges: Sequence[float] = ()
    limit: int = 20

    def as_json(self) -> dict[str, Any]:
        """Write it as the server reads it."""
        return {"name": self.name, "edges": list(self.edges), "limit": self.limit}


class Options(TypedDict, total=False):
    """What may be said beside what is looked for; what is left out is the server's default.

    `k` hits, those that pass the filter `where`, compared with their pictures, titles or both (`target`); counted by `facets`;
    ordered by `sort` (`"price:asc"`) and `boost` (`"popularity=0.1"`); one per value of `group_by`; without near-equal pictures
    (`dedup`); page by page from the `cursor` `"*"` on; with `explain`, how each score came about. `fallback` says whether to draw
    what is not there: `"auto"` when the decision is `generate`, `"always"`, `"never"`.
    """

    k: int
    where: str | None
    target: Literal["any", "image", "title"]
    facets: Sequence[str | FacetSearch]
    sort: Sequence[str]
    boost: Sequence[str]
    group_by: str | None
    dedup: bool
    cursor: str | None
    explain: bool
    fallback: Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a search: exactly one of `text`, `image`, `image_url`, `id`, `vector`; a negative `weight` pushes away."""

    text: str | None = None
    image: Picture | None = None
    image_url: str | None = None
    id: str | None = None
    vector: Sequence[float] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        given = [name for name in _CONTENTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a term has exactly one of {', '.join(_CONTENTS)}, not {' and '.join(given) or 'none'}")

    def as_json(self) -> dict[str, Any]:
        """Write it as the server reads it."""
        if self.image is not None:
            return {"image": inline(self.image), "weight": self.weight}
        if self.vector is not None:
            return {"vector": [float(number) for number in self.vector], "weight": self.weight}
        name = next(name for name in _CONTENTS if getattr(self, name) is not None)
        return {name: getattr(self, name), "weight": self.weight}


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A product to add or replace. Pictures are bytes, paths of this machine, or addresses if the server fetches (text)."""

    id: str
    title: str = ""
    description: str = ""
    images: Sequence[Picture | str] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Write it as the server reads it."""
        pictures = [image if isinstance(image, str) else inline(image) for image in self.images]
        return {
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "images": pictures,
            "attributes": dict(self.attributes),
        }


def picture_bytes(picture: Picture) -> bytes:
    """Read a picture's bytes. Raises `OSError` when its file cannot be read."""
    return picture.read_bytes() if isinstance(picture, Path) else picture


def inline(picture: Picture) -> str:
    """Write a picture into JSON as base64."""
    return base64.b64encode(picture_bytes(picture)).decode("ascii")


def options_as_json(options: Options) -> dict[str, Any]:
    """Write options as the server reads them."""
    body: dict[str, Any] = dict(options)
    if "facets" in body:
        body["facets"] = [facet if isinstance(facet, str) else facet.as_json() for facet in options["facets"]]
    return body


def form_of(options: Options) -> dict[str, str]:
    """Write options as the fields of a form; lists are separated by commas. Raises `ValueError` for facets with ranges."""
    body = {name: value for name, value in options.items() if value is not None}
    if not all(isinstance(facet, str) for facet in options.get("facets", ())):
        raise ValueError("a form counts facets by their names alone: give names, or search by the transcript for ranges")
    return {name: _field(value) for name, value in body.items()}


def _field(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)
