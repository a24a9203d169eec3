"""The annotation page's HTML: every value is escaped once, by the environment, whoever wrote it.

Prompts and responses are hostile text by assumption. Nothing here knows which system wrote what. Leaves out
which page is shown when (`cyclealign.annotation.app`).
"""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from cyclealign.annotation.desk import LONGEST_NAME, Progress, ShownPair
from cyclealign.method.comparison_prompt import Verdict
from cyclealign.report.untrusted import for_html

TRY_AGAIN_S = 3
"""How long the page waits before it sends a verdict again that could not be stored."""


def pair(annotator: str, shown: ShownPair, last: ShownPair | None, progress: Progress) -> HTMLResponse:
    """The prompt, the two responses and the three verdicts; `last` is the pair that undoing goes back to."""
    return _page(
        "pair.html.j2",
        annotator=annotator,
        pair_id=shown.pair_id,
        turns=shown.turns,
        texts=(shown.first.text, shown.second.text),
        last_id=last and last.pair_id,
        progress=progress,
    )


def finished(annotator: str, last: ShownPair | None, progress: Progress) -> HTMLResponse:
    """Thanks; without results, which would tell those who still judge what to expect."""
    return _page("finished.html.j2", annotator=annotator, last_id=last and last.pair_id, progress=progress)


def names(status: int = 200, problem: str = "") -> HTMLResponse:
    """Asks who is judging."""
    return _page("names.html.j2", status, problem=problem, longest=LONGEST_NAME)


def entrance(status: int, problem: str = "") -> HTMLResponse:
    """Asks for the token."""
    return _page("entrance.html.j2", status, problem=problem)


def kept(annotator: str, pair_id: str, verdict: Verdict | None, problem: str) -> HTMLResponse:
    """A verdict (None: an undoing) that could not be stored; the page holds it and sends it again."""
    return _page(
        "kept.html.j2", 503, annotator=annotator, pair_id=pair_id, verdict=verdict, problem=problem, seconds=TRY_AGAIN_S
    )


@cache
def asset(name: str) -> str:
    """The text of the page's script or style sheet."""
    return files("cyclealign.annotation").joinpath("templates", name).read_text(encoding="utf-8")


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_environment().get_template(template).render(values), status)


@cache
def _environment() -> Environment:
    def once(value: Any) -> Markup:
        return value if isinstance(value, Markup) else for_html(str(value))

    return Environment(
        loader=PackageLoader("cyclealign.annotation"),
        autoescape=True,
        finalize=once,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
