"""Products: added, patched, shown, one by one and in bulk; and the collections that hold them."""

from typing import Literal

from pydantic import BaseModel, Field, SkipValidation

from api.schemas.fields import (
    COLLECTION,
    DOCUMENT,
    HIT,
    MAX_DOCUMENTS,
    MAX_IMAGES,
    Attribute,
    AttributeName,
    GivenAttribute,
    example,
)
from engine.datatypes import MAX_ID_LENGTH, MAX_TEXT_LENGTH


class DocumentIn(BaseModel):
    """A product to add or replace. It needs a title or a picture."""

    model_config = example(DOCUMENT)
    id: str = Field(min_length=1, max_length=MAX_ID_LENGTH)
    title: str = Field("", max_length=MAX_TEXT_LENGTH)
    description: str = Field("", max_length=10 * MAX_TEXT_LENGTH)
    images: list[str] = Field(
        [],
        max_length=MAX_IMAGES,
        description="Pictures: base64, `data:` URIs, or addresses if the server fetches.",
    )
    attributes: dict[AttributeName, GivenAttribute] = Field({}, description="What filters ask for; null says that there is none.")


class DocumentPatch(BaseModel):
    """A merge patch (RFC 7396): what is given replaces what is stored; an attribute set to null is removed."""

    model_config = example({"attributes": {"price": 39.9, "discount": None}})
    title: str = Field("", max_length=MAX_TEXT_LENGTH)
    description: str = Field("", max_length=10 * MAX_TEXT_LENGTH)
    images: list[str] = Field([], max_length=MAX_IMAGES, description="Pictures in place of those stored.")
    attributes: dict[AttributeName, GivenAttribute] = Field({}, description="Attributes to set; null removes one.")


class DocumentOut(BaseModel):
    """A stored product; `image` is the address of its first picture."""

    model_config = example({**DOCUMENT, "images": 1, "image": HIT["image"]})
    id: str
    title: str
    description: str
    image: str | None
    images: int = Field(description="How many pictures it has.")
    attributes: dict[str, Attribute]


class BulkUpsert(BaseModel):
    """Products to add or replace; each is judged alone."""

    model_config = example({"documents": [DOCUMENT]})
    documents: list[SkipValidation[DocumentIn]] = Field(min_length=1, max_length=MAX_DOCUMENTS)


class ItemStatus(BaseModel):
    """What became of the item at `index` of a bulk request."""

    index: int
    id: str | None
    status: Literal["created", "updated", "unchanged", "refused"]
    error: str | None = None


class BulkResponse(BaseModel):
    """One status per item, in the order of the request, and how many there are of each."""

    model_config = example(
        {
            "items": [
                {"index": 0, "id": "SKU-1001", "status": "created", "error": None},
                {
                    "index": 1,
                    "id": "SKU-1002",
                    "status": "refused",
                    "error": "it has neither a title nor a picture: nothing could find it",
                },
            ],
            "created": 1,
            "updated": 0,
            "unchanged": 0,
            "refused": 1,
        }
    )
    items: list[ItemStatus]
    created: int
    updated: int
    unchanged: int
    refused: int


class CollectionOut(BaseModel):
    """A collection: how many products, embedded by which encoder, at which version."""

    model_config = example(COLLECTION)
    name: str
    documents: int
    encoder: str
    fingerprint: str
    version: int


class CollectionList(BaseModel):
    """The collections that can be searched, and why any other cannot."""

    model_config = example({"collections": [COLLECTION], "unusable": {}})
    collections: list[CollectionOut]
    unusable: dict[str, str] = Field(description="Collections that this server cannot open, with the reason.")
