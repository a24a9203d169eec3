"""Who may use the annotation page, and what browsers are told about it.

Loopback is guarded as for every server here (`cyclealign.loopback.Guard`). Elsewhere a token is asked for once
and remembered in a cookie, because a browser cannot send a bearer token by itself. Traffic is plain HTTP: on a
network that is not trusted, put a proxy with TLS in front. Leaves out the pages.
"""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclealign.annotation import pages
from cyclealign.annotation.forms import form_of
from cyclealign.loopback import Guard

COOKIE = "cyclealign_annotation"
OPEN_PATHS = frozenset({"/annotation.css"})
"""What the page that asks for the token needs itself."""
PROMISES = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",  # going back shows the pair that is next, not one that was judged
    # not no-referrer: browsers would then send the origin "null" with forms, and those are refused
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def guarded(app: ASGIApp, token: str | None = None) -> ASGIApp:
    """The application behind all checks; without a token only this machine is let in."""
    checked = OwnForms(app)
    return Promises(Guard(checked) if token is None else TokenDoor(checked, token))


class Promises:
    """Adds to every answer what the browser must not do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with more headers in the answer."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(PROMISES)
            await send(message)

        await self._app(scope, receive, sending)


class OwnForms:
    """Accepts forms only from the server's own pages, whatever other page the browser has open.

    The origin must be the host that is addressed, port included: another server on this machine is a stranger too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and scope["method"] == "POST" and not _own(Headers(scope=scope)):
            refusal = PlainTextResponse("The form comes from another page. Use this server's own.", 403)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _own(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site", "same-origin")
    authority = urlsplit(headers.get("origin", "")).netloc
    return bool(authority) and authority == headers.get("host") and site == "same-origin"


class TokenDoor:
    """Asks for the token once; a cookie that follows from it opens the pages afterwards."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token
        self._pass = hmac.digest(token.encode(), b"annotation page", "sha256").hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with the page that asks for the token."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif scope["path"] == "/enter" and scope["method"] == "POST":
            await OwnForms(self._enter)(scope, receive, send)
        else:
            await pages.entrance(401)(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            given = (await form_of(Request(scope, receive))).get("token", "")
        except HTTPException as error:
            answer: Response = pages.entrance(error.status_code, error.detail)
        else:
            answer = self._opened() if self._is_token(given) else pages.entrance(401, "That is not the token.")
        await answer(scope, receive, send)

    def _opened(self) -> Response:
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self._pass, httponly=True, samesite="strict")
        return answer

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _knows(self, request: HTTPConnection) -> bool:
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._pass.encode())
