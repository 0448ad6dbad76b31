"""Bodies of snapshots, aliases and removal by filter."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, Field

from api.schemas.fields import MAX_WHERE_LENGTH, example

SNAPSHOT = {"collection": "shop", "snapshot": "20260131T101500-1c9f.snapshot", "bytes": 1_048_576}
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
SNAPSHOT_NAME = r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{4}\.snapshot$"

SnapshotName = Annotated[str, Path(pattern=SNAPSHOT_NAME, description="Name of a snapshot.", examples=[SNAPSHOT["snapshot"]])]
AliasName = Annotated[str, Path(pattern=NAME, description="Name of an alias.", examples=["live"])]
Where = Annotated[
    str,
    Query(min_length=1, max_length=MAX_WHERE_LENGTH, description="Which products: a filter expression.", examples=["stock = 0"]),
]


class Deleted(BaseModel):
    """How many products were removed."""

    model_config = example({"deleted": 12})
    deleted: int


class SnapshotOut(BaseModel):
    """A snapshot that the server keeps."""

    model_config = example(SNAPSHOT)
    collection: str
    snapshot: str
    bytes: int


class SnapshotList(BaseModel):
    """The snapshots of a collection, oldest first."""

    model_config = example({"snapshots": [SNAPSHOT]})
    snapshots: list[SnapshotOut]


class Restore(BaseModel):
    """Which snapshot of which collection to make a new one of."""

    model_config = example({"collection": "shop", "snapshot": SNAPSHOT["snapshot"]})
    collection: str = Field(pattern=NAME)
    snapshot: str = Field(pattern=SNAPSHOT_NAME)


class AliasIn(BaseModel):
    """The collection that the alias means from now on."""

    model_config = example({"collection": "shop"})
    collection: str = Field(pattern=NAME)


class AliasOut(BaseModel):
    """What an alias means, and what it meant before it was last reindexed."""

    model_config = example({"alias": "live", "collection": "shop", "previous": None})
    alias: str
    collection: str
    previous: str | None


class AliasList(BaseModel):
    """Every alias."""

    model_config = example({"aliases": [{"alias": "live", "collection": "shop", "previous": None}]})
    aliases: list[AliasOut]
