"""Who works through the shards of a catalogue.

A runner decides only where the work is called. What the work does is in `indexer.pipeline`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from indexer.shard import ShardReport, ShardSpec


class Runner(Protocol):
    """Calls the work once for each shard and hands back every report; a failure is raised, never dropped."""

    def run(self, work: Callable[[ShardSpec], ShardReport], shards: Iterable[ShardSpec]) -> Iterator[ShardReport]:
        """Yield one report a shard, as they are done."""


class LocalRunner:
    """Works through the shards one after the other in this process; the threads are inside the work."""

    def run(self, work: Callable[[ShardSpec], ShardReport], shards: Iterable[ShardSpec]) -> Iterator[ShardReport]:
        """Yield one report a shard, in order."""
        for shard in shards:
            yield work(shard)
