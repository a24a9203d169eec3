"""Is everything that a profile needs in order, and what to do where it is not.

Spends nothing, changes nothing and loads no model; it asks an endpoint for the list of its models at most, and a hub
for a connection.
"""

import asyncio
import importlib.util
import json
import math
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from cyclealign.black_box.capabilities import parameters_for
from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.prices import Prices
from cyclealign.data.hh_rlhf import DialogueFolder
from cyclealign.errors import CallFailed, CycleAlignError, EndpointRefused, UsageError
from cyclealign.extras import require_quantization
from cyclealign.model_sizes import HUB_REWARD_MODELS, parameter_count
from cyclealign.settings import BlackBoxSettings, Settings
from storage import runs
from storage.calls import probed
from storage.file_systems import require_local
from storage.ledger import Ledger
from tasks.context import home_folder
from tasks.machine import PACKAGES

CPU_IS_ENOUGH = 500e6
"""Parameters; twice as many still work, at minutes per prompt."""
TIMEOUT_S = 10.0
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """The state of one thing, and the remedy when it is bad or might be."""

    what: str
    found: str
    bad: bool = False
    todo: str = ""

    def line(self) -> str:
        """`ok   python: 3.11.7`; or `BAD  key: …`, or `note cap: …`, and below it what to do."""
        mark = "BAD " if self.bad else "note" if self.todo else "ok  "
        return f"{mark} {self.what}: {self.found}" + (f"\n     -> {self.todo}" if self.todo else "")


def examine(settings: Settings) -> list[Finding]:
    """What the profile needs, in order: environment, device, data, models, endpoints, home, ledger."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _environment,
        _device,
        _ranks,
        _data,
        _models,
        _endpoints,
        _sampling_server,
        _home,
        _ledger,
    )
    return [finding for check in checks for finding in check(settings)]


def reachable(what: str, host: str, port: int, todo: str) -> Finding:
    """Whether something listens there; nothing is sent."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return Finding(what, f"{host}:{port} cannot be reached ({error})", True, todo)
    return Finding(what, f"{host}:{port} answers")


def listens(who: str, base_url: str) -> Finding:
    """Whether something listens at an endpoint's address; behind a proxy only a request could tell."""
    address = urlsplit(base_url)
    host, port = address.hostname or "", address.port or (443 if address.scheme.lower() == "https" else 80)
    if address.scheme.lower() in getproxies() and not proxy_bypass(host):
        return Finding(f"{who}, endpoint", f"{host}:{port}, through a proxy")
    return reachable(f"{who}, endpoint", host, port, "Check base_url and the network.")


def _environment(_: Settings) -> Iterator[Finding]:
    old = sys.version_info < (3, 11)
    yield Finding("python", platform.python_version(), old, "Python 3.11 or newer is needed." if old else "")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES if name not in missing)
    yield Finding("packages", versions)
    if missing:
        yield Finding("missing packages", ", ".join(missing), True, "Run `make install`.")


