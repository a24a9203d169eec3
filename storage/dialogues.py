"""HH-RLHF filtered: split into turns, every drop counted under its reason, what stays stored as Parquet.

DuckDB does the work column by column (`sql/dialogues/`); rows never become Python objects here, except the prompts
whose tokens are counted. Leaves out: where rows come from (`cyclealign.data.hh_rlhf`), drawing samples
(`storage.sampling`). Paper: Section 3.1, Table 6.
"""

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import duckdb

from cyclealign.data.hh_rlhf import SPLITS, DialogueFolder, DialogueSource
from cyclealign.disk import writing
from cyclealign.errors import DataError, StorageFull
from cyclealign.settings import DataSettings
from storage import queries
from storage.facts import fact
from storage.faults import NO_ROOM
from storage.ledger import Ledger

FILTERS = ("paragraphs", "drop_empty", "drop_identical", "drop_duplicates", "max_prompt_tokens")
"""The settings that decide which pairs stay."""
RULES = ("macros", "parse", "decide")
"""The statements that decide which pairs stay: a change of one makes another data set."""
TOKEN_BATCH = 1024
MEMORY = "768MB"
"""Beyond it DuckDB moves to disk."""
THREADS = 4
"""At most: each takes tens of megabytes, and 16 of them do not get through HH-RLHF on that memory."""
ROW_GROUP = 20_480
"""Rows that one thread compresses, and keeps in memory, at a time; a multiple of DuckDB's 2048."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts the tokens of prompts as the ranking prompt shows them."""

    tokenizer: str
    """Identity: another tokenizer makes another data set."""
    count: Callable[[list[str]], list[int]]


@dataclass(frozen=True, slots=True)
class PreparedDialogues:
    """A filtered data set: `train.parquet` and `test.parquet` in a folder named after its digest."""

    dataset_digest: str
    folder: Path
    reused: bool
    """Whether it was there already."""


@fact("prepared_datasets")
@dataclass(frozen=True, slots=True)
class PreparedDataset:
    """A filtered data set as the ledger keeps it."""

    dataset_digest: str
    source: str
    location: str
    options: Row
    files: Sequence[Row]
    """Rows read and pairs kept, per subset and split."""
    drops: Sequence[Row]
    """Pairs dropped, per subset, split and reason."""


