"""The filters of HH-RLHF as DuckDB runs them: split into turns, count tokens, decide, write what stays.

Leaves out: where rows come from (`storage.dialogue_sources`) and what is recorded (`storage.dialogues`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from cyclealign.settings import DataSettings
from storage import queries
from storage.dialogue_sources import SPLITS, DialogueSource

CountTokens = Callable[[list[str]], list[int]]
"""Token counts of prompts as the ranking prompt shows them."""
TOKEN_BATCH = 1024
MEMORY = "768MB"
"""Beyond it DuckDB moves to disk."""
THREADS = 4
"""At most: each holds tens of megabytes, and 16 of them do not get through HH-RLHF on that memory."""
ROW_GROUP = 20_480
"""Rows that one thread compresses, and holds in memory, at a time; a multiple of DuckDB's 2048."""
RULES = ("macros", "parse", "decide")
"""The statements that decide what stays; a change of them makes another data set."""


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which pairs stay; see docs on `data` in `cyclealign.settings`."""

    paragraphs: Literal["keep", "drop"] = "keep"
    drop_identical: bool = True
    drop_empty: bool = True
    drop_duplicates: bool = True
    max_prompt_tokens: int | None = None
    tokenizer: str | None = None
    """Identity of what counts tokens; only stored, so that another tokenizer makes another data set."""

    @classmethod
    def of(cls, settings: DataSettings, tokenizer: str | None = None) -> "FilterOptions":
        """The options that a profile's data settings ask for."""
        return cls(
            paragraphs=settings.paragraphs,
            drop_identical=settings.drop_identical,
            drop_empty=settings.drop_empty,
            drop_duplicates=settings.drop_duplicates,
            max_prompt_tokens=settings.max_prompt_tokens,
            tokenizer=tokenizer if settings.max_prompt_tokens else None,
        )


def filter_pairs(
    source: DialogueSource, options: FilterOptions, count_tokens: CountTokens | None, staging: Path
) -> list[dict[str, Any]]:
    """Write `train.parquet` and `test.parquet` into a folder; returns the counts by subset, split and reason.

    The reason of pairs that stay is None.
    """
    with duckdb.connect(
        config={
            "memory_limit": MEMORY,
            "temp_directory": str(staging / "spilled"),
            "threads": min(THREADS, os.cpu_count() or 1),
        }
    ) as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.execute(queries.load("dialogues/macros"))
        source.attach(connection)
        _set(connection, "keep_paragraphs", options.paragraphs == "keep")
        _set(connection, "drop_empty", options.drop_empty)
        _set(connection, "drop_identical", options.drop_identical)
        connection.execute(queries.load("dialogues/parse"))
        _count(connection, count_tokens)
        _set(connection, "drop_duplicates", options.drop_duplicates)
        _set(connection, "max_prompt_tokens", options.max_prompt_tokens)
        connection.execute(queries.load("dialogues/decide"))
        for split in SPLITS:
            # a variable and not a parameter: with one, DuckDB puts the whole result into memory before it is written
            _set(connection, "split", split)
            kept = connection.sql(queries.load("dialogues/kept"))
            kept.write_parquet(str(staging / f"{split}.parquet"), compression="zstd", row_group_size=ROW_GROUP)
        return _rows(connection.execute(queries.load("dialogues/counts")))


def _count(connection: duckdb.DuckDBPyConnection, count_tokens: CountTokens | None) -> None:
    connection.execute(queries.load("dialogues/prompt_tokens"))
    if count_tokens is None:
        return
    prompts = connection.cursor().execute(queries.load("dialogues/prompts"))
    while batch := prompts.fetchmany(TOKEN_BATCH):
        counted = count_tokens([instruction for _, instruction in batch])
        rows = [
            {"prompt_id": prompt_id, "tokens": tokens} for (prompt_id, _), tokens in zip(batch, counted, strict=True)
        ]
        connection.execute(queries.load("dialogues/put_prompt_tokens"), {"rows": rows})


def _set(connection: duckdb.DuckDBPyConnection, name: str, value: Any) -> None:
    connection.execute(f"set variable {name} = $value", {"value": value})


def _rows(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
