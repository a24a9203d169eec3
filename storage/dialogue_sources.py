"""Where HH-RLHF's rows come from: a folder in the hub's layout, or a table that was loaded elsewhere.

A source knows its identity (so that prepared data can be reused) and puts a view `source_rows` into a
connection.
"""

import gzip
import hashlib
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Protocol

import duckdb

from cyclealign.errors import DataError
from cyclealign.records import SUBSETS
from storage import queries

SPLITS = ("train", "test")
COLUMNS = ("subset", "split", "chosen", "rejected")


class DialogueSource(Protocol):
    """What `storage.dialogues.prepare` reads from."""

    @property
    def name(self) -> str:
        """`folder`, or what the table is called."""

    @property
    def location(self) -> str:
        """Where it was found, for people."""

    def identity(self) -> Any:
        """Plain values that change whenever the rows change."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the view `source_rows` with the columns subset, split, chosen, rejected."""


@dataclass(frozen=True)
class FolderSource:
    """Files `<subset>/{train,test}.jsonl.gz` with the fields `chosen` and `rejected`."""

    folder: Path
    subsets: tuple[str, ...] = SUBSETS
    name: str = "folder"

    @property
    def location(self) -> str:
        """The folder."""
        return str(self.folder)

    def files(self) -> dict[str, Path]:
        """The files by `<subset>/<split>`.

        Raises:
            DataError: the folder or a file is missing; the message lists every file that is.
        """
        found = {
            f"{subset}/{split}": self.folder / subset / f"{split}.jsonl.gz"
            for subset in self.subsets
            for split in SPLITS
        }
        missing = [str(path) for path in found.values() if not path.is_file()]
        if missing:
            raise DataError(
                f"No HH-RLHF files at {', '.join(missing)}. Expected <subset>/train.jsonl.gz and "
                f"test.jsonl.gz for {', '.join(self.subsets)} in {self.folder}. Set data.path to the folder "
                f"that has them, or data.subsets to those that are there."
            )
        return found

    def identity(self) -> Any:
        """Size and sha-256 of every file; where the folder lies does not matter."""
        return {name: [path.stat().st_size, _sha256(path)] for name, path in self.files().items()}

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the view over the files.

        Raises:
            DataError: a file is missing or no gzip file.
        """
        files = self.files()
        for path in files.values():
            _check_gzip(path)
        # DuckDB reads paths as patterns
        # a compressed file is read by one thread: whoever gets the largest should get it first
        by_size = sorted(files.values(), key=lambda path: path.stat().st_size, reverse=True)
        paths = [escape(str(path.absolute())) for path in by_size]
        connection.execute("set variable files = $files", {"files": paths})
        connection.execute(queries.load("dialogues/source_files"))


@dataclass(frozen=True)
class TableSource:
    """A pandas or arrow table with the columns subset, split, chosen, rejected."""

    name: str
    table: Any
    revision: str
    """Changes whenever the rows change: the hub's revision, or a digest."""

    @property
    def location(self) -> str:
        """Name and revision."""
        return f"{self.name}@{self.revision}"

    def identity(self) -> Any:
        """Name and revision."""
        return [self.name, self.revision]

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the view over the table.

        Raises:
            DataError: a column is missing.
        """
        connection.register("source_table", self.table)
        found = [column[0] for column in connection.table("source_table").description]
        missing = [column for column in COLUMNS if column not in found]
        if missing:
            raise DataError(
                f"The table {self.name} has the columns {', '.join(found)}, expected {', '.join(COLUMNS)}. "
                f"Is it HH-RLHF?"
            )
        connection.execute(queries.load("dialogues/source_table"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_gzip(path: Path) -> None:
    try:
        with gzip.open(path) as file:
            empty = not file.read(1)
    except (OSError, EOFError) as error:
        problem = f"is no gzip file ({error})"
    else:
        if not empty:
            return
        problem = "is empty"
    raise DataError(f"{path} {problem}, expected gzip-compressed JSON lines. Fetch the file again.")
