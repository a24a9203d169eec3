"""Optional extras of the installation: the error for a missing one names the command that installs it."""

from importlib.util import find_spec

from cyclealign.errors import UsageError
from cyclealign.settings import WhiteBoxSettings


def require_extra(module: str, extra: str) -> None:
    """Do nothing where `module` is installed.

    Raises:
        UsageError: it is not; the message holds the command to run.
    """
    if find_spec(module) is None:
        raise UsageError(
            f"The Python package {module!r} is not installed. Expected the extra {extra!r} of this project: "
            f"pip install --constraint constraints.txt --editable '.[{extra}]'"
        )


def require_quantization(settings: WhiteBoxSettings) -> None:
    """Do nothing where the white box is not quantised, or can be.

    Raises:
        UsageError: bitsandbytes is needed for that and not installed.
    """
    if settings.quantization != "none":
        require_extra("bitsandbytes", "quantization")
