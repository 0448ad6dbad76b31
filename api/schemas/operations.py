"""What an operator asks of the server, and the form of every error."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from api.schemas.fields import example
from engine.datatypes import DIMENSIONS


class ModelOut(BaseModel):
    """An encoder this server embeds with."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    fingerprint: str


class ModelList(BaseModel):
    """The encoders this server embeds with."""

    model_config = example(
        {
            "object": "list",
            "data": [
                {
                    "id": "bundle:default",
                    "object": "model",
                    "created": 0,
                    "owned_by": "semblance",
                    "dimensions": DIMENSIONS,
                    "fingerprint": "9f2c41d07a35",
                }
            ],
        }
    )
    object: Literal["list"]
    data: list[ModelOut]


class Health(BaseModel):
    """Whether the process lives, or is ready for traffic."""

    model_config = example({"status": "ok"})
    status: Literal["ok", "ready"]


class Problem(BaseModel):
    """An error (RFC 9457). Further members depend on the kind: `column` of a filter, `reason` of a picture, `errors` of a body."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:semblance:problem:invalid-filter",
                    "title": "Invalid filter",
                    "status": 422,
                    "detail": "expected a value after '<'",
                    "instance": "urn:semblance:request:3f6c9f0f8a5f4a0e",
                    "request_id": "3f6c9f0f8a5f4a0e",
                    "column": 9,
                }
            ]
        },
    )
    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
