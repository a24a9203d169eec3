"""Answers the requests of the annotation page; who may send them is decided before (`entrance`).

A page is a plain form that works without scripts. Verdicts are written in worker threads, so that one person's
waiting for the ledger keeps nobody else waiting.
"""

import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cyclealign.annotation import pages
from cyclealign.annotation.desk import Desk, ShownPair, clean_name
from cyclealign.annotation.forms import form_of
from cyclealign.errors import LedgerError, LedgerLocked, UsageError
from cyclealign.method.comparison_prompt import VERDICTS

LOGGER = logging.getLogger("cyclealign.annotation")


class AnnotationPage:
    """The handlers of one desk.

    Args:
        desk: What there is to judge.
        annotator: The only one who judges here; None: whoever comes gives a name.
    """

    def __init__(self, desk: Desk, annotator: str | None = None) -> None:
        self._desk = desk
        self._annotator = annotator

    async def start(self, _: Request) -> Response:
        """`GET /`: asks for a name, or goes on to the pairs where the name is settled."""
        return pages.names() if self._annotator is None else RedirectResponse("/pairs", 303)

    async def pairs(self, request: Request) -> Response:
        """`GET /pairs`: the first pair that the annotator has not judged."""
        try:
            annotator = self._name(request.query_params.get("annotator", ""))
        except UsageError as error:
            return pages.names(400, str(error))
        shown, last = self._desk.next_pair(annotator), self._desk.last_pair(annotator)
        progress = self._desk.progress(annotator)
        if shown is None:
            return pages.finished(annotator, last, progress)
        return pages.pair(annotator, shown, last, progress)

    async def judge(self, request: Request) -> Response:
        """`POST /verdict`: stores a verdict and goes on; a busy ledger leaves it on the page."""
        form = await form_of(request)
        annotator, shown = self._addressed(form)
        verdict = next((known for known in VERDICTS if known == form.get("verdict")), None)
        if verdict is None:
            raise HTTPException(400, f"Expected a verdict: {', '.join(VERDICTS)}.")
        try:
            await run_in_threadpool(self._desk.judge, annotator, shown, verdict)
        except LedgerError as error:
            return pages.kept(annotator, shown.pair_id, verdict, _told(error))
        return self._onward(request, annotator)

    async def undo(self, request: Request) -> Response:
        """`POST /undo`: forgets the verdict on the pair that the form names, which then comes up again."""
        annotator, shown = self._addressed(await form_of(request))
        try:
            await run_in_threadpool(self._desk.withdraw, annotator, shown)
        except LedgerError as error:
            return pages.kept(annotator, shown.pair_id, None, _told(error))
        return self._onward(request, annotator)

    def _addressed(self, form: dict[str, str]) -> tuple[str, ShownPair]:
        """The annotator and the pair that a form is about."""
        try:
            annotator = self._name(form.get("annotator", ""))
        except UsageError as error:
            raise HTTPException(400, str(error)) from None
        shown = self._desk.find(annotator, form.get("pair", ""))
        if shown is None:
            raise HTTPException(404, "The pair is not one of this page's. Go back to the start.")
        return annotator, shown

    def _name(self, given: str) -> str:
        return clean_name(given) if self._annotator is None else self._annotator

    def _onward(self, request: Request, annotator: str) -> Response:
        """To the next pair by a redirect, so that reloading sends nothing twice."""
        target = request.url_for("pairs").include_query_params(annotator=annotator)
        return RedirectResponse(f"{target.path}?{target.query}", 303)


def _told(error: LedgerError) -> str:
    """What an annotator is told; the error itself names processes and paths and is for whoever started the page."""
    LOGGER.warning("A verdict waits on its page: %s", error)
    if isinstance(error, LedgerLocked):
        return "The ledger is busy."
    return "The ledger cannot be written. Whoever started this page can read why in their terminal."


def annotation_app(desk: Desk, annotator: str | None = None) -> Starlette:
    """The application; put `entrance.guarded` around it before anybody can reach it."""
    page = AnnotationPage(desk, annotator)
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
    async def answer(_: Request) -> Response:
        return Response(pages.asset(name), media_type=media_type)

    return answer
