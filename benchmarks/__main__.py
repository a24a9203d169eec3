"""`python -m benchmarks [NAMES…]`: run the scripts in turn, print a table, write `results.json`.

A script is a module with `rows(repeats=…) -> list[Row]`; adding one is a file and its name in `SCRIPTS`. Exit code 1
says that a bar was missed. Rows are written after each script, so a run that is stopped keeps what it has.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import click
from rich.console import Console

from benchmarks import (
    chaos,
    dialogue_filter,
    gpu_round,
    large_ledger,
    ledger_commits,
    prefect_share,
    ranking_steps,
    results,
    resuming,
    shared_prefix,
    slow_judge,
    smollm2_wave,
    whole_round,
)
from benchmarks.rows import Row


class Script(Protocol):
    """A module that measures."""

    __name__: str

    def rows(self, repeats: int = ...) -> list[Row]:
        """Its rows, from so many repeats."""


SCRIPTS: tuple[Script, ...] = (
    ledger_commits,
    ranking_steps,
    gpu_round,
    shared_prefix,
    smollm2_wave,
    slow_judge,
    whole_round,
    dialogue_filter,
    large_ledger,
    prefect_share,
    resuming,
    chaos,
)
LONG: tuple[Script, ...] = (chaos,)
"""Run where they are named, and by commands of their own."""


def name_of(script: Script) -> str:
    """The script's name on the command line."""
    return script.__name__.rpartition(".")[2]


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([name_of(script) for script in SCRIPTS]))
@click.option("--repeats", type=click.IntRange(min=1), help="Repeats of every script, instead of its own number.")
def main(names: tuple[str, ...], repeats: int | None) -> None:
    """Measure the claims NAMES (default: all of speed) and write benchmarks/results.json; 1 when a bar was missed."""
    measured: list[Row] = []
    records, stamp = results.read() if names else [], results.provenance()
    for rows in measure(chosen(names), repeats):
        measured += rows
        records = results.merged(records, [row.as_dict() | stamp for row in rows])
        results.write(records)
    Console().print(results.table(measured))
    sys.exit(int(any(row.missed for row in measured)))


def chosen(names: Collection[str]) -> list[Script]:
    """The scripts of these names; of no names, all that are not `LONG`."""
    return [script for script in SCRIPTS if (name_of(script) in names if names else script not in LONG)]


def measure(scripts: Sequence[Script], repeats: int | None) -> Iterator[list[Row]]:
    """The rows of each script, as soon as it has them."""
    for script in scripts:
        click.echo(f"{name_of(script)} …", err=True)
        yield script.rows() if repeats is None else script.rows(repeats)


if __name__ == "__main__":
    main()
