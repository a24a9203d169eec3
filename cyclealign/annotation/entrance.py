"""Who may use the annotation page, and what browsers must not do with it.

Loopback is guarded as for every server here (`cyclealign.loopback.Guard`). Elsewhere the page asks for a token once
and remembers it in a cookie, because a browser cannot send a bearer token by itself. Traffic is plain HTTP: on a
network that is not trusted, put a proxy with TLS in front.
"""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclealign.annotation.page import form_of, html_page
from cyclealign.loopback import Guard

COOKIE = "cyclealign_annotation"
OPEN_PATHS = frozenset({"/annotation.css"})
"""Needed by the page that asks for the token."""
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
    """The application behind all checks, with promises to the browser; without a token for this machine alone."""
    checked = _own_forms(app)
    inside = Guard(checked) if token is None else TokenDoor(checked, token)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(PROMISES)
            await send(message)

        await inside(scope, receive, sending)

    return answer


def _own_forms(app: ASGIApp) -> ASGIApp:
    """Accepts forms only from the server's own pages, whatever other page the browser has open.

    The origin must be the host that is addressed, port included: another server on this machine is a stranger too.
    """

    refusal = PlainTextResponse("The form comes from another page. Use this server's own.", 403)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_form = scope["type"] == "http" and scope["method"] == "POST"
        await (refusal if is_form and not _own(Headers(scope=scope)) else app)(scope, receive, send)

    return answer


def _own(headers: Headers) -> bool:
    authority = urlsplit(headers.get("origin", "")).netloc
    same_site = headers.get("sec-fetch-site", "same-origin") == "same-origin"
    return bool(authority) and authority == headers.get("host") and same_site


class TokenDoor:
    """Asks for the token once; a cookie that follows from it opens the pages afterwards."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._enter = _own_forms(self._entering)
        self._token = token
        self._pass = hmac.digest(token.encode(), b"annotation page", "sha256").hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with the page that asks for the token."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif scope["path"] == "/enter" and scope["method"] == "POST":
            await self._enter(scope, receive, send)
        else:
            await _ask_token(401, "")(scope, receive, send)

    async def _entering(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            given = (await form_of(Request(scope, receive))).get("token", "")
        except HTTPException as error:
            await _ask_token(error.status_code, error.detail)(scope, receive, send)
            return
        answer: Response = _ask_token(401, "That is not the token.")
        if hmac.compare_digest(given.encode(), self._token.encode()):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self._pass, httponly=True, samesite="strict")
        await answer(scope, receive, send)

    def _knows(self, request: HTTPConnection) -> bool:
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._pass.encode())


def _ask_token(status: int, problem: str) -> Response:
    return html_page("entrance.html.j2", {"problem": problem}, status)
