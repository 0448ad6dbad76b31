"""API keys at rest: made, found, listed, revoked. One small file per key in `<data>/_keys/`.

A key is `smb_<id>_<secret>`: the id names its file, the secret is 256 random bits of which only the SHA-256 is stored. (A slow hash
protects guessable passwords; nothing can be guessed here.) A file is written once and never changed, so several processes need no
lock, and a revoked key is refused at the next request. What a key may do with a request is decided in `api.auth`.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from engine.errors import InvalidInput, NotFound, StorageError
from engine.library import NAME

logger = logging.getLogger(__name__)

FOLDER = "_keys"
SCOPES = ("read", "write", "admin")
"""Each scope includes those before it."""

_KEY = re.compile(r"smb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[0-9a-f]{12}")
_FORMAT = 1
_SIGNING = "signing"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; its secret is not. `collections` None admits all; times are ISO 8601 in UTC.

    `rate` is its own limit in requests a second, None for that of the settings.
    """

    id: str
    name: str
    scope: str
    collections: tuple[str, ...] | None
    created: str
    expires: str | None = None
    rate: float | None = None

    def expired(self, now: datetime) -> bool:
        """Say whether its time is over."""
        return self.expires is not None and datetime.fromisoformat(self.expires) <= now

    def covers(self, scope: str) -> bool:
        """Say whether its scope includes `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def admits(self, collection: str | None) -> bool:
        """Say whether it reaches a collection; None stands for what belongs to no collection, which only unlimited keys reach."""
        return self.collections is None or collection in self.collections


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a new key is to be. Raises `InvalidInput` for a scope, collection or number that cannot be."""

    name: str
    scope: str = "read"
    collections: Sequence[str] = ()
    days: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 100 or not self.name.isprintable():
            raise InvalidInput(f"the name {self.name[:100]!r} of a key must be 1 to 100 printable characters: say who uses it")
        if self.scope not in SCOPES:
            raise InvalidInput(f"the scope {self.scope!r} is unknown: use read, write or admin")
        for collection in self.collections:
            if not NAME.fullmatch(collection):
                raise InvalidInput(f"{collection[:80]!r} is no collection name: use 1 to 63 of a-z, 0-9, - and _")
        for what, number in (("days", self.days), ("rate", self.rate)):
            if number is not None and not 0 < number < 1e6:
                raise InvalidInput(f"{what} is {number:g}: give a number above 0")


class KeyRing:
    """The keys of one data folder. Safe to use from several threads and processes."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER
        self._read: dict[str, tuple[tuple[int, int], ApiKey, bytes]] = {}

    def create(self, request: KeyRequest) -> tuple[ApiKey, str]:
        """Make a key; returns it and its text, which is shown this once. Raises `StorageError`."""
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        now = datetime.now(UTC).replace(microsecond=0)
        expires = (now + timedelta(days=request.days)).isoformat() if request.days else None
        collections = tuple(request.collections) or None
        key = ApiKey(id, request.name.strip(), request.scope, collections, now.isoformat(), expires, request.rate)
        self._write(f"{id}.json", orjson.dumps({"format": _FORMAT, **asdict(key), "sha256": _digest(secret).hex()}) + b"\n")
        return key, f"smb_{id}_{secret}"

    def find(self, text: str) -> ApiKey | None:
        """Look up the key with this text; None when it is unknown, revoked or expired. Compares in constant time."""
        form = _KEY.fullmatch(text)
        key, digest = (self._load(form[1]) if form else None) or (None, bytes(32))
        same = hmac.compare_digest(_digest(form[2] if form else ""), digest)
        return key if same and key is not None and not key.expired(datetime.now(UTC)) else None

    def all(self) -> list[ApiKey]:
        """List the keys, the oldest first, expired ones too."""
        found = [self._load(path.stem) for path in self._folder.glob("*.json") if _ID.fullmatch(path.stem)]
        return sorted((entry[0] for entry in found if entry), key=lambda key: (key.created, key.id))

    def revoke(self, id: str) -> ApiKey:
        """Remove a key by its id and return what it was; raises `NotFound`."""
        entry = self._load(id) if _ID.fullmatch(id) else None
        if entry is None:
            raise NotFound(f"no key has the id {id!r}: `semblance keys list` shows them")
        try:
            (self._folder / f"{id}.json").unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"the key {id} cannot be removed ({error.strerror}): check the folder {self._folder}") from None
        return entry[0]

    def signing_secret(self) -> bytes:
        """Return the secret that picture addresses are signed with; made once per data folder. Raises `StorageError`."""
        path = self._folder / _SIGNING
        if not path.exists():
            try:
                self._write(_SIGNING, secrets.token_bytes(32))
            except FileExistsError:
                pass  # another process was faster
        return path.read_bytes()

    def _load(self, id: str) -> tuple[ApiKey, bytes] | None:
        path = self._folder / f"{id}.json"
        try:
            state = path.stat()
            stamp = (state.st_ino, state.st_mtime_ns)
            if (held := self._read.get(id)) is None or held[0] != stamp:
                held = self._read[id] = (stamp, *_parsed(orjson.loads(path.read_bytes())))
        except FileNotFoundError:
            self._read.pop(id, None)
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.error("the key file %s cannot be read (%s): revoke the key and make a new one", path, error)
            return None
        return held[1], held[2]

    def _write(self, name: str, data: bytes) -> None:
        """Write a new file that only this user may read, whole or not at all; raises `FileExistsError`, `StorageError`."""
        partial = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(partial, self._folder / name)  # unlike a rename it never replaces
            finally:
                partial.unlink()
        except OSError as error:
            if isinstance(error, FileExistsError) and (self._folder / name).exists():
                raise
            raise StorageError(f"keys cannot be stored in {self._folder} ({error.strerror}): check its permissions") from None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _parsed(stored: dict[str, Any]) -> tuple[ApiKey, bytes]:
    if stored.pop("format") != _FORMAT:
        raise ValueError("unknown format")
    digest = bytes.fromhex(stored.pop("sha256"))
    collections = stored.pop("collections")
    key = ApiKey(collections=None if collections is None else tuple(collections), **stored)
    key.covers("read")  # an unknown scope is found now
    return key, digest
