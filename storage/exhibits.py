"""Reads the exhibits, the SQL files of `sql/exhibits`, from the ledger or from its snapshot while a run holds it.

A file's header says what its parameters are and which may be null; those that the user leaves out get the defaults
below. Leaves out what is made of the rows (`cyclealign.report.exhibits`).
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cyclealign.errors import RunUnknown, UsageError
from storage import queries
from storage.figures import order_reward_models
from storage.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

    from cyclealign.report.exhibits import Exhibit

FOLDER = "exhibits"
DEFAULTS: Mapping[str, Any] = {"bins": 10, "role": "after", "against": "before"}
"""Parameters that are not null by default; `run_name` and `reward_model` depend on what the ledger holds."""
MOST_BINS = 10_000
ROLES = ("role", "against")


def known() -> list[str]:
    """The exhibits as users name them, for example `table-1`."""
    names = (file.name for file in files("sql").joinpath(FOLDER).iterdir())
    return sorted(name.removesuffix(".sql").replace("_", "-") for name in names if name.endswith(".sql"))


def about() -> "pd.DataFrame":
    """Every exhibit with what it shows and its parameters."""
    import pandas as pd  # noqa: PLC0415  slow to import

    rows = [(name, title(file_name(name)), ", ".join(_parameters(file_name(name)))) for name in known()]
    return pd.DataFrame(rows, columns=["exhibit", "shows", "parameters"])


def file_name(name: str) -> str:
    """The exhibit's name as its SQL file has it.

    Raises:
        UsageError: there is no such exhibit; the message lists those there are.
    """
    wanted = name.lower().replace("_", "-")
    if wanted not in known():
        raise UsageError(f"No exhibit {name!r}. Expected one of: {', '.join(known())}.")
    return wanted.replace("-", "_")


def title(name: str) -> str:
    """The first sentence of the file's header."""
    text = " ".join(queries.header(f"{FOLDER}/{name}").partition("Parameters:")[0].split())
    return text.removesuffix(".")


def together(name: str) -> bool:
    """Whether the exhibit shows all finished runs side by side and so takes no run.

    Raises:
        UsageError: there is no such exhibit.
    """
    return "run_name" not in _parameters(file_name(name))


def read_exhibit(ledger: Ledger, name: str, run_names: Sequence[str], given: Mapping[str, str]) -> "Exhibit":
    """The exhibit with its intervals and the paper's figures, of the given runs.

    Args:
        ledger: Where the runs are recorded.
        name: As users name it.
        run_names: The runs; none: all of them where the exhibit can show them together, else the only one.
        given: Parameters of the SQL file by name.

    Raises:
        UsageError: the exhibit, a parameter or its value is wrong, or which run is meant is open.
        RunUnknown: the ledger has no run of such a name.
    """
    from cyclealign.report import exhibits  # noqa: PLC0415  brings matplotlib, which is slow to import

    file = file_name(name)
    _check(file, run_names, given)
    _check_runs(ledger, run_names)
    needed = {other: _rows(ledger, other, run_names, given) for other in (file, *exhibits.wanted(file))}
    rankers = _rankers(ledger) if exhibits.has_judges(file) else {}
    return exhibits.compose(file, title(file), needed[file], needed, rankers)


def _rows(ledger: Ledger, name: str, run_names: Sequence[str], given: Mapping[str, str]) -> "pd.DataFrame":
    """The rows of one file; of several runs one below the other, each with its run's name."""
    if len(run_names) < 2 or "run_name" not in _parameters(name):
        return _ask(ledger, name, run_names[0] if run_names else None, given)
    import pandas as pd  # noqa: PLC0415  slow to import

    frames = []
    for run_name in run_names:
        frame = _ask(ledger, name, run_name, given)
        if "run_name" not in frame:
            frame.insert(0, "run_name", run_name)
        frames.append(frame)
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _ask(ledger: Ledger, name: str, run_name: str | None, given: Mapping[str, str]) -> "pd.DataFrame":
    nullable = _parameters(name)
    chosen: dict[str, Any] = {parameter: given.get(parameter, DEFAULTS.get(parameter)) for parameter in nullable}
    if "run_name" in nullable:
        chosen["run_name"] = run_name or (None if nullable["run_name"] else _only_run(ledger))
    if chosen.get("reward_model", "") is None and not nullable["reward_model"]:
        chosen["reward_model"] = _primary_reward_model(ledger, chosen["run_name"])
    if "bins" in chosen:
        chosen["bins"] = _bins(str(chosen["bins"]))
    for parameter in sorted(chosen.keys() & given.keys() & set(ROLES)):
        _check_role(ledger, chosen["run_name"], parameter, given[parameter])
    if "reward_model" in chosen.keys() & given.keys():
        _check_reward_model(ledger, given["reward_model"])
    return ledger.query_anywhere(queries.load(f"{FOLDER}/{name}"), chosen or None)[0]


