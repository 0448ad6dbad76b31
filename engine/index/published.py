"""The segments in force: which they are, and which of their documents are still alive.

The newest segment names the ones before it and what has died in them, so one number and one digest, in `CURRENT`, stand for all.
How a newer state is made is decided in `engine.index.merging` and done in `engine.index.compaction`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pyroaring import BitMap

from engine.index.attributes import bitmap_of
from engine.index.segment import Older, Segment, SegmentDamaged, read_links
from engine.index.tuning import Tuning, read_tuning


@dataclass(frozen=True)
class Published:
    """Every document alive at change-log position `version` is alive in exactly one of `segments`, the newest of which is last."""

    version: int
    segments: tuple[Segment, ...]
    dead: tuple[BitMap, ...]
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def numbers(self) -> set[int]:
        """The folders it consists of."""
        return {segment.number for segment in self.segments}

    @property
    def unverified(self) -> bool:
        """Whether files are left for `verify`."""
        return any(segment.unverified for segment in self.segments)

    def verify(self) -> None:
        """Digest what was too large for opening; raises `SegmentDamaged`, or `FileNotFoundError` when it was superseded."""
        for segment in self.segments:
            segment.verify()


def open_published(folder: Path, name: tuple[int, str], *, threads: int, held: Published | None = None) -> Published:
    """Open the newest segment, known by number and digest, and those it names; raises `SegmentDamaged`.

    Segments that `held` has open already are taken from there.
    """
    known = {(segment.number, segment.digest): segment for segment in held.segments} if held else {}
    newest = _opened(folder, name, known, threads)
    older = [_opened(folder, (link.number, link.digest), known, threads) for link in newest.older]
    dead = (*(link.dead for link in newest.older), BitMap())
    return Published(newest.version, (*older, newest), dead, read_tuning(folder.parent))


def open_surviving(folder: Path, name: tuple[int, str], *, threads: int) -> tuple[Published, bool]:
    """Open what is whole, each file read and digested, and tell whether that is everything; raises `SegmentDamaged`.

    The manifest of the newest must be whole: without it nobody knows what has died in the others.
    """
    version, older = read_links(folder / str(name[0]), name[1])
    links = (*older, Older(name[0], name[1], BitMap()))
    whole: list[tuple[Segment, BitMap]] = []
    for link in links:
        try:
            segment = _opened(folder, (link.number, link.digest), {}, threads)
            segment.verify()
            whole.append((segment, link.dead))
        except (SegmentDamaged, FileNotFoundError):
            continue
    segments, dead = tuple(segment for segment, _ in whole), tuple(dead for _, dead in whole)
    return Published(version, segments, dead), len(whole) == len(links)


def _opened(folder: Path, name: tuple[int, str], known: Mapping[tuple[int, str], Segment], threads: int) -> Segment:
    found = known.get(name)
    return Segment.open(folder / str(name[0]), name[1], threads=threads) if found is None else found


def places_of(keys: np.ndarray, wanted: np.ndarray) -> BitMap:
    """Find where `wanted` keys stand among `keys`, both ascending."""
    if not len(keys) or not len(wanted):
        return BitMap()
    places = np.searchsorted(keys, wanted)
    return bitmap_of(places[(places < len(keys)) & (np.take(keys, places, mode="clip") == wanted)])