def prepare(
    ledger: Ledger, source: DialogueSource, settings: DataSettings, tokens: TokenCounter | None = None
) -> PreparedDialogues:
    """Filter a source, unless the same rows were filtered under the same settings before.

    Args:
        ledger: Gets the counts; the files go below its home.
        source: Where the rows come from.
        settings: Those of `FILTERS` decide which pairs stay.
        tokens: Needed when `settings.max_prompt_tokens` is set.

    Raises:
        DataError: a file is missing, broken or not HH-RLHF, or takes more memory than there is.
        StorageFull: the disk is full or read-only.
    """
    if (settings.max_prompt_tokens is None) != (tokens is None):
        raise ValueError("max_prompt_tokens and a token counter belong together: give both or neither.")
    options = settings.model_dump(include=set(FILTERS)) | {"tokenizer": tokens and tokens.tokenizer}
    rules = [queries.load(f"dialogues/{name}") for name in RULES]
    identity = json.dumps([source.name, source.identity(), options, rules], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = ledger.home / "data" / digest
    if _is_there(ledger, digest, folder):
        return PreparedDialogues(digest, folder, reused=True)
    with writing(folder), _translating(source), _staging(folder) as staging:
        files, dropped = _filter(source, options, tokens, staging)
        _refuse_other_rows(source, files, dropped)
    ledger.record(PreparedDataset(digest, source.name, source.location, options, files, dropped))
    return PreparedDialogues(digest, folder, reused=False)


def filter_counts(ledger: Ledger, dataset_digest: str) -> list[Row]:
    """Rows read, dropped (`drops`: pairs by reason, None for none) and kept per subset and split.

    The paper's sizes stand beside (`paper_pairs`, Table 6; None for other subsets).
    """
    with ledger.session() as session:
        return session.rows("questions/filter_counts", dataset_digest=dataset_digest)


def set_variable(connection: duckdb.DuckDBPyConnection, name: str, value: Any) -> None:
    """Set what statements read with `getvariable`."""
    connection.execute(f"set variable {name} = $value", {"value": value})


def _is_there(ledger: Ledger, digest: str, folder: Path) -> bool:
    with ledger.session() as session:
        known = session.rows("with_ids", this_table="prepared_datasets", this_id="dataset_digest", ids=[digest])
    return bool(known) and all((folder / f"{split}.parquet").is_file() for split in SPLITS)


def _filter(
    source: DialogueSource, options: Row, tokens: TokenCounter | None, staging: Path
) -> tuple[list[Row], list[Row]]:
    """Write `train.parquet` and `test.parquet`; returns what was read and kept per file, and dropped per reason."""
    config: dict[str, Any] = {
        "memory_limit": MEMORY,
        "temp_directory": str(staging / "spilled"),
        "threads": min(THREADS, os.cpu_count() or 1),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=config) as connection:
        for name in FILTERS:
            set_variable(connection, name, options[name])
        connection.execute(queries.load("dialogues/macros"))
        _attach(connection, source)
        connection.execute(queries.load("dialogues/parse"))
        if tokens is not None:
            _count(connection, tokens)
        connection.execute(queries.load("dialogues/decide"))
        for split in SPLITS:
            # a variable and not a parameter: with one, DuckDB puts the whole result into memory before it is written
            set_variable(connection, "split", split)
            kept = connection.table("kept")
            kept.write_parquet(str(staging / f"{split}.parquet"), compression="zstd", row_group_size=ROW_GROUP)
        return connection.table("files").to_dicts(), connection.table("drops").to_dicts()


def _attach(connection: duckdb.DuckDBPyConnection, source: DialogueSource) -> None:
    """Make `source_rows` with the columns subset, split, chosen, rejected."""
    if not isinstance(source, DialogueFolder):
        connection.register("source_rows", source.table)
        return
    files = source.files().values()
    for path in files:
        _check_readable(path)
    # one thread reads a compressed file: the one with the largest should begin first
    by_size = sorted(files, key=lambda path: path.stat().st_size, reverse=True)
    set_variable(
        connection, "files", [escape(str(path.absolute())) for path in by_size]
    )  # DuckDB reads paths as patterns
    connection.execute(queries.load("dialogues/source_files"))


def _count(connection: duckdb.DuckDBPyConnection, tokens: TokenCounter) -> None:
    import pyarrow as pa  # noqa: PLC0415  takes memory that filtering without a limit does not need

    for batch in connection.cursor().table("prompts").to_arrow_reader(TOKEN_BATCH):
        counted = tokens.count(batch["instruction"].to_pylist())
        connection.from_arrow(pa.table([batch["prompt_id"], counted], ["prompt_id", "tokens"])).insert_into(
            "prompt_tokens"
        )


def _check_readable(path: Path) -> None:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            empty = not file.read(1)
    except (OSError, EOFError) as error:
        problem = f"is no gzip file ({error})"
    else:
        if not empty:
            return
        problem = "is empty"
    raise DataError(f"{path} {problem}, expected JSON lines (.jsonl.gz: compressed by gzip). Fetch the file again.")


def _refuse_other_rows(source: DialogueSource, files: Sequence[Row], dropped: Sequence[Row]) -> None:
    read = {(file["subset"], file["split"]): file["rows_read"] for file in files}
    for one in dropped:
        subset, split, broken = one["subset"], one["split"], one["pairs_dropped"]
        if one["reason"] == "broken_row" and 2 * broken > read[subset, split]:
            raise DataError(
                f"{source.location}: {broken} of {read[subset, split]} rows of {subset}/{split} have no texts chosen "
                "and rejected. Expected HH-RLHF's preference pairs. Is this another data set?"
            )


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
            f"{source.location} cannot be prepared: {text}. Expected {MEMORY} of memory to be enough, with "
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
