"""Embeddings as the OpenAI API gives them, of texts and of pictures."""

import base64
from collections.abc import Sequence
from functools import partial

import numpy as np
from fastapi import APIRouter, Response

from api.exchange import StrictRoute, json_answer
from api.openapi import problems
from api.pictures import picture_bytes
from api.schemas.embeddings import EmbeddingPart, EmbeddingRequest, EmbeddingResponse, ImageUrl
from api.schemas.operations import ModelList
from api.services import ServicesDep
from api.writing import ReadPicture
from engine.datatypes import DIMENSIONS, Vectors
from engine.errors import InvalidInput, InvalidQuery, NotFound
from engine.search import SearchEngine

router = APIRouter(prefix="/v1", tags=["embeddings"], route_class=StrictRoute)


@router.post(
    "/embeddings",
    summary="Embed texts and pictures",
    response_model=EmbeddingResponse,
    responses=problems(404, 408, 413, 415, 422, 503, 504),
)
async def embed(body: EmbeddingRequest, services: ServicesDep) -> Response:
    """Embed texts and pictures into 256 dimensions; unit length, in the order of the input."""
    model = services.engine.encoder.name
    if body.model not in (None, model, "default"):
        raise NotFound(f"model {body.model!r} is not served here: use {model!r}, or leave `model` out")
    if body.dimensions not in (None, DIMENSIONS):
        raise InvalidInput(f"dimensions is {body.dimensions}: this server embeds into {DIMENSIONS}")
    parts = body.input
    async with services.fetching.fetched(map(_image_of, parts)) as fetched:
        read = partial(picture_bytes, max_bytes=services.settings.max_image_bytes, fetched=fetched)
        vectors = await services.workers.run(lambda: _embed(services.engine, parts, read))
    words = sum(len(text.split()) for text in map(_text_of, parts) if text is not None)
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(row) if body.encoding_format == "base64" else row.tolist()}
        for index, row in enumerate(vectors)
    ]
    return json_answer({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": words, "total_tokens": words}})


@router.get("/models", summary="List models", response_model=ModelList, responses=problems(503))
async def list_models(services: ServicesDep) -> Response:
    """Name the encoder this server embeds with."""
    encoder = services.engine.encoder
    model = {
        "id": encoder.name,
        "object": "model",
        "created": 0,
        "owned_by": "semblance",
        "dimensions": DIMENSIONS,
        "fingerprint": encoder.fingerprint,
    }
    return json_answer({"object": "list", "data": [model]})


def _embed(engine: SearchEngine, parts: Sequence[str | EmbeddingPart], read: ReadPicture) -> Vectors:
    texts = {index: text for index, text in enumerate(map(_text_of, parts)) if text is not None}
    for index, text in texts.items():
        if not text.strip():
            raise InvalidQuery(f"input {index} is empty: give at least one word")
    pictures = {index: _image_of(part) for index, part in enumerate(parts) if index not in texts}
    images = [engine.open_image(read(image)) for image in pictures.values()]
    vectors = np.empty((len(parts), DIMENSIONS), np.float32)
    if texts:
        vectors[list(texts)] = engine.embed_texts(list(texts.values()))
    if images:
        vectors[list(pictures)] = engine.embed_images(images)
    return vectors


def _text_of(part: str | EmbeddingPart) -> str | None:
    return part if isinstance(part, str) else part.text


def _image_of(part: str | EmbeddingPart) -> str:
    if isinstance(part, str):
        return ""
    address = part.image_url.url if isinstance(part.image_url, ImageUrl) else part.image_url
    return part.image or address or ""


def _base64(row: np.ndarray) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
