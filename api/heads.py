"""HEAD: the headers that GET would answer, without the body. Probes, caches and previews of links ask for them first."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ENDLESS = "/events"


class HeadAsGet:
    """Runs a HEAD request as the GET it stands for, and keeps the body back; never for an answer that goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith(_ENDLESS):
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send_without_body)
        finally:
            scope["route"] = asked.get("route")  # the router wrote it into the copy; the counters read it
