"""Reads the small forms of the annotation page, and no more of a request than such a form can have."""

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

LONGEST = 4096
"""Bytes; a verdict has some two hundred."""


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a URL-encoded form; of two with one name the later counts.

    Starlette's own parser would need one more package, for files that nobody sends here.

    Raises:
        HTTPException: the form is longer than any of ours, or not readable.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST:
            raise HTTPException(413, "The form is too long.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError:
        problem = "The form cannot be read."
    raise HTTPException(400, problem)
