"""Server-sent events: lines of an answer become results. No reading happens here."""

import json
from typing import Any, Generic

from api.client.call import Result, Stream
from api.client.problems import ClientProblem


class Reader(Generic[Result]):
    """Reads the lines of one answer; a blank line ends an event, one that begins with a colon is a sign of life."""

    def __init__(self, stream: Stream[Result]) -> None:
        self._stream = stream
        self._name = ""
        self._data = ""

    def feed(self, line: str) -> Result | None:
        """Take one line; returns a result when it was the last of an event."""
        if not line.strip():
            return self._finished()
        field, _, value = line.partition(":")
        if field == "event":
            self._name = value.strip()
        elif field == "data":
            self._data += value.strip()
        return None

    def _finished(self) -> Result | None:
        name, data, self._name, self._data = self._name, self._data, "", ""
        if not data:
            return None
        try:
            parsed: Any = json.loads(data)
            return self._stream.read(name, parsed)
        except (ValueError, KeyError, TypeError) as error:
            raise ClientProblem(f"an event of {self._stream.path} is not of the form this client knows: {error}") from error
