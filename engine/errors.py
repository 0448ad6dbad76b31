"""Every error the engine raises on purpose.

    SemblanceError                  anything below
    ├── ConfigurationError          a setting is unknown, malformed or contradicts another
    ├── MissingExtra                an optional package is needed; the message is the install line
    ├── BundleError                 a model bundle is missing, altered or of another format
    ├── ModelError                  a hub or local checkpoint cannot be loaded
    ├── InvalidInput                the caller gave something that can never work
    │   ├── InvalidDocument         a document breaks a rule
    │   ├── InvalidQuery            a query breaks a rule
    │   ├── InvalidFilter           a filter expression does not parse; `column` points at the place
    │   ├── InvalidImage            bytes that are not a picture we accept; `reason` is a stable word
    │   ├── GenerationRefused       safety does not draw what is asked for; `rule` names the rule
    │   ├── InvalidAudio            bytes that are no speech we can hear; `reason` is a stable word
    │   └── InvalidCatalogue        a feed cannot be read at all: missing, empty, or without an id column
    ├── NotFound                    the thing named does not exist
    │   ├── CollectionNotFound
    │   └── DocumentNotFound
    ├── Conflict                    the request does not fit the present state
    │   ├── CollectionExists
    │   ├── EncoderMismatch         vectors of one encoder, queries of another
    │   └── KeyCollision            two ids hash to one key
    ├── GenerationCancelled         whoever asked for a drawing no longer wants it
    ├── FetchError                  a remote picture could not be fetched within the rules
    ├── StorageError                the disk or the database refused
    │   ├── CollectionBusy          another writer held the lock for longer than the timeout
    │   └── CollectionCorrupt       stored data fails its digest or has an unknown format
    └── Unavailable                 the service cannot take this request now
        ├── Overloaded              the queue is full; try again
        └── DeadlineExceeded        it took longer than the caller allowed

A message states the fact, the value seen and the remedy, and may be shown to the caller as it is.
"""

from functools import partial


class SemblanceError(Exception):
    """Anything the engine raises on purpose."""


class ConfigurationError(SemblanceError):
    """A setting is unknown, malformed or contradicts another."""


class MissingExtra(SemblanceError):
    """An optional package is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'semblance[{extra}]'")
        self.extra = extra


class BundleError(SemblanceError):
    """A model bundle is missing, altered or of another format."""


class ModelError(SemblanceError):
    """A hub or local checkpoint cannot be loaded."""


class InvalidInput(SemblanceError):
    """The caller gave something that can never work."""


class InvalidDocument(InvalidInput):
    """A document breaks a rule."""


class InvalidQuery(InvalidInput):
    """A query breaks a rule."""


class InvalidFilter(InvalidInput):
    """A filter expression does not parse or compares what cannot be compared."""

    def __init__(self, message: str, *, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


class InvalidImage(InvalidInput):
    """Bytes that are not a picture we accept.

    `reason` is one of: missing, empty, not_an_image, truncated, too_many_pixels, too_large, unsupported, synthetic, explicit.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class GenerationRefused(InvalidInput):
    """Safety does not draw what is asked for; `rule` names the rule."""

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the rule when the refusal travels between processes."""
        return partial(type(self), rule=self.rule), self.args


class GenerationCancelled(SemblanceError):
    """Whoever asked for a drawing no longer wants it."""


class InvalidAudio(InvalidInput):
    """Bytes that are no speech we can hear.

    `reason` is one of: empty, not_audio, too_long, silence, no_words.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidCatalogue(InvalidInput):
    """A feed cannot be read at all: missing, empty, or without an id column."""


class NotFound(SemblanceError):
    """The thing named does not exist."""


class CollectionNotFound(NotFound):
    """No collection has that name."""


class DocumentNotFound(NotFound):
    """The collection holds no document with that id."""


class Conflict(SemblanceError):
    """The request does not fit the present state."""


class CollectionExists(Conflict):
    """A collection of that name exists already."""


class EncoderMismatch(Conflict):
    """The collection was built by another encoder than the one in use."""


class KeyCollision(Conflict):
    """Two document ids hash to the same 63-bit key."""


class FetchError(SemblanceError):
    """A remote picture could not be fetched within the rules."""


class StorageError(SemblanceError):
    """The disk or the database refused."""


class CollectionBusy(StorageError):
    """Another writer held the lock for longer than the busy timeout."""


class CollectionCorrupt(StorageError):
    """Stored data fails its digest or has an unknown format."""


class Unavailable(SemblanceError):
    """The service cannot take this request now."""


class Overloaded(Unavailable):
    """The queue is full."""


class DeadlineExceeded(Unavailable):
    """The request took longer than its deadline."""
