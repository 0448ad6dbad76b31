"""Drawing behind the API: orders become jobs, and what a search did not find may be drawn.

A job's id is the digest of what it draws, so that the same order twice is one job; finished drawings lie in the album of the data
folder. How a drawing is made is in `engine.generation`, how jobs run in `api.jobs`.
"""

import base64
import hashlib
import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Depends, Request

from api.auth import key_of
from api.jobs import JobEnded, Report
from api.jobstore import Job
from api.keys import ApiKey
from api.rates import Buckets, Limit
from api.services import Services
from engine.build import can_draw, drawing_size, generator_identity, open_studio
from engine.datatypes import Query, SearchResult
from engine.drawings import GeneratedImage
from engine.encoders.images import decode
from engine.errors import GenerationCancelled, GenerationRefused, NotFound, SemblanceError
from engine.generation.album import KeptDrawing
from engine.generation.desk import DrawingDesk, Draws, Order
from engine.generation.process import StudioProcess
from engine.generation.safety import concept_list
from engine.results import result_as_dict

logger = logging.getLogger(__name__)

KIND = "generate"
HOUR_S = 3_600
Fallback: TypeAlias = Literal["auto", "always", "never"]


class BudgetSpent(SemblanceError):
    """A key has asked for as many drawings as it may; `wait_s` says when it may ask again."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the key has used up its drawings for now: ask again in {wait_s:.0f} s")
        self.wait_s = wait_s


class NothingDraws(SemblanceError):
    """This server has no generator."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An order with what is to be searched for afterwards."""

    order: Order
    collection: str | None = None
    k: int = 10
    where: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Lay the wish out as JSON, pictures and vectors as base64."""
        order = asdict(replace(self.order, photo=None)) | {"vector": _text(self.order.vector)}
        return {"order": order | {"photo": _photo_text(self.order)}, "k": self.k, "where": self.where}

    @classmethod
    def of(cls, job: Job) -> "Wish":
        """Read the wish of a job."""
        fields = dict(job.request["order"])
        photo, vector = fields.pop("photo"), fields.pop("vector")
        picture = None if photo is None else decode(base64.b64decode(photo), size=None, max_pixels=1 << 22)
        order = Order(**fields, photo=picture, vector=None if vector is None else base64.b64decode(vector))
        return cls(order, job.collection, job.request["k"], job.request["where"])


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _photo_text(order: Order) -> str | None:
    if order.photo is None:
        return None
    buffer = io.BytesIO()
    order.photo.save(buffer, "PNG")  # the same pixels after a restart
    return _text(buffer.getvalue())


class DrawingJobs:
    """Takes wishes and runs their jobs. Close it. Without a generator every wish raises `NothingDraws`."""

    def __init__(self, services: Services, buckets: Buckets, studio: Draws | None = None) -> None:
        settings = services.settings
        self._services, self._buckets = services, buckets
        self._blocked = concept_list(settings.blocked_concepts)
        self._own = StudioProcess(partial(open_studio, settings)) if studio is None and can_draw(settings) else None
        draws = studio or self._own
        size = 64 if studio is not None else drawing_size(settings)
        self.desk = (
            None if draws is None else DrawingDesk(services.engine, draws, size=size, generator=generator_identity(settings))
        )

    def start(self) -> None:
        """Let jobs run, also those that an earlier process left."""
        if self.desk is not None:
            self._services.jobs.register(KIND, self._run, max_waiting=self._services.settings.drawing_queue)

    def close(self) -> None:
        """End the process that draws; the job under way is queued again by the registry."""
        if self._own is not None:
            self._own.close()

    async def submit(self, wish: Wish, key: ApiKey | None) -> Job:
        """Queue a wish, or return the job that draws the same already.

        Raises `NothingDraws`, `BudgetSpent`, `Overloaded` when too many wait, and whatever is wrong with the order.
        """
        id = await self._services.workers.run(lambda: self._id_of(wish, key))
        found = await self._services.workers.run(lambda: self._job_for(id))
        if found is not None:
            return found
        await self._pay(key)
        return await self._services.workers.run(lambda: self._queue(id, wish, key))

    async def _pay(self, key: ApiKey | None) -> None:
        budget = self._services.settings.drawing_budget
        if key is None or not budget:
            return
        wait_s = await self._buckets.take(f"drawings:{key.id}", Limit(budget / HOUR_S, budget))
        if wait_s:
            raise BudgetSpent(wait_s)

    def _id_of(self, wish: Wish, key: ApiKey | None) -> str:
        if self.desk is None:
            raise NothingDraws("this server has nothing that draws: its operator sets SEMBLANCE_GENERATOR")
        drawing = self.desk.id_of(self.desk.request(wish.order))
        rest = repr((drawing, wish.collection, wish.k, wish.where, key.id if key else None))
        return hashlib.blake2b(rest.encode(), digest_size=12, person=b"wish").hexdigest()

    def _job_for(self, id: str) -> Job | None:
        """Find the job under an id, if it still leads to a drawing."""
        try:
            job = self._services.jobs.get(id)
        except NotFound:
            return None
        if job.state in ("queued", "running"):
            return job
        assert self.desk is not None  # noqa: S101  an id was made
        drawing = (job.result or {}).get("drawing") or {}
        fresh = job.state == "done" and self.desk.album.find(drawing.get("id", "0" * 32)) is not None
        return job if fresh and job.result and job.result.get("version") == self._version(job.collection) else None

    def _version(self, collection: str | None) -> int | None:
        return None if collection is None else self._services.engine.collection(collection).version

    def _queue(self, id: str, wish: Wish, key: ApiKey | None) -> Job:
        jobs = self._services.jobs
        try:
            jobs.get(id)
            id = ""  # an earlier job of that name ended without a drawing that is still there
        except NotFound:
            pass
        return jobs.submit(KIND, wish.as_json(), id=id, collection=wish.collection, key=key.id if key else None)

    def wanted(self, query: Query, result: SearchResult, wanted: Fallback) -> bool:
        """Say whether a search with this result is to be followed by a drawing, or by the refusal of one."""
        if wanted != "auto" or self.desk is None:
            return wanted == "always"
        return result.decision == "generate" or (result.decision == "abstain" and self._blocked.rule_of(query) is not None)

    async def fall_back(self, request: Request, collection: str, query: Query, result: SearchResult, wanted: Fallback) -> Any:  # noqa: ANN401  JSON
        """Start drawing what a search did not find; returns what its answer says of that, None when nothing is to be drawn.

        A search never fails for it: what cannot be drawn has its reason in the answer.
        """
        if not self.wanted(query, result, wanted):
            return None
        try:
            wish = await self._services.workers.run(lambda: self._wish_of(collection, query))
            job = await self.submit(wish, key_of(request.scope))
        except GenerationRefused as error:
            return {"job": None, "reason": str(error), "rule": error.rule}
        except SemblanceError as error:
            logger.info("nothing is drawn for a search: %s", error)
            return {"job": None, "reason": _public(error), "rule": None}
        return {"job": job.id, "reason": None, "rule": None}

    def _wish_of(self, collection: str, query: Query) -> Wish:
        encoded = self._services.engine.encode([query], collection)[0]
        if isinstance(encoded, SemblanceError):
            raise encoded
        words = ", ".join(term.content for term in query.terms if isinstance(term.content, str) and term.weight > 0)
        order = Order(words[:2_000], vector=encoded.vector.astype("<f4").tobytes())
        return Wish(order, collection, min(query.k, 20), query.where)

    def _run(self, job: Job, report: Report, cancelled: Callable[[], bool]) -> Mapping[str, Any]:
        assert self.desk is not None  # noqa: S101  registered only with a desk
        wish = Wish.of(job)

        def progress(candidate: GeneratedImage, done: int, total: int) -> bool:
            shown = {"stage": "drawing", "done": done, "total": total, "similarity": round(candidate.similarity or 0.0, 4)}
            report(shown, message=f"candidate {done} of {total}", preview=_data_uri(candidate))
            return not cancelled()

        if cancelled():
            raise JobEnded("the drawing was cancelled")
        try:
            kept = self.desk.draw(self.desk.request(wish.order), progress)
        except GenerationCancelled as error:
            raise JobEnded(str(error)) from None
        except GenerationRefused as error:
            raise JobEnded(str(error), {"rule": error.rule}) from None
        return self._result(wish, kept)

    def _result(self, wish: Wish, kept: KeptDrawing) -> Mapping[str, Any]:
        result: dict[str, Any] = {"synthetic": True, "drawing": kept.as_dict(), "closest": [], "version": None}
        if wish.collection is not None:
            assert self.desk is not None  # noqa: S101
            closest = self.desk.closest(kept, wish.collection, k=wish.k, where=wish.where)
            result |= {"closest": result_as_dict(closest)["hits"], "version": closest.version}
        return result


def _data_uri(candidate: GeneratedImage) -> str:
    small = candidate.image
    small.thumbnail((256, 256))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _public(error: SemblanceError) -> str:
    """Say why nothing is drawn in words that may be shown."""
    if isinstance(error, BudgetSpent | NothingDraws | GenerationRefused):
        return str(error)
    return "the server cannot draw now: ask for it later at /v1/generate"


async def _drawing(request: Request) -> DrawingJobs:
    drawing = request.app.state.drawing
    assert isinstance(drawing, DrawingJobs)  # noqa: S101  set by the lifespan
    return drawing


DrawingDep = Annotated[DrawingJobs, Depends(_drawing)]