def _parameters(name: str) -> dict[str, bool]:
    """The file's parameters, and whether its header says that they may be null."""
    statement = queries.load(f"{FOLDER}/{name}")
    about = queries.header(f"{FOLDER}/{name}")
    body = re.sub(r"--.*", "", statement)
    return {one: bool(re.search(rf"\${one} \(null:", about)) for one in sorted(set(re.findall(r"\$(\w+)", body)))}


def _check(name: str, run_names: Sequence[str], given: Mapping[str, str]) -> None:
    parameters, shown = _parameters(name), name.replace("_", "-")
    astray = sorted(given.keys() - (parameters.keys() - {"run_name"}))
    if astray:
        expected = ", ".join(sorted(parameters.keys() - {"run_name"})) or "none"
        raise UsageError(f"Exhibit {shown} does not know {', '.join(astray)}. Expected parameters: {expected}.")
    if run_names and "run_name" not in parameters:
        raise UsageError(f"Exhibit {shown} shows all finished runs side by side, expected no --run.")


def _bins(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= MOST_BINS:
        raise UsageError(f"Found bins={text[:40]}, expected a whole number from 1 to {MOST_BINS}: bins=10.")
    return int(text)


def _check_role(ledger: Ledger, run_name: str, parameter: str, role: str) -> None:
    frame, _ = ledger.query_anywhere(queries.load("evaluations/run_systems"), {"run_name": run_name})
    there = list(frame["role"])
    if role not in there:
        raise UsageError(
            f"Found {parameter}={role}, expected a system in the evaluation of {run_name}: "
            f"{', '.join(there) or 'none yet'}. `cyclealign evaluate {run_name} --system …` adds others."
        )


def _check_reward_model(ledger: Ledger, name: str) -> None:
    there = list(ledger.query_anywhere(queries.load("evaluations/reward_models"))[0]["reward_model"])
    if there and name not in there:
        raise UsageError(f"Found reward_model={name}, expected one that scored anything: {', '.join(there)}.")


def _check_runs(ledger: Ledger, run_names: Sequence[str]) -> None:
    there = _run_names(ledger)
    for run_name in run_names:
        if run_name not in there:
            raise RunUnknown(f"No run {run_name!r}. The ledger has: {', '.join(there) or 'none yet'}.")


def _rankers(ledger: Ledger) -> dict[str, str]:
    """By run, the model that ranked the rounds that it learnt from."""
    frame, _ = ledger.query_anywhere(queries.load("runs/rankers"), {"run_name": None})
    return dict(zip(frame["run_name"], frame["ranked_by"], strict=True))


def _only_run(ledger: Ledger) -> str:
    there = _run_names(ledger)
    if len(there) != 1:
        raise UsageError(f"Found {len(there)} runs, expected one: name it with --run, of {', '.join(there) or 'none'}.")
    return there[0]


def _run_names(ledger: Ledger) -> list[str]:
    return list(ledger.query_anywhere(queries.load("runs/names"))[0]["run_name"])


def _primary_reward_model(ledger: Ledger, run_name: str) -> str:
    frame, _ = ledger.query_anywhere(queries.load(f"{FOLDER}/run_rewards"), {"run_name": run_name})
    names = order_reward_models(frame["reward_model"].unique())
    return names[0] if names else ""
