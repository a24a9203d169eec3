"""The annotation page: its HTML, the handlers of its requests, and the reading of its forms.

A page is a plain form that works without scripts. Prompts and responses are hostile text by assumption: the
environment escapes every value once. Worker threads write verdicts, so that one person's waiting for the ledger
keeps nobody else waiting. Leaves out who may send requests (`entrance`).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from cyclealign.annotation.pairs import LONGEST_NAME, PairQueue, ResponsePair, clean_name
from cyclealign.errors import LedgerError, UsageError
from cyclealign.method.comparison_prompt import VERDICTS, Verdict
from cyclealign.report.untrusted import for_html

LOGGER = logging.getLogger("cyclealign.annotation")
TRY_AGAIN_S = 3
"""How long the page waits before it sends a verdict again that could not be stored."""
LONGEST_FORM = 4096
"""Bytes; a verdict has some two hundred."""


def annotation_app(queue: PairQueue, annotator: str | None = None) -> Starlette:
    """The application; put `entrance.guarded` around it before anybody can reach it.

    `annotator` is the only one who judges here; where it is None, the page asks for a name.
    """
    page = _Handlers(queue, annotator)
    return Starlette(
        routes=[
            Route("/", page.start),
            Route("/pairs", page.pairs, name="pairs"),
            Route("/verdict", page.judge, methods=["POST"]),
            Route("/undo", page.undo, methods=["POST"]),
            Route("/annotation.css", _asset("annotation.css", "text/css")),
            Route("/annotation.js", _asset("annotation.js", "text/javascript")),
        ]
    )


def _asset(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    text = files("cyclealign.annotation").joinpath("templates", name).read_text(encoding="utf-8")

    async def answer(_: Request) -> Response:
        return Response(text, media_type=media_type)

    return answer


class _Handlers:
    def __init__(self, queue: PairQueue, annotator: str | None) -> None:
        self._queue, self._annotator = queue, annotator

    async def start(self, _: Request) -> Response:
        """`GET /`: asks for a name, or goes on to the pairs where the name is settled."""
        return _names() if self._annotator is None else RedirectResponse("/pairs", 303)

    async def pairs(self, request: Request) -> Response:
        """`GET /pairs`: the first pair that the annotator has not judged.

        At the end it says thanks, without results, which would tell those who still judge what to expect.
        """
        try:
            annotator = self._name(request.query_params.get("annotator", ""))
        except UsageError as error:
            return _names(400, str(error))
        shown, last = self._queue.next_pair(annotator), self._queue.last_pair(annotator)
        values = {"annotator": annotator, "last_id": last and last.id_for(annotator), "total": len(self._queue)}
        if shown is None:
            return html_page("finished.html.j2", values)
        texts = [response.text for response in shown.responses]
        values |= {"judged": self._queue.judged(annotator), "pair_id": shown.id_for(annotator)}
        return html_page("pair.html.j2", {**values, "turns": shown.turns, "texts": texts})

    async def judge(self, request: Request) -> Response:
        """`POST /verdict`: stores a verdict and goes on."""
        form = await form_of(request)
        annotator, shown = self._addressed(form)
        verdict = next((known for known in VERDICTS if known == form.get("verdict")), None)
        if verdict is None:
            raise HTTPException(400, f"Expected a verdict: {', '.join(VERDICTS)}.")
        return await self._stored(request, annotator, shown, verdict)

    async def undo(self, request: Request) -> Response:
        """`POST /undo`: forgets the verdict on the pair that the form names, which then comes up again."""
        annotator, shown = self._addressed(await form_of(request))
        return await self._stored(request, annotator, shown, None)

    def _addressed(self, form: dict[str, str]) -> tuple[str, ResponsePair]:
        """The annotator and the pair that a form is about."""
        try:
            annotator = self._name(form.get("annotator", ""))
        except UsageError as error:
            raise HTTPException(400, str(error)) from None
        shown = self._queue.find(annotator, form.get("pair", ""))
        if shown is None:
            raise HTTPException(404, "The pair is not one of this page's. Go back to the start.")
        return annotator, shown

    def _name(self, given: str) -> str:
        return clean_name(given) if self._annotator is None else self._annotator

    async def _stored(self, request: Request, annotator: str, shown: ResponsePair, verdict: Verdict | None) -> Response:
        """Stores a verdict (None: an undoing) and goes on; a busy ledger leaves it on a page that sends it again."""
        try:
            if verdict is None:
                await run_in_threadpool(self._queue.withdraw, annotator, shown)
            else:
                await run_in_threadpool(self._queue.judge, annotator, shown, verdict)
        except LedgerError as error:
            # The error names processes and paths: it is for the person who started the page, not for annotators.
            LOGGER.warning("A verdict waits on its page: %s", error)
            problem = "The ledger cannot be written. Whoever started this page can read why in their terminal."
            kept = {"annotator": annotator, "pair_id": shown.id_for(annotator), "verdict": verdict}
            return html_page("kept.html.j2", {**kept, "problem": problem, "seconds": TRY_AGAIN_S}, 503)
        # By a redirect, so that reloading sends nothing twice.
        target = request.url_for("pairs").include_query_params(annotator=annotator)
        return RedirectResponse(f"{target.path}?{target.query}", 303)


def _names(status: int = 200, problem: str = "") -> HTMLResponse:
    """Asks for the annotator's name."""
    return html_page("names.html.j2", {"problem": problem, "longest": LONGEST_NAME}, status)


def html_page(template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """A template filled in; nothing that it gets here tells which system wrote what."""
    return HTMLResponse(_environment().get_template(template).render(values), status)


@cache
def _environment() -> Environment:
    def once(value: Any) -> Markup:
        return value if isinstance(value, Markup) else for_html(str(value))

    return Environment(
        loader=PackageLoader("cyclealign.annotation"), autoescape=True, finalize=once, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a URL-encoded form, of which it reads no more than ours can have; of two with one name the later.

    Starlette's own parser would need one more package, for files that nobody sends here.

    Raises:
        HTTPException: the form is longer than any of ours, or not readable.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise HTTPException(413, "The form is too long.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError:
        problem = "The form cannot be read."
    raise HTTPException(400, problem)
