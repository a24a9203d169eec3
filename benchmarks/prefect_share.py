"""Prefect's share of a laptop run, from the start of the process to its end.

The same run once as the user starts it, with the start of Prefect's own server and the wait for its last records, and
once with Prefect taken away, each in a fresh process and an empty home that has what a user has after a first run: the
dialogue world, and Prefect's database. Both sides have to end with the same weights. It is the profile as it is: fewer
prompts would make the run shorter, not Prefect's start, and so overstate the share.

Taken away: a stand-in for Prefect's package, under which flows and tasks are plain functions and the application's code
is unchanged. Decorators return their function, artifacts go nowhere, no code is inside a flow run. Even the time to
import Prefect is gone.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any

from benchmarks.laptop import PROFILE, RUN, build_world, environment, finished, new_home
from benchmarks.measuring import Row, in_turn, seconds

REPEATS = 3
SHORT = {"data": {"prompts": 8}, "method": {"rounds": 1}, "evaluation": {"prompts_per_subset": 2}}
"""The run that warms up: it makes Prefect's database and reads every library once."""


def rows(repeats: int = REPEATS, overrides: Mapping[str, Any] | None = None) -> list[Row]:
    """The share of a laptop run's time that is Prefect's."""
    world, digests, number = build_world(), set(), itertools.count()
    with tempfile.TemporaryDirectory() as folder:

        def run(side: str, changes: Mapping[str, Any]) -> str:
            home = new_home(Path(folder), f"{side}-{next(number)}", world)
            words = [sys.executable, "-m", "benchmarks.prefect_share", side, json.dumps(changes)]
            return finished(words, environment(home)).splitlines()[-1]

        def timed(side: str) -> float:
            return seconds(lambda: digests.add(run(side, overrides or {})))

        run("with", SHORT)
        pairs = in_turn(lambda: timed("with"), lambda: timed("without"), repeats)
    if len(digests) != 1:
        raise RuntimeError(f"Found the weights {sorted(digests)}, expected the same with Prefect and without.")
    shares = tuple((with_prefect - without) / with_prefect for with_prefect, without in pairs)
    with_s, without_s = (median(side) for side in zip(*pairs, strict=True))
    note = f"{with_s:.0f} s with, {without_s:.0f} s without, the same weights; world built before"
    return [Row("Prefect's share of a laptop run", shares, note=note, at_most=0.10)]


def main(side: str, overrides: dict[str, Any]) -> None:
    """`cyclealign train` in this process, its last line the digest of the trained weights."""
    if side == "with":
        from cli.server import in_process  # noqa: PLC0415  imports Prefect

        status = in_process("flows.train:train", profile=PROFILE, overrides=overrides, run=RUN)
    else:
        take_away()
        from flows.train import train  # noqa: PLC0415  imports the stand-in

        status = train(profile=PROFILE, overrides=overrides, run=RUN)
    from tasks.evaluation.publication import print_end  # noqa: PLC0415  imports Prefect, or the stand-in

    print_end(RUN)
    print(status["weights_sha256"])


def take_away() -> None:
    """From now on this process imports the stand-in."""
    assert "prefect" not in sys.modules
    sys.meta_path.insert(0, _Finder())


def nothing(*_: object, **__: object) -> None:
    """Stands for everything that is only called for its effect, or imported and not used in a run."""


def undecorated(function: Callable[..., Any] | None = None, **_: object) -> Callable[..., Any]:
    """`@task`, `@task(…)`, `@flow`, `@flow(…)`: the function itself."""
    return function if function is not None else lambda decorated: decorated


KNOWN: Mapping[str, Mapping[str, object]] = {
    "prefect": {"flow": undecorated, "task": undecorated},
    "prefect.context": {"FlowRunContext": SimpleNamespace(get=nothing)},
    "prefect.settings": {"get_current_settings": lambda: SimpleNamespace(home=Path(tempfile.gettempdir()))},
}
"""What has to do something, by module; every other name of every other module is `nothing`."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return KNOWN.get(self.__name__, {}).get(name, nothing)


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] == "prefect" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute: `_Module` answers for every name."""


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
