"""The OpenAPI document: complete with examples, and honest about errors."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.auth import need_of
from api.errors import MEDIA_TYPE
from api.schemas.operations import Problem
from api.schemas.search import ImageSearch, ImageSearchForm
from api.schemas.voice import VoiceForm

DESCRIPTION = """Say it or show it, and it finds the product.

Texts and pictures share one space of 256 dimensions; scores are cosines. Every error is `application/problem+json`; a 5xx carries
an id that the server's log explains.
"""

TAGS = [
    {"name": "search", "description": "Find products by words, by a picture, by both."},
    {"name": "documents", "description": "Add, change and show products."},
    {"name": "collections", "description": "Make, list and remove collections of products."},
    {"name": "embeddings", "description": "Embed texts and pictures, as the OpenAI API does."},
    {"name": "drawings", "description": "Draw what the shop does not have, and find what it has nearest to that."},
    {"name": "jobs", "description": "Work that goes on after its request was answered: imports, drawings and snapshots."},
    {"name": "operations", "description": "Whether the server lives, is ready, and what it embeds with."},
]

_DETAILS: Mapping[int, str] = {
    400: "The form cannot be read.",
    401: "The server asks for a key, and the request brings none that it knows.",
    403: "The key may not do this, or a page of another site asked for it.",
    404: "No such collection, document or job.",
    408: "The body did not arrive in time.",
    409: "The collection was built by another encoder, or exists in another state.",
    413: "The body is larger than the server accepts.",
    415: "The body is of another type than this address takes.",
    422: "The request can never work as it is; `detail` says why.",
    501: "The server has nothing that draws, or that listens.",
    429: "The key asks too often; the header `Retry-After` says when to try again.",
    503: "The server is busy; the header `Retry-After` says when to try again.",
    504: "It took longer than the server allows.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors a route answers with."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    example = {
        "type": f"urn:semblance:problem:{phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": status,
        "detail": _DETAILS[status],
        "instance": "urn:semblance:request:3f6c9f0f8a5f4a0e",
        "request_id": "3f6c9f0f8a5f4a0e",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    return {"description": _DETAILS[status], "content": content}


def image_search_body() -> dict[str, Any]:
    """Document the two forms of a search by image, which its route reads by hand."""
    form = _inline(ImageSearchForm)
    form["properties"] = {"image": {"type": "string", "format": "binary", "description": "The picture."}, **form["properties"]}
    form["required"] = ["image"]
    form["examples"] = [{"image": "(the file)", "k": "10", "where": "price < 50"}]
    forms = {"multipart/form-data": {"schema": form}, "application/json": {"schema": _inline(ImageSearch)}}
    return {"requestBody": {"required": True, "content": forms}}


def voice_body() -> dict[str, Any]:
    """Document both forms of a search by voice: a form with the recording, and the recording alone."""
    form = _inline(VoiceForm)
    audio = {"type": "string", "format": "binary", "description": "WAV, MP3, M4A, AAC, FLAC, Ogg or WebM."}
    form["properties"] = {"audio": audio, **form["properties"]}
    form["required"] = ["audio"]
    form["examples"] = [{"audio": "(the file)", "k": "10", "language": "en"}]
    alone = {"schema": {"type": "string", "format": "binary"}, "example": "(the file)"}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, "audio/*": alone}}}


def _inline(model: type[BaseModel]) -> dict[str, Any]:
    """Lay out a model for a body that FastAPI does not know; what it refers to is among the components of other routes."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


class DocumentedAPI(FastAPI):
    """An application whose OpenAPI document also defines the form of its errors."""

    def openapi(self) -> dict[str, Any]:
        """Build the document once."""
        if self.openapi_schema is None:
            schema = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes, tags=self.openapi_tags
            )
            schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            schema["components"]["schemas"] = dict(sorted(schema["components"]["schemas"].items()))
            _describe_access(schema)
            self.openapi_schema = schema
        return self.openapi_schema


def _describe_access(schema: dict[str, Any]) -> None:
    """Say of each operation which scope its key needs, and what it answers without."""
    schema["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key, where the server asks for one.",
        },
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, in a header of its own."},
    }
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if need := need_of(method.upper(), path):
                operation["security"] = [{"bearer": [need.scope]}, {"header": [need.scope]}]
                answers = operation["responses"] | {str(status): answer for status, answer in problems(401, 403, 429).items()}
                operation["responses"] = dict(sorted(answers.items()))
