"""Searches and embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from api.client import results
from api.client.call import Attachment, Call, Series, in_collection
from api.client.results import Model, SearchResult, VoiceResult
from api.client.searches import Options, Picture, Recording, Term, form_of, inline, options_as_json


def search(collection: str, terms: Sequence[Term], **options: Unpack[Options]) -> Call[SearchResult]:
    """Search by weighted terms: "this dress, but red, not sleeveless"."""
    return _search(collection, (), {"terms": [term.as_json() for term in terms]}, options)


def search_text(collection: str, query: str, **options: Unpack[Options]) -> Call[SearchResult]:
    """Find the products that words describe."""
    return _search(collection, ("text",), {"query": query}, options)


def search_image(collection: str, image: Picture, **options: Unpack[Options]) -> Call[SearchResult]:
    """Find the products that look like a picture: its bytes, or the path of its file."""
    return _search(collection, ("image",), {"image": inline(image)}, options)


def search_voice(
    collection: str, recording: Recording, *, language: str | None = None, **options: Unpack[Options]
) -> Call[VoiceResult]:
    """Find the products that somebody asks for in a recording: its bytes, or the path of its file.

    `language` is the one spoken, such as "en"; without it the server finds out.
    """
    fields = form_of(options) | ({} if language is None else {"language": language})
    path = in_collection(collection, "search", "voice")
    return Call("POST", path, results.voice_result, attachment=Attachment("audio", recording, fields))


def recommend(collection: str, like: Sequence[str], unlike: Sequence[str] = (), **options: Unpack[Options]) -> Call[SearchResult]:
    """Find products like some of the collection and unlike others."""
    return _search(collection, ("recommend",), {"like": list(like), "unlike": list(unlike)}, options)


def pages(collection: str, terms: Sequence[Term], **options: Unpack[Options]) -> Series[SearchResult]:
    """Search and turn the pages, `k` hits each, until the end. Facets are counted once, with the first page."""
    options["cursor"] = options.get("cursor") or "*"
    first = search(collection, terms, **options)

    def after(page: SearchResult) -> Call[SearchResult] | None:
        if page.cursor is None:
            return None
        return replace(first, json={**(first.json or {}), "facets": [], "cursor": page.cursor})

    return Series(first, after)


def embed(inputs: Sequence[str | Picture]) -> Call[list[list[float]]]:
    """Embed texts and pictures: a unit vector of 256 numbers for each."""
    parts = [part if isinstance(part, str) else {"image": inline(part)} for part in inputs]
    return Call("POST", "/v1/embeddings", results.vectors, json={"input": parts})


def models() -> Call[list[Model]]:
    """List the encoders that the server embeds with."""
    return Call("GET", "/v1/models", results.models)


def ready() -> Call[bool]:
    """Say whether the server is ready to search; raises `Unavailable` or `Unreachable` when it is not."""
    return Call("GET", "/readyz", results.readiness)


def _search(collection: str, kind: Sequence[str], asked: Mapping[str, Any], options: Options) -> Call[SearchResult]:
    body = {**asked, **options_as_json(options)}
    return Call("POST", in_collection(collection, "search", *kind), results.search_result, json=body)
