"""Who may do what: which scope a request needs, and the check that the key it came with has it.

    read     search, embed, show products and pictures
    write    add, change and remove products; imports
    admin    make and drop collections, say what an alias means, and whatever concerns snapshots: one holds a whole collection

Keys are asked for when other machines can reach the server (`keys_required`), before anything of the body is read. What is
public is listed; every other address needs a key, new ones too. How keys are stored is in `api.keys`.
"""

import logging
import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import problem
from api.keys import ApiKey, KeyRing
from api.limits import LOOPBACK_NAMES, is_loopback
from api.passes import PARAMETER, PicturePasses, sign_answers_with
from engine.config import Settings
from engine.errors import StorageError

logger = logging.getLogger(__name__)

KEY = "semblance.key"

_PUBLIC = frozenset({"/", "/admin", "/docs", "/favicon.ico", "/openapi.json", "/healthz", "/readyz"})
_COLLECTION = re.compile(r"/v1/collections/([^/]+)(/.*)?", re.DOTALL)
_ADMINISTERED = re.compile(r"/v1/collections/[^/]+(/restore|/snapshots(/.*)?)|/v1/aliases/.*", re.DOTALL)
_JOB = re.compile(r"/v1/jobs(/.*)?", re.DOTALL)
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_READ_POSTS = re.compile(r"/v1/embeddings|/v1/generate|/v1/collections/[^/]+/search(/[a-z]+)?")
_ANY_COLLECTION = frozenset({"/v1/collections", "/v1/embeddings", "/v1/generate", "/v1/models"})
_DRAWING = re.compile(r"/v1/drawings/[0-9a-f]{32}/image")  # an id that nobody guesses
_PICTURE = re.compile(r"/v1/collections/[^/]+/documents/.+/image|" + _DRAWING.pattern, re.DOTALL)
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="semblance"'}


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs: a scope, and a collection if it is about one. `anywhere`: any key of that scope will do."""

    scope: str
    collection: str | None = None
    anywhere: bool = False


def need_of(method: str, path: str) -> Need | None:
    """Say what a request to a decoded path needs; None when it is open to everybody."""
    if path in _PUBLIC or path.startswith("/static/"):
        return None
    if _JOB.fullmatch(path):
        return Need("read", None, True)  # which jobs a key reaches, and may cancel, is decided where they are read
    found = _COLLECTION.fullmatch(path)
    collection, rest = (found[1], found[2] or "") if found else (None, "")
    if _ADMINISTERED.fullmatch(path):
        scope = "admin"
    elif method in READ_METHODS or (method == "POST" and _READ_POSTS.fullmatch(path)):
        scope = "read"
    else:
        scope = "admin" if collection is not None and not rest else "write"
    return Need(scope, collection, path in _ANY_COLLECTION or bool(_DRAWING.fullmatch(path)))


def keys_required(settings: Settings) -> bool:
    """Say whether requests need keys: by default as soon as the server answers to more than this machine."""
    if settings.api_keys != "auto":
        return settings.api_keys == "on"
    return not is_loopback(settings.host) or not set(settings.allowed_hosts) <= set(LOOPBACK_NAMES)


def key_of(scope: Scope) -> ApiKey | None:
    """Return the key a request came with; None where keys are not asked for."""
    key = scope.get(KEY)
    return key if isinstance(key, ApiKey) else None


def owner_of(scope: Scope) -> str:
    """Return the id of the key a request came with; empty where keys are not asked for."""
    key = key_of(scope)
    return "" if key is None else key.id


class KeyCheck:
    """Lets a request pass that needs no key, or brings one that may do what it asks for."""

    def __init__(self, app: ASGIApp, *, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys
        self._passes: PicturePasses | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        need = need_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if need is None or self._shows_pass(scope):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, need)
        if refusal is not None:
            status, kind, detail = refusal
            answer = problem(scope, status, detail, kind=kind, headers=_CHALLENGE if status == 401 else None)
            await answer(scope, receive, send)
            return
        if passes := self._signer():
            sign_answers_with(passes)
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, need: Need) -> tuple[int, str, str] | None:
        """Check the key and remember it in `scope`; returns status, kind and detail when it does not do."""
        text = _given(Headers(scope=scope))
        if text is None:
            return 401, "KeyRequired", _KEY_REQUIRED
        key = self._keys.find(text)
        if key is None:
            return 401, "KeyUnknown", _KEY_UNKNOWN
        scope[KEY] = key
        if not key.covers(need.scope):
            detail = f"The key {key.name!r} has the scope {key.scope}, this needs {need.scope}: use another key."
            return 403, "KeyNotAllowed", detail
        if not (need.anywhere or key.admits(need.collection)):
            reach = ", ".join(key.collections or ())
            what = "this" if need.collection is None else f"the collection {need.collection[:80]!r}"
            return 403, "KeyNotAllowed", f"The key {key.name!r} reaches only {reach}, not {what}: use another key."
        return None

    def _shows_pass(self, scope: Scope) -> bool:
        """Say whether this is a picture asked for by an address that one of our answers gave."""
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get(PARAMETER, [""])[0]
        if not given or scope["method"] not in ("GET", "HEAD") or not _PICTURE.fullmatch(scope["path"]):
            return False
        if not (scope.get("raw_path") or b"/image").endswith(b"/image"):
            return False  # a product whose id ends in /image, not a picture
        passes = self._signer()
        return passes is not None and passes.accepts(scope["path"], given)

    def _signer(self) -> PicturePasses | None:
        if self._passes is None:
            try:
                self._passes = PicturePasses(self._keys.signing_secret())
            except (StorageError, OSError) as error:
                logger.error("addresses of pictures cannot be signed: %s", error)
        return self._passes


def _given(headers: Headers) -> str | None:
    """Take the key out of `Authorization: Bearer` or `X-API-Key`."""
    kind, _, text = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and text.strip():
        return text.strip()
    return headers.get("x-api-key", "").strip() or None


_KEY_REQUIRED = (
    "This server asks for a key: send it as `Authorization: Bearer smb_...` or `X-API-Key: smb_...`. "
    "Its operator makes one with `semblance keys create NAME`."
)
_KEY_UNKNOWN = "The key is not known here, was revoked or has expired: check it, or ask the operator for a new one."
