"""Draws samples of prompts from prepared dialogues, and loads pairs to fit preference models on.

A sample depends only on the data, the options and the seed, never on the order of rows or the number of
threads: prompts are ordered by a hash of seed and prompt. Paper: Section 3.1 (1000 prompts).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import duckdb

from cyclealign.errors import DataError
from cyclealign.records import PreferencePair, Split
from storage import queries, samples
from storage.dialogues import PreparedDialogues
from storage.ledger import Ledger
from storage.samples import NewSample, Purpose, pair_of

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
    """Ids of prompts that are spoken for."""


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
        samples.put(ledger, NewSample(digest, draw.purpose, prepared.dataset_digest, tuple(pairs)))
    return digest


def load_pairs(
    folder: Path, split: Split, subsets: Sequence[str] | None = None, pairs: int | None = None, seed: int = 0
) -> list[PreferencePair]:
    """Pairs of prepared dialogues in a seeded order; the first `pairs` of it when a number is given."""
    wanted = None if subsets is None else list(subsets)
    with _reading(folder, split) as connection:
        parameters = {"seed": seed, "subsets": wanted, "pairs": pairs}
        return _pairs(connection.execute(queries.load("dialogues/pairs"), parameters))


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
        connection.execute(queries.load("dialogues/available"), {"excluded": list(draw.excluded)})
        available = dict(connection.execute(queries.load("dialogues/available_counts")).fetchall())
        quotas = [{"subset": subset, "prompts": prompts} for subset, prompts in _quotas(available, draw).items()]
        parameters = {"seed": draw.seed, "quotas": quotas}
        return _pairs(connection.execute(queries.load("dialogues/draw"), parameters))


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
        connection.execute("set variable prepared = $path", {"path": str(path)})
        yield connection


def _pairs(cursor: duckdb.DuckDBPyConnection) -> list[PreferencePair]:
    names = [column[0] for column in cursor.description or []]
    return [pair_of(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
