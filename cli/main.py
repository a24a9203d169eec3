"""The command line. Every heavy import happens inside the command that needs it, so `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 paused and resumable (budget, quota, key, an endpoint that misfits), 4 done
but incomplete (a tenth of the rounds or more could not be ranked).
"""

import atexit
import errno
import io
import json
import os
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from cli.results import annotate, exhibit, token_of
from cyclealign.errors import CycleAlignError, UsageError

PROFILE = click.option("--profile", default="laptop", show_default=True, help="Name in profiles/, or a YAML file.")
RUN = click.option("--run", "run", help="Name of the run; by default the profile and its seed.")
NEW_RUN = click.option("--run", "name", required=True, metavar="NEW", help="Name of the new run.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
SYSTEM_FORMS = "LABEL=run:NAME, LABEL=model:FOLDER_OR_HUB_NAME or LABEL=api:MODEL@BASE_URL"
SEED = re.compile(r"-?[0-9]{1,20}")


override = partial(click.option, "--set", "assignments", multiple=True, metavar="KEY=VALUE")
SET = override(help="Override a setting; repeatable.")


class Commands(click.Group):
    """Prints CycleAlign's own errors as one message with their exit code, and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; translate errors to messages and exit codes."""
        try:
            return super().invoke(ctx)
        except CycleAlignError as error:
            from cyclealign.report.untrusted import for_message

            click.echo(f"cyclealign: {for_message(str(error))}", err=True)  # it may quote what others wrote
            raise SystemExit(error.exit_code) from None
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
                raise
            # the reader of what is printed is gone, or its file full; what was computed is in the ledger
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            with suppress(OSError):
                click.echo(f"cyclealign: printing ended ({error.strerror}); the ledger has it all.", err=True)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            click.echo("cyclealign: stopped; the same command continues.", err=True)
            raise SystemExit(3) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cyclealign")
def main() -> None:
    """Align an open language model with the help of a stronger one behind an API.

    Everything is kept under CYCLEALIGN_HOME (default ./runs): the ledger and its journals, a folder per run.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another one
    # OpenMP's threads wait for each other by spinning, by default so long that two processes on the same cores take
    # twenty times as long: set before torch is loaded, for this process and those that it starts
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # DuckDB's binding lists its types as leaked at the very end. Handlers run last in, first out: this one runs last.
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


@main.command()
@PROFILE
@RUN
@SET
def train(profile: str, run: str | None, assignments: tuple[str, ...]) -> None:
    """The whole job; the same command again continues an unfinished run."""
    name, _ = _flow_of_profile("flows.train:train", profile, run, assignments)
    _end_training(name)


@main.command()
@PROFILE
@RUN
@SET
def prepare(profile: str, run: str | None, assignments: tuple[str, ...]) -> None:
    """Load, filter and sample the dialogues of a profile."""
    from cli.output import print_rows

    print_rows(_flow_of_profile("flows.prepare:prepare", profile, run, assignments)[1])


@main.command()
@click.argument("run")
@click.option("--system", "systems", multiple=True, metavar="LABEL=…", help=f"{SYSTEM_FORMS}; repeatable.")
@click.option("--judge", is_flag=True, help="Also have the pairwise judge compare the trained model with each other.")
@override(help="Override a setting of the evaluation; repeatable.")
def evaluate(run: str, systems: tuple[str, ...], judge: bool, assignments: tuple[str, ...]) -> None:
    """Evaluate a run's model before and after, and other systems beside it; what did not change is reused."""
    from cyclealign.compared_systems import parse_system

    parsed = [parse_system(text) for text in systems]
    _flow_on_run("flows.evaluation:evaluate", run, assignments, run=run, systems=parsed, judge=judge)
    from cli.output import print_systems  # behind the settings that Prefect reads

    _print_end(run)
    print_systems(run)


@main.command()
@click.argument("run")
@click.option(
    "--share", default=0.1, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Of its rankings."
)
@click.option("--seed", default=0, show_default=True, help="Which rankings, in which orders.")
@override(help="Override how calls are made; repeatable.")
def audit(run: str, share: float, seed: int, assignments: tuple[str, ...]) -> None:
    """Ask a share of a run's rankings again in another order: is its judge consistent, or swayed by order or length."""
    _flow_on_run("flows.audit:audit", run, assignments, run=run, share=share, seed=seed)
    from cli.output import print_audit  # behind the settings that Prefect reads

    print_audit(run)


@main.command()
@click.argument("run")
@NEW_RUN
@SET
def refold(run: str, name: str, assignments: tuple[str, ...]) -> None:
    """Train a new run on the recorded rounds of RUN, without sampling and without a call; the same command continues.

    Another objective, learning rate, order (seed, wave), rewrite mode or backbone may be set.
    """
    _flow_on_run("flows.refold:refold", run, assignments, source=run, run=name)
    _print_end(name)


@main.command()
@click.argument("run")
@click.option("--method", required=True, type=click.Choice(["sft", "rrhf", "pro", "dpo", "rl"]))
@NEW_RUN
@SET
def baseline(run: str, method: str, name: str, assignments: tuple[str, ...]) -> None:
    """Train a baseline on the data set's own preferences, in as many steps as RUN; the same command continues.

    dpo and rl (REINFORCE leave-one-out with PPO's clipped ratio) need the extra "baselines".
    """
    _flow_on_run("flows.baseline:baseline", run, assignments, source=run, run=name, method=method)
    _print_end(name)


@main.command()
@PROFILE
@click.option(
    "--grid",
    type=click.Choice(["table-4", "figure-5", "controls"]),
    default="table-4",
    show_default=True,
    help="Demonstrations full, static, off; N = 1 to 7; without the ranking term, without the rewrite.",
)
@click.option("--seeds", default="0", show_default=True, help="Separated by commas; one run each per variant.")
@click.option("--objectives", default="pro,rrhf", show_default=True, help="Separated by commas.")
@click.option("--fan-out", is_flag=True, help="Over the workers of a pool, each run with a ledger of its own.")
@SET
def ablation(  # noqa: PLR0913, PLR0917  one per option
    profile: str, grid: str, seeds: str, objectives: str, fan_out: bool, assignments: tuple[str, ...]
) -> None:
    """Run a grid of variants over seeds; finished runs are left alone, the same command does what is left."""
    from cli.output import print_rows
    from cli.server import in_process
    from cyclealign.profiles import merge, parse_overrides
    from tasks.context import load_settings

    each, chosen = seeds.split(","), tuple(part.strip() for part in objectives.split(","))
    if not all(SEED.fullmatch(part.strip()) for part in each):
        raise UsageError(f"--seeds {seeds!r}: expected whole numbers separated by commas, for example 0,1,2.")
    if not set(chosen) <= {"pro", "rrhf"}:
        raise UsageError(f"--objectives {objectives!r}: expected pro, rrhf or both, separated by a comma.")
    overrides, numbers = parse_overrides(assignments), tuple(map(int, each))
    for seed in numbers:  # wrong settings end here, before Prefect is started
        load_settings(profile, merge(overrides, {"seed": seed}))
    laid_out = {"grid": grid, "seeds": numbers, "objectives": chosen, "fan_out": fan_out}
    print_rows(in_process("flows.ablation:ablation", profile=profile, overrides=overrides, **laid_out))


@main.group()
def ledger() -> None:
    """Work on the ledger as a whole."""


@ledger.command("import")
@click.argument("other", type=click.Path(path_type=Path))
def import_(other: Path) -> None:
    """Merge the finished runs of OTHER, a ledger or the home that it is in; all of them or none.

    Runs that are here already must be the very same; the second time nothing is new.
    """
    from storage.imports import merge
    from storage.ledger import Ledger
    from tasks.context import home_folder

    found = merge(Ledger(home_folder()), other)
    click.echo(f"{len(found.runs)} new runs, {found.rows} new rows: {', '.join(found.runs) or 'nothing new'}")
    if found.skipped:
        click.echo(f"Not finished and left where they are: {', '.join(found.skipped)}", err=True)


@main.command()
@click.argument("run", required=False)
@AS_JSON
def status(run: str | None, as_json: bool) -> None:
    """Where the runs stand."""
    from cli.output import in_brief, print_rows
    from storage import runs
    from storage.ledger import Ledger
    from tasks.context import home_folder

    ledger = Ledger(home_folder())
    ledger.require()
    found = [one.as_dict() for one in runs.status(ledger, run)]
    if as_json:
        click.echo(json.dumps(found[0] if run else found, indent=2, default=str))
    else:
        print_rows([in_brief(one) for one in found])


@main.command()
@click.argument("query")
@click.option("--format", "style", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def sql(query: str, style: str) -> None:
    """Ask the ledger, also while runs go on; reading statements only.

    QUERY is SQL, or the name of a shipped query with parameters as NAME=VALUE after it, for example
    "prompt_history run_name=laptop-seed0 prompt_id=…"; "queries" lists the shipped ones.
    """
    from cli.output import print_frame
    from storage.asking import answer
    from tasks.context import home_folder

    frame = answer(home_folder(), query)
    print_frame(frame, style)


@main.command()
@click.argument("run")
@AS_JSON
def report(run: str, as_json: bool) -> None:
    """Write the report of a run again and print its figures."""
    from tasks.context import require_run
    from tasks.evaluation.publication import render_report

    require_run(run)
    files = render_report(run)
    if as_json:
        click.echo(files.figures_json.read_text(), nl=False)
    else:
        _print_end(run)


@main.command()
@PROFILE
@SET
@AS_JSON
def estimate(profile: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """Calls, tokens, dollars, hours, memory and disk of a profile, before anything is spent."""
    from cyclealign.profiles import parse_overrides
    from tasks.context import load_settings
    from tasks.estimating import estimate as compute

    found = compute(load_settings(profile, parse_overrides(assignments)))
    click.echo(found.as_json() if as_json else found.as_text())


@main.command()
@PROFILE
@SET
def doctor(profile: str, assignments: tuple[str, ...]) -> None:
    """Is everything that a profile needs in order; what to do where it is not."""
    from cyclealign.profiles import parse_overrides
    from tasks.context import load_settings
    from tasks.doctor import examine

    findings = examine(load_settings(profile, parse_overrides(assignments)))
    for finding in findings:
        click.echo(finding.line())
    if any(finding.bad for finding in findings):
        raise SystemExit(1)


@main.command()
@PROFILE
@SET
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--token-env", metavar="NAME", help="Environment variable with a token that clients must send as their key."
)
def judge(profile: str, assignments: tuple[str, ...], port: int, host: str, token_env: str | None) -> None:
    """Serve the profile's offline judge over HTTP on loopback, for any chat-completions client.

    To listen elsewhere, a token has to be in an environment variable: on a command line, others could read it.
    """
    from cyclealign.loopback import Guard, listen, refuse_open, serve
    from cyclealign.profiles import parse_overrides
    from tasks.context import home_folder, load_settings
    from tasks.models import standalone_judge

    settings = load_settings(profile, parse_overrides(assignments))
    token = token_of(token_env)
    refuse_open(host, token, "Put a token into the environment and name its variable with --token-env.")
    with listen(host, port, "Choose others with --host and --port.") as listening:
        app = standalone_judge(settings, home_folder())
        shown = f"[{host}]" if ":" in host else host
        place = f"{shown}:{listening.getsockname()[1]}"
        click.echo(f"http://{place}/v1 (model {app.state.model}); stop with Ctrl-C", err=True)
        serve(Guard(app, token), listening)


main.add_command(annotate)
main.add_command(exhibit)


def _flow_of_profile(entry: str, profile: str, run: str | None, assignments: tuple[str, ...]) -> tuple[str, Any]:
    """The run's name and the flow's result; wrong settings and names end here, before Prefect is started."""
    from cli.server import in_process
    from cyclealign.profiles import parse_overrides
    from tasks.context import load_settings, run_name

    overrides = parse_overrides(assignments)
    name = run_name(load_settings(profile, overrides), run)
    return name, in_process(entry, profile=profile, overrides=overrides, run=run)


def _flow_on_run(entry: str, on: str, assignments: tuple[str, ...], **parameters: Any) -> None:
    """Run a flow on a run that must be there; wrong settings and names end here, before Prefect is started."""
    from cli.server import in_process
    from cyclealign.profiles import parse_overrides
    from tasks.context import require_run

    overrides = parse_overrides(assignments)
    require_run(on)
    in_process(entry, overrides=overrides, **parameters)


def _print_end(run: str) -> None:
    from tasks.evaluation.publication import print_end

    print_end(run)


def _end_training(run: str) -> None:
    """Print the end of a run that learnt from its rounds; an incomplete one says so first, and by its exit code."""
    from storage import runs
    from storage.ledger import Ledger
    from tasks.context import home_folder

    row = runs.get(Ledger(home_folder()), run)
    if row.state == "incomplete":
        click.echo(f"Run {run} is incomplete: {row.state_reason}")
    _print_end(run)
    if row.state == "incomplete":
        raise SystemExit(4)


if __name__ == "__main__":
    main()
