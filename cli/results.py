"""Commands on what runs brought: people's verdicts and the exhibits. Part of the command line (`cli.main`)."""

import os

import click

STYLES = ("table", "markdown", "csv", "latex", "json")


@click.command()
@click.argument("run")
@click.option(
    "--systems", default="before,after", show_default=True, help="Two roles or labels of the run's evaluation."
)
@click.option("--annotator", metavar="NAME", help="The only one who judges; by default the page asks for a name.")
@click.option("--port", default=8766, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--token-env", metavar="NAME", help="Environment variable with a token that the page asks for.")
def annotate(  # noqa: PLR0913, PLR0917  one per option
    run: str, systems: str, annotator: str | None, port: int, host: str, token_env: str | None
) -> None:
    """Let people compare two systems' responses in a browser, blind; started again it goes on.

    Verdicts go into the ledger, also while a run uses it. To listen beyond this machine, a token has to be in an
    environment variable; traffic is not encrypted.
    """
    from cyclealign.loopback import listen, refuse_open, serve
    from tasks.evaluation.annotating import annotation_page

    token = token_of(token_env)
    refuse_open(host, token, "Put a token into the environment and name its variable with --token-env.")
    app = annotation_page(run, systems, annotator, token)
    with listen(host, port, "Choose others with --host and --port.") as listening:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"http://{shown}:{listening.getsockname()[1]}/ compares {systems}; stop with Ctrl-C", err=True)
        serve(app, listening, patience_s=3)


@click.command()
@click.argument("name", required=False)
@click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE]...")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="The run; repeatable.")
@click.option(
    "--format", "style", type=click.Choice(STYLES), default="table", show_default=True, help="How it is printed."
)
@click.option("--plot", metavar="FILE", help="Also draw it, into a .png or .svg file.")
def exhibit(name: str | None, parameters: tuple[str, ...], runs: tuple[str, ...], style: str, plot: str | None) -> None:
    """Show a table or figure of the paper, or of a run, from the ledger alone.

    NAME is table-1, figure-4, run-rewards, …; without one, all are listed. Means stand with their intervals, and the
    paper's own figures beside ours, marked as the paper's.
    """
    from pathlib import Path

    from cli.output import print_exhibit, print_frame
    from cyclealign.report.render import write_plot
    from storage import exhibits
    from storage.ledger import Ledger
    from tasks.context import home_folder

    if name is None:
        print_frame(exhibits.about(), "table")
        return
    found = exhibits.read_exhibit(Ledger(home_folder()), name, runs, _assigned(parameters))
    print_exhibit(found, style)
    if plot is not None:
        write_plot(found, Path(plot))


def _assigned(parameters: tuple[str, ...]) -> dict[str, str]:
    from cyclealign.errors import UsageError

    astray = [one for one in parameters if "=" not in one]
    if astray:
        raise UsageError(f"Found {astray[0]!r}, expected parameters as NAME=VALUE, for example bins=5.")
    return dict(one.split("=", maxsplit=1) for one in parameters)


def token_of(variable: str | None) -> str | None:
    """The token in an environment variable; None when no variable is named.

    Raises:
        UsageError: the variable is not set.
    """
    from cyclealign.errors import UsageError

    token = os.environ.get(variable) if variable else None
    if variable and not token:
        raise UsageError(f"{variable} is not set. Expected a token in it, for example: export {variable}=…")
    return token
