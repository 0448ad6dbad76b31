"""A copy of a collection by another encoder, made beside it and put in its place: blue and green.

The old collection answers and takes writes until the copy has caught up with it; then its name becomes an alias of the copy, in one
step. A process that still runs the old encoder goes on answering from the old collection, and is refused when it writes. Killed at
any point, it is run again: what the copy has already costs no encoding. Run with the encoder of before, it carries what was written
since into the collection of before and goes back to it. How the switch is stored stands in `engine.aliases`.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from engine.aliases import Alias
from engine.collection import Collection
from engine.datatypes import Document
from engine.documents import key_of
from engine.encoders.images import read_bytes
from engine.errors import CollectionNotFound, Conflict, InvalidInput, SemblanceError
from engine.folder import ABOUT, read_about
from engine.ingest import LoadedDocument, Picture, digest_of, encode_documents
from engine.moderation import product_picture
from engine.search import SearchEngine

BATCH = 64
SETTLED = 200  # so few changes are copied while writers wait: seconds at most


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What a copy came to: the collection that the name means now, and the documents that could not be copied, with reasons."""

    collection: str
    documents: int
    lost: dict[str, str]


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a name means again, what it meant until now, and how many documents were changed there since (None: not known)."""

    collection: str
    left: str
    changed: int | None


def reindex(
    engine: SearchEngine, name: str, *, partial: bool = False, progress: Callable[[int, int], None] = lambda *_: None
) -> Reindexed:
    """Copy a collection to the engine's encoder and let its name mean the copy; `progress` is told (documents done, of how many).

    Raises `InvalidInput` when it is by that encoder already, or when documents cannot be copied and `partial` is false, and
    `Conflict` while another collection of before would be forgotten: nothing has been switched then.
    """
    alias, settings = engine.library.aliases.all().get(name, Alias(name)), engine.settings
    with closing(Collection.open(settings.data / alias.collection, settings=settings)) as old:
        if old.fingerprint == engine.encoder.fingerprint:
            raise InvalidInput(f"collection {name!r} is by {engine.encoder.name} ({old.fingerprint}) already: name another encoder")
        # Opened past the library, which refuses writes to what a name meant before.
        with closing(Collection.open(_prepared(engine, name, alias), settings=settings)) as green:
            copy = _Copy(engine, old, green)
            position = copy.everything(progress)
            while (changed := old.changed_keys(position)) is None or len(changed) > SETTLED:
                position = copy.everything(progress) if changed is None else copy.some(changed)
            green.compact()
            with old.unwritten():
                copy.some(old.changed_keys(position) or [])
                if copy.lost and not partial:
                    raise InvalidInput(_left_behind(name, copy.lost))
                engine.library.aliases.point(name, green.name, previous=old.name, since=green.version)
            return Reindexed(green.name, len(green), copy.lost)


def rollback(engine: SearchEngine, name: str) -> RolledBack:
    """Let a name mean again what it meant before `reindex`, from one moment to the next.

    What was written in between stays behind. Raises `CollectionNotFound`.
    """
    alias = engine.library.aliases.all().get(name)
    if alias is None or alias.previous is None:
        raise CollectionNotFound(
            f"{name!r} was not reindexed, or the collection of before was discarded: there is nothing to go back to"
        )
    settings = engine.settings
    with (
        closing(Collection.open(settings.data / alias.previous, settings=settings)) as before,
        closing(Collection.open(settings.data / alias.collection, settings=settings)) as now,
        now.unwritten(),
    ):
        written = None if alias.since is None else now.changed_keys(alias.since)
        engine.library.aliases.point(name, before.name, previous=now.name, since=before.version)
        return RolledBack(before.name, now.name, None if written is None else len(written))


def discard(engine: SearchEngine, name: str) -> str:
    """Remove the collection that a reindexed name meant before; returns its name. Raises `CollectionNotFound` and `Conflict`."""
    found = engine.library.aliases.all().get(name)
    if found is None or found.previous is None:
        raise CollectionNotFound(f"{name!r} has no collection of before: there is nothing to discard")
    previous = found.previous

    def discarded(aliases: dict[str, Alias]) -> None:
        if aliases.get(name) != found:
            raise Conflict(f"{name!r} was switched this very moment: look what it means now, then discard")
        with suppress(CollectionNotFound):  # removed by a run that was killed before it could say so
            Collection.destroy(engine.settings.data / previous)
        aliases[name] = Alias(found.collection)

    engine.library.aliases.change(discarded)
    return previous


def _prepared(engine: SearchEngine, name: str, alias: Alias) -> Path:
    """Find the folder of the copy: the collection of before if it is by this encoder, else one of its own, made if need be."""
    data, fingerprint = engine.settings.data, engine.encoder.fingerprint
    target = green_name(name, fingerprint)
    if alias.previous is not None and (data / alias.previous / ABOUT).exists():
        if read_about(data / alias.previous)["fingerprint"] == fingerprint:
            target = alias.previous
        elif alias.previous != target:
            raise Conflict(
                f"{name!r} still has the collection of before, {alias.previous!r}: go back to it with `semblance reindex {name} "
                f"--rollback`, or remove it with `semblance reindex {name} --discard`, then reindex"
            )
    if not (data / target / ABOUT).exists():
        engine.create(target)
    return data / target


def green_name(name: str, fingerprint: str) -> str:
    """Name the copy of a collection for an encoder: always the same, so that a copy that was broken off is gone on with."""
    return f"{name[:50]}-{hashlib.blake2b(fingerprint.encode(), digest_size=4).hexdigest()}"


class _Copy:
    """Brings `green` to what `old` is; `lost` are the documents that cannot be copied as they are."""

    def __init__(self, engine: SearchEngine, old: Collection, green: Collection) -> None:
        self._engine, self._old, self._green = engine, old, green
        self.lost: dict[str, str] = {}

    def everything(self, progress: Callable[[int, int], None]) -> int:
        """Copy every document and remove what the old collection no longer has; returns the version copied at least."""
        position, total, done = self._old.version, len(self._old), 0
        for ids in _batches(self._old.ids()):
            self._copy([document for document in self._old.get(ids) if document is not None])
            done += len(ids)
            progress(done, total)
        for ids in _batches(self._green.ids()):
            known = self._old.digests(ids)
            self._green.delete([id for id in ids if id not in known])
        return position

    def some(self, keys: Sequence[int]) -> int:
        """Copy what has changed; returns the version copied at least."""
        position = self._old.version
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            found = [document for document in self._old.hydrate(part) if document is not None]
            self._copy(found)
            self._green.delete_keys(sorted(set(part) - {key_of(document.id) for document in found}))
        return position

    def _copy(self, documents: Sequence[Document]) -> None:
        loaded = []
        for document in documents:
            self.lost.pop(document.id, None)
            try:
                loaded += [item for item in [self._load(document)] if item is not None]
            except (SemblanceError, OSError) as error:
                self.lost[document.id] = str(error)
                self._green.delete([document.id])
        if loaded:
            self._green.upsert(encode_documents(self._engine.encoder, self._green, loaded))

    def _load(self, document: Document) -> LoadedDocument | None:
        """Read the pictures that are new to the copy; None when it has the document as it is."""
        stored = [embedding for embedding in self._old.embeddings_of(document.id) if embedding.view == "image"]
        moved = {path: self._moved(path) for path in {*document.images, *(e.location for e in stored if e.location)}}
        document = replace(document, images=tuple(moved[image] for image in document.images))
        digest = digest_of(document, [embedding.content for embedding in stored], self._green.fingerprint)
        if self._green.digests([document.id]).get(document.id) == digest:
            return None
        known = self._green.vectors_of([embedding.content for embedding in stored])
        settings, size, pictures = self._engine.settings, self._engine.encoder.image_size, []
        for embedding in stored:
            location = moved.get(embedding.location or "", "")
            data = b"" if embedding.content in known else read_bytes(location, settings.max_image_bytes)
            image = product_picture(data, size=size, settings=settings) if data else None
            pictures.append(Picture(embedding.content, image, location))
        return LoadedDocument(document, digest, tuple(pictures))

    def _moved(self, location: str) -> str:
        """Give the copy pictures of its own where the old collection keeps them for itself."""
        kept = (self._old.path / "media").resolve()
        if Path(location).parent != kept:
            return location
        target = (self._green.path / "media").resolve() / Path(location).name
        if not target.exists() and Path(location).exists():
            target.parent.mkdir(exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            shutil.copyfile(location, partial)
            os.replace(partial, target)
        return str(target)


def _left_behind(name: str, lost: dict[str, str]) -> str:
    id, reason = next(iter(lost.items()))
    return (
        f"{len(lost)} documents of collection {name!r} cannot be copied, such as {id!r} ({reason}): "
        "mend their pictures and run it again, or leave them behind with --partial; the old collection serves on"
    )


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(ids)
    while batch := list(islice(iterator, BATCH)):
        yield batch
