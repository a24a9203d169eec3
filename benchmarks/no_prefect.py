"""Prefect taken away: a stand-in for its package under which flows and tasks are plain functions.

Only for the benchmark of what Prefect costs, in a process of its own. The application's code is unchanged: it imports
these modules under Prefect's names. Decorators return what they decorate, a concurrency limit lets everybody in,
artifacts go nowhere, and nobody is inside a flow run. Even the time to import Prefect is gone.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any


def nothing(*_: object, **__: object) -> None:
    """Stands for everything that is only called for its effect, or imported and not used in a run."""


def undecorated(function: Callable[..., Any] | None = None, **_: object) -> Callable[..., Any]:
    """`@task`, `@task(…)`, `@flow`, `@flow(…)`: the function itself."""
    return function if function is not None else lambda decorated: decorated


@contextmanager
def no_limit(*_: object, **__: object) -> Iterator[None]:
    """A concurrency limit that lets everybody in."""
    yield


KNOWN: Mapping[str, Mapping[str, object]] = {
    "prefect": {"flow": undecorated, "task": undecorated},
    "prefect.concurrency.sync": {"concurrency": no_limit},
    "prefect.context": {"FlowRunContext": SimpleNamespace(get=nothing)},
}
"""What has to do something, by module; every other name of every other module is `nothing`."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return KNOWN.get(self.__name__, {}).get(name, nothing)


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "prefect":
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute: `_Module` answers for every name."""


def take_away() -> None:
    """From now on this process imports the stand-in.

    Raises:
        RuntimeError: Prefect was imported before.
    """
    if "prefect" in sys.modules:
        raise RuntimeError("Found prefect imported already, expected a process that has not used it yet.")
    sys.meta_path.insert(0, _Finder())
