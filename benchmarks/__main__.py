"""`python -m benchmarks [NAMES…]`: run the scripts in turn, print their rows, write `results.json`.

A script is a module with `rows(repeats=…) -> list[Row]`; adding one is a file and its name in `SCRIPTS`. Rows are
written after each script, so that a run that is stopped keeps them.
"""

import importlib
import sys

import click

from benchmarks.measuring import Row, keep

SCRIPTS = (
    "journal",
    "published_steps",
    "gpu_round",
    "smollm2_wave",
    "slow_judge",
    "whole_round",
    "dialogue_filter",
    "large_ledger",
    "prefect_share",
    "resuming",
    "chaos",
)
LONG = ("chaos",)
"""Run only by name, and by commands of their own."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(SCRIPTS))
@click.option("--repeats", type=click.IntRange(min=1), help="Repeats of every script, instead of its own number.")
def main(names: tuple[str, ...], repeats: int | None) -> None:
    """Measure the claims NAMES (default: all of speed) and write benchmarks/results.json; 1 when a bar was missed."""
    measured: list[Row] = []
    for name in [one for one in SCRIPTS if (one in names if names else one not in LONG)]:
        click.echo(f"{name} …", err=True)
        rows = importlib.import_module(f"benchmarks.{name}").rows
        found: list[Row] = rows() if repeats is None else rows(repeats)
        keep(found)
        measured += found
    click.echo("\n".join(map(str, measured)))
    sys.exit(int(any(row.missed for row in measured)))


if __name__ == "__main__":
    main()
