"""Reads the exhibits, and those that a run's report is made of.

A SQL file's header says what its parameters are and which may be null; those that the user leaves out get the defaults
below. Leaves out what is made of the rows (`cyclealign.report`).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd

from cyclealign.errors import RunUnknown, UsageError
from cyclealign.report.catalogue import CATALOGUE, entry_of
from cyclealign.report.companions import order_reward_models
from cyclealign.report.exhibits import Exhibit, compose, wanted
from cyclealign.report.figures import IN_A_REPORT, RunFigures, figures_of
from storage import queries, response_rewards, runs
from storage.ledger import Ledger

DEFAULTS: Mapping[str, Any] = {"bins": 10, "role": "after", "against": "before"}
"""Parameters that are not null by default; `run_name` and `reward_model` depend on what the ledger holds."""
MOST_BINS = 10_000
REPORT_BINS = 20
"""Into which a report cuts the steps of a run for its curves."""
Read = Callable[[str, Mapping[str, Any]], pd.DataFrame]
"""Asks a named query with its parameters."""


def known() -> list[str]:
    """The exhibits as users name them, for example `table-1`."""
    names = {file.name.removesuffix(".sql") for file in files("sql").joinpath("exhibits").iterdir()}
    return sorted(name.replace("_", "-") for name in {*names, *CATALOGUE})


def about() -> pd.DataFrame:
    """Every exhibit with what it shows and its parameters."""
    rows = [(name, title(file_name(name)), ", ".join(parameters_of(file_name(name)))) for name in known()]
    return pd.DataFrame(rows, columns=["exhibit", "shows", "parameters"])


def file_name(name: str) -> str:
    """The exhibit's name with underscores, as SQL files and the catalogue have it.

    Raises:
        UsageError: there is no such exhibit; the message lists those there are.
    """
    wanted = name.lower().replace("_", "-")
    if wanted not in known():
        raise UsageError(f"No exhibit {name!r}. Expected one of: {', '.join(known())}.")
    return wanted.replace("-", "_")


def title(name: str) -> str:
    """What the catalogue says, else the first sentence of the file's header."""
    header = queries.header(query_of(name)).partition("Parameters:")[0]
    return entry_of(name).title or " ".join(header.split()).removesuffix(".")


def together(name: str) -> bool:
    """Whether the exhibit shows all finished runs side by side and so takes no run.

    Raises:
        UsageError: there is no such exhibit.
    """
    return "run_name" not in parameters_of(file_name(name))


def read_exhibit(ledger: Ledger, name: str, run_names: Sequence[str], given: Mapping[str, str]) -> Exhibit:
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

    def read(query: str, parameters: Mapping[str, Any]) -> pd.DataFrame:
        words = {name: word for name, word in parameters.items() if name.startswith("this_")}
        return ledger.query(queries.fill(query, words), {key: parameters[key] for key in parameters.keys() - words})

    file = file_name(name)
    _check(file, run_names, given)
    there = _names(read, "runs/names")
    for run_name in run_names:
        if run_name not in there:
            raise RunUnknown(f"No run {run_name!r}. The ledger has: {', '.join(there) or 'none yet'}.")
    rows = {other: _rows(read, other, run_names, given) for other in wanted(file)}
    rankers = read("runs/rankers", {"run_name": None}).dropna()
    return compose(file, title(file), rows, dict(zip(rankers["run_name"], rankers["ranked_by"], strict=True)))


def read_report(ledger: Ledger, run_name: str) -> RunFigures:
    """All figures of a run's report, as far as it got.

    Raises:
        RunUnknown: the ledger has no run of this name.
    """
    with ledger.session() as session:

        def read(query: str, parameters: Mapping[str, Any]) -> pd.DataFrame:
            return session.frame(query, **parameters)

        runs.get(ledger, run_name)  # says which runs there are when this is none
        (run,) = session.rows("exhibits/run_settings", run_name=run_name)
        models = order_reward_models(set(_ask(read, "run_scores", run_name, {})["reward_model"]))
        given = {"bins": str(REPORT_BINS), **({"reward_model": models[0]} if models else {})}
        rows = {name: _ask(read, name, run_name, given) for name in IN_A_REPORT}
        unscored = response_rewards.any_unscored(ledger, run_name)
    run |= {name: json.loads(run[name]) for name in ("settings", "package_versions", "machine")}
    run |= {name: run[name] and run[name].isoformat() for name in ("created_at", "finished_at")}
    return figures_of({"name": run.pop("run_name"), **run, "ledger": str(ledger.path)}, rows, unscored=unscored)


