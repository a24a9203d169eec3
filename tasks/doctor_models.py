"""Doctor's look at models and the device they need: white box, reward model, what preference models read.

Nothing is loaded; a hub is asked for no more than a connection.
"""

import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from cyclealign.errors import CycleAlignError, UsageError
from cyclealign.extras import require_quantization
from cyclealign.model_sizes import parameter_count
from cyclealign.settings import Settings, WhiteBoxSettings
from tasks.context import home_folder
from tasks.findings import Finding, reachable

CPU_IS_ENOUGH = 500e6
"""Parameters; twice as many still work, at minutes per prompt."""


def look_at_device(settings: Settings) -> Iterator[Finding]:
    """A GPU, or a model that is small enough for a CPU in a precision that it can compute in."""
    import torch  # noqa: PLC0415  slow to import

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding("GPU", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
        return
    yield _cpu(settings.white_box.model, torch.get_num_threads())
    if settings.white_box.dtype in ("bfloat16", "float16"):
        yield Finding(
            "dtype",
            settings.white_box.dtype,
            True,
            "Half precision is hundreds of times slower on most CPUs; set white_box.dtype=float32.",
        )


def look_at_ranks(settings: Settings) -> Iterator[Finding]:
    """Where there is more than one: whether each has a GPU, and a share of every optimizer step."""
    import torch  # noqa: PLC0415  slow to import

    ranks, idle = settings.training.ranks, settings.training.idle_ranks()
    gpus = torch.cuda.device_count() if settings.white_box.device != "cpu" else 0
    if ranks == 1:
        return
    if 0 < gpus < ranks:
        yield Finding("ranks", f"{ranks}, but {gpus} GPUs", True, f"Set training.ranks to at most {gpus}.")
        return
    found = f"{ranks}, a GPU each" if gpus else f"{ranks} on the CPU"
    todo = (
        f"{idle} have no example of an optimizer step: raise training.prompts_per_optimizer_step and training.wave."
        if idle
        else ""
    )
    yield Finding("ranks", found, todo=todo)


def _cpu(model: str, threads: int) -> Finding:
    parameters = parameters_of(model)
    if parameters is None:
        todo = f"The size of {model} is not known here: above {CPU_IS_ENOUGH / 1e6:.0f}M parameters it needs a GPU."
        return Finding("GPU", f"none; {threads} CPU threads", False, todo)
    large = parameters > CPU_IS_ENOUGH
    found = f"none; {threads} CPU threads, {parameters / 1e6:,.0f}M parameters"
    todo = "This model is far too slow on a CPU; take a smaller one, or try --profile laptop."
    return Finding("GPU", found, large, todo if large else "")


def parameters_of(model: str) -> int | None:
    """As many as the files of a local model hold, or as a name states; None where neither tells."""
    from tasks.models import local_model  # noqa: PLC0415  slow to import

    folder = local_model(model, home_folder())
    return (folder and stored_parameters(folder)) or parameter_count(model)


def stored_parameters(folder: Path) -> int | None:
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


def look_at_models(settings: Settings) -> Iterator[Finding]:
    """Every model that the profile loads: whether it is here, or its hub answers."""
    if settings.white_box.trust_remote_code:
        todo = f"Python code from the repository of {settings.white_box.model} will run: read it first."
        yield Finding("trust_remote_code", "on", False, todo)
    yield _model("white box", settings.white_box.model, "white_box.model")
    yield from _quantization(settings.white_box)
    if settings.evaluation.reward_model in ("classifier", "oasst"):
        yield _model("reward model", settings.evaluation.reward_model_name, "evaluation.reward_model_name")
    yield from _preference_models(settings)


def _quantization(settings: WhiteBoxSettings) -> Iterator[Finding]:
    if settings.quantization == "none":
        return
    try:
        require_quantization(settings)
        yield Finding("quantization", f"{settings.quantization}, bitsandbytes {version('bitsandbytes')}")
    except UsageError as error:
        yield Finding("quantization", f"{settings.quantization}, bitsandbytes is missing", True, str(error))


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


def _preference_models(settings: Settings) -> Iterator[Finding]:
    from tasks.models import frozen_model  # noqa: PLC0415  slow to import
    from tasks.preparation import uses_preference_models  # noqa: PLC0415  likewise

    if not uses_preference_models(settings):
        return
    try:
        yield Finding("preference models read", str(frozen_model(settings, home_folder())))
    except CycleAlignError as error:
        yield Finding("preference models read", "nothing", True, str(error))
