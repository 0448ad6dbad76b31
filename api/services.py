"""What the routes share: one engine, the batcher in front of it, the threads beside it, the order of writes."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from fastapi import Depends, Request

from api.batching import MicroBatcher
from api.fetching import Fetching
from api.importing import KIND, Importer, clear
from api.jobs import Jobs
from api.metrics import Metrics
from api.snapshots import Snapshots
from api.uploads import Uploads
from api.workers import Followers, Workers, WriteOrder
from engine.config import Settings
from engine.search import SearchEngine

THREADS = 8
MAX_WRITERS = 64
MAX_FOLLOWERS = 64


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route may use. Built when the application starts and closed when it stops."""

    engine: SearchEngine
    settings: Settings
    batcher: MicroBatcher
    workers: Workers
    writes: WriteOrder
    fetching: Fetching
    jobs: Jobs
    followers: Followers
    uploads: Uploads
    snapshots: Snapshots
    metrics: Metrics

    @classmethod
    def over(cls, engine: SearchEngine, settings: Settings, metrics: Metrics | None = None) -> Self:
        """Build the services around an engine, with the limits of `settings`."""
        metrics = metrics or Metrics()
        batcher = MicroBatcher(
            engine.search_many,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            deadline_s=settings.deadline_s,
            seen=metrics.see_batch,
        )
        workers = Workers(threads=THREADS, max_queue=settings.max_queue, deadline_s=settings.deadline_s)
        writes = WriteOrder(max_waiting=MAX_WRITERS, deadline_s=settings.deadline_s, folder=_locks(settings))
        jobs, followers = Jobs(settings.data), Followers("followed jobs", most=MAX_FOLLOWERS, share=MAX_FOLLOWERS // 4)
        uploads = Uploads(limit=settings.max_import_bytes, patience_s=settings.deadline_s)
        fetching, snapshots = Fetching(settings), Snapshots(engine)
        return cls(engine, settings, batcher, workers, writes, fetching, jobs, followers, uploads, snapshots, metrics)

    def start(self) -> None:
        """Let jobs run, also those that an earlier process left; blocks while the disk is looked at."""
        clear(self.settings.data, self.jobs)
        self.jobs.register(KIND, Importer(self.settings), max_waiting=self.settings.import_queue)
        self.snapshots.register(self.jobs)

    @property
    def stuck_s(self) -> float:
        """Seconds for which something has been running that should have ended long ago; 0 while all is well.

        A batch of searches may take two deadlines; other work, such as a large write, ten.
        """
        searching, working, deadline = self.batcher.longest_running_s, self.workers.longest_running_s, self.settings.deadline_s
        if searching > 2 * deadline:
            return searching
        return working if working > 10 * deadline else 0.0

    async def close(self) -> None:
        """Answer what is under way, then stop the threads; the engine stays open."""
        self.followers.leave()
        await self.batcher.close(self.settings.deadline_s)
        await asyncio.to_thread(self.jobs.close)
        self.workers.close()
        await self.fetching.close()


def _locks(settings: Settings) -> Path | None:
    """Say where the lock files of writes lie; one process alone needs none."""
    return settings.data / "_locks" if settings.workers > 1 else None


async def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101  set by the lifespan
    return services


ServicesDep = Annotated[Services, Depends(_services)]
