"""The command line. Every heavy import happens inside the command that needs it, so `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 paused and resumable (budget, quota, key).
"""

import atexit
import json
import os
from typing import Any

import click

from cli.evaluation import audit, evaluate
from cli.results import annotate, exhibit
from cli.studies import ablation, baseline, ledger, refold
from cyclealign.errors import CycleAlignError

PROFILE = click.option("--profile", default="laptop", show_default=True, help="Name in profiles/, or a YAML file.")
RUN = click.option("--run", "run", help="Name of the run; by default the profile and its seed.")
SET = click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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
        except KeyboardInterrupt:
            click.echo("cyclealign: stopped; the same command continues.", err=True)
            raise SystemExit(3) from None


def _hush_at_exit() -> None:
    """Nothing of ours is said after the last exit handler; DuckDB's binding then lists its types as leaked."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cyclealign")
def main() -> None:
    """Align an open language model with the help of a stronger one behind an API.

    Everything is kept under CYCLEALIGN_HOME (default ./runs): the ledger and its journals, a folder per run.
    """
    atexit.register(_hush_at_exit)  # handlers run last in, first out: this one, registered first, runs last


@main.command()
@PROFILE
@RUN
@SET
def train(profile: str, run: str | None, assignments: tuple[str, ...]) -> None:
    """The whole job; the same command again continues an unfinished run."""
    from cli.local import in_process
    from cyclealign.profiles import parse_overrides

    overrides = parse_overrides(assignments)
    name = _checked_name(profile, overrides, run)
    in_process("flows.train:train", profile=profile, overrides=overrides, run=run)
    _print_end(name)


@main.command()
@PROFILE
@RUN
@SET
def prepare(profile: str, run: str | None, assignments: tuple[str, ...]) -> None:
    """Load, filter and sample the dialogues of a profile."""
    from cli.local import in_process
    from cli.output import print_rows
    from cyclealign.profiles import parse_overrides

    overrides = parse_overrides(assignments)
    _checked_name(profile, overrides, run)
    print_rows(in_process("flows.prepare:prepare", profile=profile, overrides=overrides, run=run))


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

    frame, source = answer(home_folder(), query)
    if source:
        click.echo(source, err=True)
    print_frame(frame, style)


@main.command()
@click.argument("run")
@AS_JSON
def report(run: str, as_json: bool) -> None:
    """Write the report of a run again and print its figures."""
    from tasks.context import require_run
    from tasks.evaluation.publication import print_end, render_report

    require_run(run)
    files = render_report(run)
    if as_json:
        click.echo(files.figures_json.read_text(), nl=False)
    else:
        print_end(run)


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
    from cli.results import token_of
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


for command in (ablation, annotate, audit, baseline, evaluate, exhibit, ledger, refold):
    main.add_command(command)


def _checked_name(profile: str, overrides: dict[str, Any], run: str | None) -> str:
    """The run's name; wrong settings and names end here, before Prefect is started."""
    from tasks.context import load_settings, run_name

    return run_name(load_settings(profile, overrides), run)


def _print_end(run: str) -> None:
    from tasks.evaluation.publication import print_end

    print_end(run)


if __name__ == "__main__":
    main()
