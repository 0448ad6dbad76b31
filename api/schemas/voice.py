"""Searches by voice and their answers."""

from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.fields import example
from api.schemas.search import SearchOptions, SearchResponse

_EXAMPLE: dict[str, Any] = SearchResponse.model_json_schema()["examples"][0]


class VoiceForm(SearchOptions):
    """The fields that may accompany a recording."""

    model_config = ConfigDict(extra="forbid")
    language: str | None = Field(None, pattern=r"^[a-z]{2,3}$", description="Language spoken, such as `en`; else found out.")


class VoiceResponse(SearchResponse):
    """The answer to a search by voice: that of a search by words, and the words."""

    model_config = example(_EXAMPLE | {"transcript": "red shoes", "language": "en"})
    transcript: str = Field(description="The words heard.")
    language: str = Field(description="The language they are in.")