def _rows(read: Read, name: str, run_names: Sequence[str], given: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one exhibit; of several runs one below the other, each with its run's name."""
    if len(run_names) < 2 or "run_name" not in parameters_of(name):
        return _ask(read, name, run_names[0] if run_names else None, given)
    frames = {run_name: _ask(read, name, run_name, given) for run_name in run_names}
    for run_name, frame in frames.items():
        if "run_name" not in frame:
            frame.insert(0, "run_name", run_name)
    filled = [frame for frame in frames.values() if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[run_names[0]]


def _ask(read: Read, name: str, run_name: str | None, given: Mapping[str, str]) -> pd.DataFrame:
    nullable = parameters_of(name)
    chosen: dict[str, Any] = {parameter: given.get(parameter, DEFAULTS.get(parameter)) for parameter in nullable}
    if "run_name" in nullable:
        chosen["run_name"] = run_name or (None if nullable["run_name"] else _only_run(read))
    if chosen.get("reward_model", "") is None and not nullable["reward_model"]:
        models = order_reward_models(set(_ask(read, "run_rewards", chosen["run_name"], {})["reward_model"]))
        chosen["reward_model"] = models[0] if models else ""
    if "bins" in chosen:
        chosen["bins"] = _bins(str(chosen["bins"]))
    for parameter in sorted(chosen.keys() & given.keys() & {"role", "against"}):
        _check_role(read, chosen["run_name"], parameter, given[parameter])
    if "reward_model" in chosen.keys() & given.keys():
        _check_reward_model(read, given["reward_model"])
    return entry_of(name).rows(read(query_of(name), chosen))


def query_of(name: str) -> str:
    """The SQL file that holds the exhibit's rows."""
    return f"exhibits/{entry_of(name).sql or name}"


def parameters_of(name: str) -> dict[str, bool]:
    """The parameters of the exhibit's file, and whether they may be null: an exhibit of a run always has one."""
    statement, about = queries.load(query_of(name)), queries.header(query_of(name))
    found = sorted(set(re.findall(r"\$(\w+)", re.sub(r"--.*", "", statement))))
    given = {"run_name"} if name.startswith("run_") else set()
    return {one: bool(re.search(rf"\${one} \(null:", about)) and one not in given for one in found}


def _check(name: str, run_names: Sequence[str], given: Mapping[str, str]) -> None:
    parameters, shown = parameters_of(name), name.replace("_", "-")
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


def _check_role(read: Read, run_name: str, parameter: str, role: str) -> None:
    there = sorted(read("of_run", {"this_table": "run_systems", "run_name": run_name})["role"])
    if role not in there:
        raise UsageError(
            f"Found {parameter}={role}, expected a system in the evaluation of {run_name}: "
            f"{', '.join(there) or 'none yet'}. `cyclealign evaluate {run_name} --system …` adds others."
        )


def _check_reward_model(read: Read, name: str) -> None:
    there = _names(read, "evaluations/reward_models")
    if there and name not in there:
        raise UsageError(f"Found reward_model={name}, expected one that scored anything: {', '.join(there)}.")


def _only_run(read: Read) -> str:
    there = _names(read, "runs/names")
    if len(there) != 1:
        raise UsageError(f"Found {len(there)} runs, expected one: name it with --run, of {', '.join(there) or 'none'}.")
    return there[0]


def _names(read: Read, query: str) -> list[str]:
    """The only column of a query's answer."""
    return list(read(query, {}).iloc[:, 0])
