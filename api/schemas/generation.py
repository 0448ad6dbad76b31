"""Drawings: what may be asked for, and how a finished one is shown."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, StrictInt, model_validator

from api.exchange import picture_address
from api.passes import with_pass
from api.schemas.fields import HIT, MAX_WHERE_LENGTH, Number, example
from engine.drawings import BOUNDS
from engine.generation.prompts import STYLES, TEMPLATES

MAX_PROMPT = 2_000

GENERATE_JOB = {
    "id": "9c1f6a2be04d5578a1b2c3d4",
    "kind": "generate",
    "state": "done",
    "collection": "shop",
    "progress": {"stage": "drawing", "done": 4, "total": 4, "similarity": 0.5213},
    "message": "candidate 4 of 4",
    "result": {
        "synthetic": True,
        "drawing": {
            "id": "0f343b0931126a20f133d67c2b018a3b",
            "size": 128,
            "seed": 2,
            "model": "decoder:default@1f0c9a2b77de",
            "prompt_digest": "4efb5a2808bc9d91aaf60a18c27c3053",
            "nudity_checked": True,
            "similarity": 0.5213,
            "candidates": [0.4411, 0.4875, 0.5213, 0.4702],
            "synthetic": True,
            "image": "/v1/drawings/0f343b0931126a20f133d67c2b018a3b/image",
        },
        "closest": [HIT],
        "version": 54,
    },
    "attempts": 1,
    "cancel_requested": False,
    "created_at": "2026-03-02T09:30:00.000+00:00",
    "updated_at": "2026-03-02T09:30:01.500+00:00",
}


class GenerateRequest(BaseModel):
    """Draw what words describe. Emphasis: `[focus:...][style:...][scene:...][avoid:...]`, or `[重点:…][风格:…][场景:…][避免:…]`."""

    model_config = example(
        {"prompt": "[focus:gold-rimmed glasses][style:retro][scene:cafe]", "collection": "shop", "k": 10},
        {"prompt": "红色连衣裙[风格:复古]", "seed": 7},
    )
    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What to draw.")
    collection: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Where to look for the real products nearest to the drawing."
    )
    k: StrictInt = Field(10, ge=1, le=100, description="How many of them to return at most.")
    where: str | None = Field(None, max_length=MAX_WHERE_LENGTH, description="Filter expression for them.")
    style: str | None = Field(None, max_length=40, description=f"A style preset: {', '.join(STYLES)}.")
    category: str | None = Field(None, max_length=40, description=f"Whose template to use: {', '.join(TEMPLATES)}; else guessed.")
    size: StrictInt | None = Field(None, ge=BOUNDS["size"][0], le=BOUNDS["size"][1], description="Side in pixels.")
    candidates: StrictInt | None = Field(None, ge=1, le=16, description="How many to draw; the one nearest to the prompt is kept.")
    seed: StrictInt = Field(0, ge=0, le=int(BOUNDS["seed"][1]), description="The same seed draws the same picture.")
    steps: StrictInt | None = Field(None, ge=1, le=200, description="Steps of the decoder.")
    guidance: Number | None = Field(None, ge=0, le=50, description="How strictly to follow the prompt.")
    image: str | None = Field(None, min_length=1, description="A photo to restyle, as base64 or a `data:` URI.")
    strength: Number = Field(0.6, ge=0, le=1, description="How far to leave that photo; 1: entirely.")

    @model_validator(mode="after")
    def _filters_something(self) -> "GenerateRequest":
        if self.where is not None and self.collection is None:
            raise ValueError("where filters the products nearest to the drawing: name their collection too")
        return self


class Generation(BaseModel):
    """What became of the wish to draw what a search did not find: a job to follow, or the reason why there is none."""

    model_config = example({"job": "9c1f6a2be04d5578a1b2c3d4", "reason": None, "rule": None})
    job: str | None = Field(description="Follow it at `/v1/jobs/ID` or `/v1/jobs/ID/events`.")
    reason: str | None
    rule: str | None = Field(description="The rule that safety refused by.")


Fallback = Literal["auto", "always", "never"]


def shown_result(result: Mapping[str, Any], collection: str | None) -> dict[str, Any]:
    """Lay the result of a drawing job out for a client: with addresses of pictures, signed where keys are asked for."""
    shown = dict(result)
    if drawing := result.get("drawing"):
        address = f"/v1/drawings/{drawing['id']}/image"
        shown["drawing"] = dict(drawing) | {"image": with_pass(address, address)}
    if "closest" in result:
        hits = [dict(hit) for hit in result["closest"]]
        shown["closest"] = [hit | {"image": picture_address(collection or "", hit["id"], hit["image"])} for hit in hits]
    return shown
