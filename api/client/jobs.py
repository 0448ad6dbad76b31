"""Jobs as the server tells of them: imports and drawings, their events, their refused rows, their results."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from pydantic import TypeAdapter

from api.client.results import Hit, Snapshot, snapshot
from api.client.searches import Picture

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
_ENDED = frozenset({"done", "failed", "cancelled"})


class DrawingOptions(TypedDict, total=False):
    """What may be said beside the prompt; what is left out is the server's default.

    The `k` products of `collection` nearest to the drawing are found, those that pass `where`. `style` and `category` choose
    presets, `candidates` how many to draw, `seed` which; `steps`, `guidance` and `size` (pixels) are the decoder's. `image` is a
    photo to restyle, `strength` how far to leave it.
    """

    collection: str
    k: int
    where: str
    style: str
    category: str
    size: int
    candidates: int
    seed: int
    steps: int
    guidance: float
    image: Picture
    strength: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that a model drew, always synthetic; `similarity` is its cosine to the prompt, `image` its address."""

    id: str
    image: str
    model: str
    seed: int
    size: int
    similarity: float
    synthetic: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a drawing job made: the drawing, and the real products nearest to it."""

    drawing: Drawing
    closest: list[Hit]


@dataclass(frozen=True, slots=True)
class Job:
    """Work of the server. `progress` and `result` depend on the kind; `message` says why it ended."""

    id: str
    kind: str
    state: State
    collection: str | None
    progress: dict[str, Any]
    message: str
    result: dict[str, Any] | None
    attempts: int
    cancel_requested: bool
    created_at: str
    updated_at: str

    @property
    def ended(self) -> bool:
        """Say whether nothing more will happen."""
        return self.state in _ENDED

    @property
    def drawn(self) -> Drawn | None:
        """Read the result of a drawing job that is done; None for any other."""
        if self.result is None or self.result.get("drawing") is None:
            return None
        return _drawn({"closest": [], **self.result})

    @property
    def snapshot(self) -> Snapshot | None:
        """Name the snapshot that a job took; None for any other."""
        return None if self.kind != "snapshot" or self.result is None else snapshot(self.result)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job: the job as it now is, or a `preview` of the work as a data URI."""

    job: Job | None
    preview: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that did not go in, or not whole; `row` as a shopkeeper counts."""

    row: int
    id: str | None
    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """A page of an import's refused rows; `next` is where the following one begins."""

    errors: list[RefusedRow]
    next: int | None


@dataclass(frozen=True, slots=True)
class _JobList:
    jobs: list[Job]


job = TypeAdapter(Job).validate_python
refused_rows = TypeAdapter(RefusedRows).validate_python
_drawn = TypeAdapter(Drawn).validate_python
_job_list = TypeAdapter(_JobList).validate_python


def jobs(body: object) -> list[Job]:
    """Read a list of jobs."""
    return _job_list(body).jobs


def job_event(name: str, data: Any) -> JobEvent:  # noqa: ANN401  JSON, checked below
    """Read one event."""
    return JobEvent(None, str(data["image"])) if name == "preview" else JobEvent(job(data))
