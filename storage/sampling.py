"""Draws samples of prompts from prepared dialogues, and loads pairs to fit preference models on.

A sample depends only on the data, the options and the seed, never on the order of rows or the number of threads:
hashes of seed and prompt order the prompts. Paper: Section 3.1 (1000 prompts).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Literal

import duckdb

from cyclealign.errors import DataError
from cyclealign.records import PreferencePair, Split
from storage import queries, samples
from storage.dialogues import PreparedDialogues, set_variable
from storage.ledger import Ledger
from storage.samples import Purpose, pair_of

SPLIT_OF: Mapping[Purpose, Split] = {"training": "train", "evaluation": "test"}


@dataclass(frozen=True, slots=True)
class Draw:
    """How many prompts are drawn for what: a total to allocate, a number per subset, or (neither) all."""

    purpose: Purpose
    seed: int
    prompts: int | None = None
    per_subset: int | None = None
    allocation: Literal["proportional", "equal"] = "proportional"
    excluded: tuple[str, ...] = ()
    """Ids of prompts that something else uses."""


def draw_sample(ledger: Ledger, prepared: PreparedDialogues, draw: Draw) -> str:
    """Draw prompts over all subsets, in a seeded order, and keep them; returns the sample's digest.

    Training prompts come from the training files, evaluation prompts from the test files.

    Raises:
        DataError: fewer prompts exist than are asked for.
    """
    text = json.dumps([prepared.dataset_digest, asdict(draw)], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if not samples.exists(ledger, digest):
        pairs = _draw(prepared.folder, draw)
        samples.put(ledger, digest, draw.purpose, prepared.dataset_digest, pairs)
    return digest


def load_pairs(folder: Path, split: Split) -> list[PreferencePair]:
    """All pairs of prepared dialogues, in an order that their texts alone decide."""
    with _reading(folder, split) as connection:
        return _pairs(connection.sql(queries.load("dialogues/pairs")))


def allocate(available: Mapping[str, int], prompts: int, allocation: str) -> dict[str, int]:
    """How many prompts each subset gives: in proportion to its size, or equally; largest remainders first.

    Raises:
        DataError: a subset, or all together, have fewer prompts than that.
    """
    weights = {subset: size if allocation == "proportional" else 1 for subset, size in available.items()}
    total = sum(weights.values()) or 1
    quotas = {subset: prompts * weight // total for subset, weight in weights.items()}
    remainders = sorted(weights, key=lambda subset: (-(prompts * weights[subset] % total), subset))
    for subset in remainders[: prompts - sum(quotas.values())]:
        quotas[subset] += 1
    _check(available, quotas, prompts)
    return quotas


def _draw(folder: Path, draw: Draw) -> list[PreferencePair]:
    with _reading(folder, SPLIT_OF[draw.purpose]) as connection:
        set_variable(connection, "excluded", list(draw.excluded))
        set_variable(connection, "seed", draw.seed)
        connection.execute(queries.load("dialogues/available"))
        available = dict(connection.table("subset_sizes").fetchall())
        quotas = [{"subset": subset, "prompts": prompts} for subset, prompts in _quotas(available, draw).items()]
        return _pairs(connection.sql(queries.load("dialogues/draw"), params={"quotas": quotas}))


def _quotas(available: Mapping[str, int], draw: Draw) -> dict[str, int]:
    if draw.prompts is not None:
        return allocate(available, draw.prompts, draw.allocation)
    quotas = {subset: size if draw.per_subset is None else draw.per_subset for subset, size in available.items()}
    _check(available, quotas, sum(quotas.values()))
    return quotas


def _check(available: Mapping[str, int], quotas: Mapping[str, int], prompts: int) -> None:
    short = [subset for subset, quota in quotas.items() if quota > available[subset]]
    if short or sum(quotas.values()) < prompts:
        found = ", ".join(f"{subset} {size}" for subset, size in available.items()) or "none"
        asked = ", ".join(f"{subset} {quotas[subset]}" for subset in short) or str(prompts)
        raise DataError(
            f"Found {sum(available.values())} prompts after filtering ({found}), expected at least those "
            f"asked for ({asked}). Ask for fewer prompts, or filter less."
        )


@contextmanager
def _reading(folder: Path, split: Split) -> Iterator[duckdb.DuckDBPyConnection]:
    path = folder / f"{split}.parquet"
    if not path.is_file():
        raise DataError(f"No {path}. Expected prepared dialogues; prepare the data again.")
    with duckdb.connect() as connection:
        connection.read_parquet(escape(str(path)), file_row_number=True).create_view("prepared")
        yield connection


def _pairs(found: duckdb.DuckDBPyRelation) -> list[PreferencePair]:
    return [pair_of(row) for row in found.to_dicts()]
