"""Puts an offline judge behind the chat-completions protocol: an ASGI application.

The black box calls the application in-process; `cyclealign judge` offers the same to any client over HTTP. Errors have
OpenAI's format. Answering is computation, so it happens one request at a time in a worker thread while the
event loop stays free. Leaves out who is let in (`cyclealign.loopback`).
"""

import json

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cyclealign.loopback import error_response
from cyclealign.offline.chat_messages import ChatAnswers, RequestUnreadable


def create_app(judge: ChatAnswers, model_name: str) -> Starlette:
    """An application that answers `POST /v1/chat/completions` and `GET /v1/models`.

    `app.state.model` is the model name that it answers to, `app.state.identity` that of the judge.
    """
    one_at_a_time = CapacityLimiter(1)

    async def complete(request: Request) -> JSONResponse:
        try:
            body = json.loads(await request.body())
        except ValueError:
            return error_response(400, "The body is not JSON, expected a chat-completions request.", "invalid_json")
        if not isinstance(body, dict):
            return error_response(400, f"The body is {type(body).__name__}, expected an object.", "invalid_json")
        if body.get("model") != model_name:
            message = f"The model {body.get('model')!r} does not exist here, expected {model_name!r}."
            return error_response(404, message, "model_not_found")
        try:
            answer = await anyio.to_thread.run_sync(judge.answer, body, limiter=one_at_a_time)
        except RequestUnreadable as error:
            return error_response(400, str(error), "unreadable_request")
        return JSONResponse(answer)

    async def models(_: Request) -> JSONResponse:
        entry = {"id": model_name, "object": "model", "created": 0, "owned_by": "cyclealign"}
        return JSONResponse({"object": "list", "data": [entry]})

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", models)])
    app.state.model = model_name
    app.state.identity = judge.identity
    return app
