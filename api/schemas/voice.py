"""Searches by voice and their answers."""

from pydantic import ConfigDict, Field

from api.schemas.search import SearchOptions, SearchResponse


class VoiceForm(SearchOptions):
    """The fields that may accompany a recording."""

    model_config = ConfigDict(extra="forbid")
    language: str | None = Field(None, pattern=r"^[a-z]{2,3}$", description="Language spoken, such as `en`; else found out.")


class VoiceResponse(SearchResponse):
    """The answer to a search by voice: that of a search by words, and the words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {**SearchResponse.model_config["json_schema_extra"]["examples"][0], "transcript": "red shoes", "language": "en"}  # type: ignore[index]
            ]
        },
    )
    transcript: str = Field(description="The words heard.")
    language: str = Field(description="The language they are in.")
