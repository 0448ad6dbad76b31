"""What a search is to be counted by, and how lists of names are given."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, StrictInt, Tag

from api.schemas.fields import Number, example
from engine.datatypes import MAX_ORDERS
from engine.listing import MAX_FACET_VALUES, MAX_FACETS, MAX_NAME_LENGTH


class FacetSearch(BaseModel):
    """What to count by: an attribute, by its values or by ranges of its numbers."""

    model_config = example({"name": "price", "edges": [25, 50, 100]})
    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH, description="The attribute.")
    edges: list[Number] = Field(
        [], max_length=MAX_FACET_VALUES, description="Ascending numbers: count below the first, between each two, from the last on."
    )
    limit: StrictInt = Field(20, ge=1, le=MAX_FACET_VALUES, description="How many values to list, the most frequent first.")


def _separated(value: object) -> object:
    """Let the fields of a form list several names with commas, as a query of curl does."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _named(facets: list[str | FacetSearch]) -> list[str | FacetSearch]:
    return [FacetSearch(name=facet, edges=[], limit=20) if isinstance(facet, str) else facet for facet in facets]


def _kind(value: object) -> str | None:
    """Tell a name from an object, so that only one of them is judged; the brackets keep the word out of places in errors."""
    if isinstance(value, str):
        return "<name>"
    return "<object>" if isinstance(value, dict | FacetSearch) else None


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
FacetAsked = Annotated[
    Annotated[Name, Tag("<name>")] | Annotated[FacetSearch, Tag("<object>")],
    Discriminator(_kind, custom_error_type="facet", custom_error_message='give the name of an attribute, or {"name": ...}'),
]
Facets = Annotated[list[FacetAsked], BeforeValidator(_separated), AfterValidator(_named), Field(max_length=MAX_FACETS)]
Names = Annotated[list[Name], BeforeValidator(_separated), Field(max_length=MAX_ORDERS)]
