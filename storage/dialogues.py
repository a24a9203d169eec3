"""The HH-RLHF pipeline: read, split into turns, filter, count every drop, store what stays as Parquet.

The work is done by DuckDB column by column (`sql/dialogues/`); rows never become Python objects here, except
the prompts whose tokens are counted. Leaves out: drawing samples (`storage.sampling`). Paper: Section 3.1,
Table 6.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from cyclealign.disk import writing
from cyclealign.errors import DataError, StorageFull
from storage import filtering, queries
from storage.dialogue_sources import SPLITS, DialogueSource, FolderSource, TableSource
from storage.faults import NO_ROOM
from storage.filtering import RULES, CountTokens, FilterOptions, filter_pairs
from storage.ledger import Ledger

__all__ = [
    "FilterOptions",
    "FolderSource",
    "PreparedDialogues",
    "TableSource",
    "compare_with_table_6",
    "drops",
    "prepare",
]


@dataclass(frozen=True, slots=True)
class PreparedDialogues:
    """A filtered data set: `train.parquet` and `test.parquet` in a folder named after its digest."""

    dataset_digest: str
    folder: Path
    reused: bool
    """Whether it was there already."""


def prepare(
    ledger: Ledger, source: DialogueSource, options: FilterOptions, count_tokens: CountTokens | None = None
) -> PreparedDialogues:
    """Filter a source, unless the same rows were filtered with the same options before.

    Args:
        ledger: Gets the counts; the files go below its home.
        source: Where the rows come from.
        options: Which pairs stay.
        count_tokens: Needed when `options.max_prompt_tokens` is set.

    Raises:
        DataError: a file is missing, broken or not HH-RLHF, or takes more memory than there is.
        StorageFull: the disk is full or read-only.
    """
    if (options.max_prompt_tokens is None) != (count_tokens is None):
        raise ValueError("max_prompt_tokens and count_tokens belong together: give both or neither.")
    digest = _digest(source, options)
    folder = ledger.home / "data" / digest
    if _is_there(ledger, digest, folder):
        return PreparedDialogues(digest, folder, reused=True)
    with writing(folder), _translating(source), _staging(folder) as staging:
        counts = filter_pairs(source, options, count_tokens, staging)
        _check_rows(source, counts)
    _record(ledger, source, options, digest, counts)
    return PreparedDialogues(digest, folder, reused=False)


def drops(ledger: Ledger, dataset_digest: str) -> list[dict[str, Any]]:
    """How many pairs were dropped, per subset, split and reason."""
    with ledger.session() as session:
        return session.rows("datasets/drops", dataset_digest=dataset_digest)


def compare_with_table_6(ledger: Ledger, dataset_digest: str) -> list[dict[str, Any]]:
    """Rows read and kept per subset and split, beside the paper's sizes (`paper_pairs`, Table 6)."""
    with ledger.session() as session:
        return session.rows("datasets/table_6", dataset_digest=dataset_digest)


def _digest(source: DialogueSource, options: FilterOptions) -> str:
    rules = [queries.load(f"dialogues/{name}") for name in RULES]
    text = json.dumps([source.name, source.identity(), asdict(options), rules], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_there(ledger: Ledger, digest: str, folder: Path) -> bool:
    with ledger.session() as session:
        known = session.value("datasets/exists", dataset_digest=digest) is not None
    return known and all((folder / f"{split}.parquet").is_file() for split in SPLITS)


@contextmanager
def _translating(source: DialogueSource) -> Iterator[None]:
    try:
        yield
        return
    except duckdb.Error as error:
        text = str(error).splitlines()[0].strip().rstrip(".")
        out_of_memory = isinstance(error, duckdb.OutOfMemoryException)
    if out_of_memory:
        raise DataError(
            f"{source.location} cannot be prepared: {text}. Expected {filtering.MEMORY} of memory to be enough, with "
            "the disk of the home folder for what is beyond. Make room there, or take fewer subsets (data.subsets)."
        )
    if any(sign in text for sign in NO_ROOM):
        raise StorageFull(f"The data cannot be prepared: {text}. Make room, then run the same command again.")
    raise DataError(
        f"{source.location} cannot be read: {text}. Expected JSON lines with the texts chosen and rejected. "
        "Fetch the file again."
    )


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder that takes `folder`'s place when the block is through, and is removed when it is not."""
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
        shutil.rmtree(folder, ignore_errors=True)
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_rows(source: DialogueSource, counts: Sequence[dict[str, Any]]) -> None:
    for file in _files(counts):
        broken = sum(row["pairs"] for row in _of(counts, file) if row["reason"] == "broken_row")
        if 2 * broken > file["rows_read"]:
            raise DataError(
                f"{source.location}: {broken} of {file['rows_read']} rows of "
                f"{file['subset']}/{file['split']} have no texts chosen and rejected. Expected HH-RLHF's "
                "preference pairs. Is this another data set?"
            )


def _record(
    ledger: Ledger, source: DialogueSource, options: FilterOptions, digest: str, counts: Sequence[dict[str, Any]]
) -> None:
    dropped = [
        {"subset": row["subset"], "split": row["split"], "reason": row["reason"], "pairs_dropped": row["pairs"]}
        for row in counts
        if row["reason"] is not None
    ]
    with ledger.session() as session, session.transaction():
        session.run(
            "datasets/put",
            dataset_digest=digest,
            source=source.name,
            location=source.location,
            options=json.dumps(asdict(options)),
        )
        session.run("datasets/put_files", dataset_digest=digest, rows=_files(counts))
        session.run("datasets/put_drops", dataset_digest=digest, rows=dropped)


def _files(counts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = dict.fromkeys((row["subset"], row["split"]) for row in counts)
    return [_file(counts, subset, split) for subset, split in keys]


def _file(counts: Sequence[dict[str, Any]], subset: str, split: str) -> dict[str, Any]:
    of_file = _of(counts, {"subset": subset, "split": split})
    return {
        "subset": subset,
        "split": split,
        "rows_read": sum(row["pairs"] for row in of_file),
        "pairs_kept": sum(row["pairs"] for row in of_file if row["reason"] is None),
    }


def _of(counts: Sequence[dict[str, Any]], file: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in counts if (row["subset"], row["split"]) == (file["subset"], file["split"])]
