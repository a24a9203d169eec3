"""Doctor's look at the endpoints that a profile pays: address, key, model, price, cap. Asks only what costs nothing."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.prices import Prices
from cyclealign.errors import CallFailed, CycleAlignError, EndpointRefused
from cyclealign.settings import BlackBoxSettings, Settings
from tasks.context import home_folder
from tasks.findings import Finding, listens

TIMEOUT_S = 10.0
NAMES_SHOWN = 5


def look_at_endpoints(settings: Settings) -> Iterator[Finding]:
    """The black box, and the pairwise judge where it has an endpoint of its own."""
    if settings.black_box.endpoint == "api":
        yield from _endpoint("black box", settings.black_box)
    else:
        judge = settings.black_box.endpoint
        yield Finding("black box", f"offline judge ({judge}), costs nothing")
    pairwise = settings.evaluation.judge.endpoint
    if pairwise is not None and pairwise.endpoint == "api":
        yield from _endpoint("pairwise judge", pairwise)
    yield from _sampling_server(settings)


def _endpoint(who: str, settings: BlackBoxSettings) -> Iterator[Finding]:
    there = listens(who, settings.base_url)
    yield there
    yield from _key(who, settings, ask=not there.bad)
    yield from _price(who, settings)


def _sampling_server(settings: Settings) -> Iterator[Finding]:
    """The vLLM server, where the cycle or the evaluation samples there: whether it answers, and with which model."""
    from tasks.cycle.sampling_server import served_model  # noqa: PLC0415  slow to import

    white_box = settings.white_box
    if "vllm" not in (white_box.sampling.engine, settings.evaluation.sampling.engine):
        return
    soon = white_box.vllm.model_copy(update={"timeout_s": TIMEOUT_S})
    try:
        model = served_model(white_box.model_copy(update={"vllm": soon}), home_folder())
    except CycleAlignError as error:
        yield Finding("vLLM server", f"{white_box.vllm.base_url} cannot be used", True, str(error))
        return
    yield Finding("vLLM server", f"{white_box.vllm.base_url} serves {model}")


def _key(who: str, settings: BlackBoxSettings, *, ask: bool) -> Iterator[Finding]:
    """Whether there is a key, whether the endpoint takes it, whether it lists the model."""
    what, variable = f"{who}, key", settings.api_key_env
    try:
        endpoint = ChatEndpoint(settings.model_copy(update={"timeout_s": TIMEOUT_S}))
        endpoint.require_key()
    except CycleAlignError as error:
        yield Finding(what, f"{variable} cannot be used", True, str(error))
        return
    if not ask:
        yield Finding(what, f"{variable} is set, or none is needed; not tried")
        return
    try:
        models = asyncio.run(_models(endpoint))
    except CycleAlignError as error:
        yield _failed(what, variable, error)
        return
    if not models:
        yield Finding(what, "cannot be tried without a paid call: the endpoint lists no models")
        return
    yield Finding(what, "the endpoint takes it")
    yield _listed(who, settings.model, models)


def _failed(what: str, variable: str, error: CycleAlignError) -> Finding:
    """Only a refusal of the key itself or an empty account says that no call would get through."""
    status = error.http_status if isinstance(error, CallFailed | EndpointRefused) else None
    if isinstance(error, EndpointRefused) and error.kind == "quota":
        return Finding(what, f"the account of {variable} has no quota left", True, "Add credit or raise its limit.")
    if status == HTTPStatus.UNAUTHORIZED:
        return Finding(what, "the endpoint refuses the key (HTTP 401)", True, f"Put a valid one into {variable}.")
    why = f"HTTP {status}" if status else str(error)
    return Finding(what, f"{variable} is set, but could not be tried", todo=f"The list of models failed: {why}.")


def _listed(who: str, model: str, models: list[str]) -> Finding:
    """A list need not be whole: aliases and deployments may be missing from it."""
    if model in models or f"models/{model}" in models:
        return Finding(f"{who}, model", model)
    others = ", ".join(sorted(models)[:NAMES_SHOWN]) + (", …" if len(models) > NAMES_SHOWN else "")
    todo = f"It lists {len(models)}: {others}. Check the name, and whether the key may use it."
    return Finding(f"{who}, model", f"{model} is not listed by the endpoint", todo=todo)


async def _models(endpoint: ChatEndpoint) -> list[str] | None:
    try:
        return await endpoint.models()
    finally:
        await endpoint.close()


def _price(who: str, settings: BlackBoxSettings) -> Iterator[Finding]:
    try:
        Prices(settings).require_price()
    except CycleAlignError as error:
        yield Finding(f"{who}, price", settings.model, True, str(error))
        return
    cap = settings.budget_usd
    yield Finding(
        f"{who}, cap",
        "none" if cap is None else f"${cap:.2f}",
        False,
        "Set a cap: --set black_box.budget_usd=10 (a judge's own: evaluation.judge.endpoint.budget_usd)."
        if cap is None
        else "",
    )