def _device(settings: Settings) -> Iterator[Finding]:
    """A GPU, or a model that is small enough for a CPU in a precision that it can compute in."""
    import torch  # noqa: PLC0415  slow to import

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding("GPU", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
        return
    model, threads = settings.white_box.model, f"none; {torch.get_num_threads()} CPU threads"
    parameters = _parameters_of(model)
    if parameters is None:
        todo = f"The size of {model} is not known here: above {CPU_IS_ENOUGH / 1e6:.0f}M parameters it needs a GPU."
        yield Finding("GPU", threads, False, todo)
    else:
        large, todo = parameters > CPU_IS_ENOUGH, "This model is far too slow on a CPU; take a smaller one, or try "
        size = f"{threads}, {parameters / 1e6:,.0f}M parameters"
        yield Finding("GPU", size, large, f"{todo}--profile laptop." if large else "")
    if settings.white_box.dtype in ("bfloat16", "float16"):
        todo = "Half precision is hundreds of times slower on most CPUs; set white_box.dtype=float32."
        yield Finding("dtype", settings.white_box.dtype, True, todo)


def _parameters_of(model: str) -> int | None:
    """As many as the files of a local model hold, or as a name states; None where neither tells."""
    from tasks.models import local_model  # noqa: PLC0415  slow to import

    folder = local_model(model, home_folder())
    return (folder and _stored_parameters(folder)) or parameter_count(model)


def _stored_parameters(folder: Path) -> int | None:
    """Elements of all tensors in the folder's safetensors; None where there are none, or one cannot be read."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  slow to import

    total = 0
    try:
        for path in folder.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return total or None


def _ranks(settings: Settings) -> Iterator[Finding]:
    """Where there is more than one: whether each has a GPU, and a share of every optimizer step."""
    import torch  # noqa: PLC0415  slow to import

    ranks, idle = settings.training.ranks, settings.training.idle_ranks()
    gpus = torch.cuda.device_count() if settings.white_box.device != "cpu" else 0
    if ranks == 1:
        return
    if 0 < gpus < ranks:
        yield Finding("ranks", f"{ranks}, but {gpus} GPUs", True, f"Set training.ranks to at most {gpus}.")
        return
    todo = f"{idle} have no example of an optimizer step: raise training.prompts_per_optimizer_step and training.wave."
    yield Finding("ranks", f"{ranks}, a GPU each" if gpus else f"{ranks} on the CPU", todo=todo if idle else "")


def _data(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if data.source == "world":
        yield Finding("data", "generated dialogue world")
    elif data.source == "hub":
        todo = "Give a folder in the hub's layout: --set data.source=folder --set data.path=FOLDER."
        yield reachable("data hub", "huggingface.co", 443, todo)
    else:
        try:
            files = DialogueFolder(Path(data.path), data.subsets).files()
            yield Finding("data", f"{len(files)} files in {data.path}")
        except CycleAlignError as error:
            yield Finding("data", f"not all files in {data.path}", True, str(error))


def _models(settings: Settings) -> Iterator[Finding]:
    """Every model that the profile loads: whether it is here, or its hub answers."""
    from cyclealign.white_box.prompt_format import find_format  # noqa: PLC0415  slow to import
    from tasks.models import frozen_model, local_model  # noqa: PLC0415  likewise
    from tasks.preparation import uses_preference_models  # noqa: PLC0415  likewise

    white_box, evaluation = settings.white_box, settings.evaluation
    if white_box.trust_remote_code:
        todo = f"Python code from the repository of {white_box.model} will run: read it first."
        yield Finding("trust_remote_code", "on", False, todo)
    yield _model("white box", white_box.model, "white_box.model")
    if white_box.model != "world" and (there := local_model(white_box.model, home_folder())) is not None:
        try:
            yield Finding("white box, prompts", f"written as {find_format(white_box, str(there)).kind}")
        except CycleAlignError as error:
            yield Finding("white box, prompts", "cannot be written", True, str(error))
    if white_box.quantization != "none":
        try:
            require_quantization(white_box)
            version = metadata.version("bitsandbytes")
            yield Finding("quantization", f"{white_box.quantization}, bitsandbytes {version}")
        except UsageError as error:
            yield Finding("quantization", f"{white_box.quantization}, bitsandbytes is missing", True, str(error))
    if evaluation.reward_model in HUB_REWARD_MODELS:
        yield _model("reward model", evaluation.reward_model_name, "evaluation.reward_model_name")
    if uses_preference_models(settings):
        try:
            yield Finding("preference models read", str(frozen_model(settings, home_folder())))
        except CycleAlignError as error:
            yield Finding("preference models read", "nothing", True, str(error))


def _model(what: str, name: str, setting: str) -> Finding:
    from tasks.models import local_model  # noqa: PLC0415  slow to import

    if name == "world":
        return Finding(what, "tiny model, trained on the spot")
    found = local_model(name, home_folder())
    if found is not None:
        return Finding(what, str(found))
    if name == "smollm2-135m-instruct":
        return Finding(what, f"{name} is not installed", True, "Run `make smollm2`.")
    if name.startswith((".", "/", "~")):
        todo = f"Give a folder that is there, or a hub name: --set {setting}=…"
        return Finding(what, f"nothing at {name}", True, todo)
    return reachable(f"{what} {name}", "huggingface.co", 443, f"Give a local folder: --set {setting}=FOLDER.")


def _endpoints(settings: Settings) -> Iterator[Finding]:
    """The black box, and the pairwise judge where it has an endpoint of its own: address, key, model, price, cap."""
    pairwise, judge = settings.evaluation.judge.endpoint, settings.black_box.endpoint
    if judge != "api":
        yield Finding("black box", f"offline judge ({judge}), costs nothing")
    for who, endpoint in (("black box", settings.black_box), ("pairwise judge", pairwise)):
        if endpoint is not None and endpoint.endpoint == "api":
            try:
                origin = ChatEndpoint(endpoint).origin
            except UsageError as error:
                yield Finding(f"{who}, endpoint", endpoint.base_url, True, str(error))
                continue
            there = listens(who, endpoint.base_url)
            yield there
            yield from _key(who, endpoint, ask=not there.bad)
            yield _form(who, endpoint, origin)
            yield _price(who, endpoint)


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
        models = asyncio.run(_listed_models(endpoint))
    except CycleAlignError as error:
        yield _failed(what, variable, error)
        return
    if not models:
        yield Finding(what, "cannot be tried without a paid call: the endpoint lists no models")
        return
    yield Finding(what, "the endpoint takes it")
    if settings.model in models or f"models/{settings.model}" in models:
        yield Finding(f"{who}, model", settings.model)
        return
    # a list need not be whole: aliases and deployments may be missing from it
    others = ", ".join(sorted(models)[:NAMES_SHOWN]) + (", …" if len(models) > NAMES_SHOWN else "")
    todo = f"It lists {len(models)}: {others}. Check the name, and whether the key may use it."
    yield Finding(f"{who}, model", f"{settings.model} is not listed by the endpoint", todo=todo)


async def _listed_models(endpoint: ChatEndpoint) -> list[str] | None:
    try:
        return await endpoint.models()
    finally:
        await endpoint.close()


def _failed(what: str, variable: str, error: CycleAlignError) -> Finding:
    """Only a refusal of the key itself or an empty account says that no call would get through."""
    status = error.http_status if isinstance(error, CallFailed | EndpointRefused) else None
    if isinstance(error, EndpointRefused) and error.kind == "quota":
        return Finding(what, f"the account of {variable} has no quota left", True, "Add credit or raise its limit.")
    if status == HTTPStatus.UNAUTHORIZED:
        return Finding(what, "the endpoint refuses the key (HTTP 401)", True, f"Put a valid one into {variable}.")
    why = f"HTTP {status}" if status else str(error)
    return Finding(what, f"{variable} is set, but could not be tried", todo=f"The list of models failed: {why}.")


def _form(who: str, settings: BlackBoxSettings, origin: str) -> Finding:
    """What the probe of an earlier run found out about the endpoint; none is paid here."""
    ledger, what = Ledger(home_folder()), f"{who}, form of questions"
    wanted = json.dumps(parameters_for(settings, 0), sort_keys=True)
    found = None if ledger.is_empty() else probed(ledger, origin, settings.model, wanted)
    if found is None:
        return Finding(what, "not tried yet", todo="A run asks it at most three small questions before any other.")
    left_out = f"without {', '.join(found.left_out)}" if found.left_out else "as the settings say"
    todo = f"Asked a question of known answer, {found.answer}: is it the model you mean?" if found.answer else ""
    return Finding(what, f"{left_out}, limit by {found.token_limit}", todo=todo)


def _price(who: str, settings: BlackBoxSettings) -> Finding:
    try:
        Prices(settings).require_price()
    except CycleAlignError as error:
        return Finding(f"{who}, price", settings.model, True, str(error))
    if settings.budget_usd is not None:
        return Finding(f"{who}, cap", f"${settings.budget_usd:.2f}")
    todo = "Set a cap: --set black_box.budget_usd=10 (a judge's own: evaluation.judge.endpoint.budget_usd)."
    return Finding(f"{who}, cap", "none", todo=todo)


def _sampling_server(settings: Settings) -> Iterator[Finding]:
    """The vLLM server, where the cycle or the evaluation samples there: whether it answers, and with which model."""
    from tasks.cycle.sampling_server import served_model  # noqa: PLC0415  slow to import

    white_box = settings.white_box
    if "vllm" not in (white_box.sampling.engine, settings.evaluation.sampling.engine):
        return
    soon = white_box.vllm.model_copy(update={"timeout_s": TIMEOUT_S})
    try:
        model = served_model(white_box.model_copy(update={"vllm": soon}), home_folder())
        yield Finding("vLLM server", f"{white_box.vllm.base_url} serves {model}")
    except CycleAlignError as error:
        yield Finding("vLLM server", f"{white_box.vllm.base_url} cannot be used", True, str(error))


def _home(_: Settings) -> Iterator[Finding]:
    home = home_folder()
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    yield Finding("home", f"{home}, {free:.1f} GiB free", free < 2, "At least 2 GiB are needed." if free < 2 else "")
    if not os.access(place, os.W_OK):
        yield Finding("home", f"{place} cannot be written to", True, "Set CYCLEALIGN_HOME to a folder of yours.")
    try:
        require_local(home / "ledger.duckdb")
    except CycleAlignError as error:
        yield Finding("home", "on a network file system", True, str(error))


def _ledger(_: Settings) -> Iterator[Finding]:
    ledger = Ledger(home_folder())
    if ledger.is_empty():
        yield Finding("ledger", "none yet; the first run makes it")
        return
    try:
        found = runs.status(ledger)
        yield Finding("ledger", f"{len(found)} runs: " + ", ".join(f"{one.name} {one.state}" for one in found[-5:]))
    except CycleAlignError as error:
        yield Finding("ledger", "cannot be read", True, str(error))
