"""Optional extras of the installation: what is missing is said with the command that installs it."""

from importlib.util import find_spec

from cyclealign.errors import UsageError


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
