"""HH-RLHF where it lies: files in a folder, or a table loaded from the hub through `datasets`.

Each knows its identity, so that prepared data can be reused. Leaves out reading the files, which DuckDB does, and the
filters (`storage.dialogues`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cyclealign.errors import DataError
from cyclealign.records import SUBSETS

SPLITS = ("train", "test")
TABLE_6: Final[Mapping[str, int]] = {
    "harmless-base/train": 42_537,
    "harmless-base/test": 2_312,
    "helpful-base/train": 43_835,
    "helpful-base/test": 2_354,
    "helpful-online/train": 22_007,
    "helpful-online/test": 1_137,
    "helpful-rejection-sampled/train": 52_421,
    "helpful-rejection-sampled/test": 2_749,
}
"""Pairs of HH-RLHF by file, before any filter. Paper: Table 6."""


@dataclass(frozen=True)
class DialogueFolder:
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
        names = [f"{subset}/{split}" for subset in self.subsets for split in SPLITS]
        found = {name: self.folder / f"{name}.jsonl.gz" for name in names}
        plain = {name: path.with_suffix("") for name, path in found.items()}
        found |= {name: path for name, path in plain.items() if path.is_file() and not found[name].is_file()}
        missing = [str(path) for path in found.values() if not path.is_file()]
        if missing:
            raise DataError(
                f"No HH-RLHF files at {', '.join(missing)}. Expected <subset>/train.jsonl.gz and test.jsonl.gz, or "
                f".jsonl, for {', '.join(self.subsets)} in {self.folder}. Set data.path to the folder that has them, "
                "or data.subsets to those that are there."
            )
        return found

    def identity(self) -> Any:
        """Size and sha-256 of every file; where the folder lies does not matter."""
        return {name: [path.stat().st_size, _sha256(path)] for name, path in self.files().items()}


@dataclass(frozen=True)
class DialogueTable:
    """Rows as a pandas or arrow table with the columns subset, split, chosen, rejected."""

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


DialogueSource = DialogueFolder | DialogueTable


def load_from_hub(name: str, subsets: Sequence[str]) -> DialogueTable:
    """Download (or read from the local cache) the subsets of a data set on the hub.

    `name` may also be a folder in the hub's layout, which goes through the same loading code.

    Raises:
        DataError: the hub cannot be reached, has no such data set, or its rows are not preference pairs.
    """
    import datasets  # noqa: PLC0415  slow to import
    import pyarrow as pa  # noqa: PLC0415

    datasets.disable_progress_bars()
    parts, fingerprints = [], []
    for subset in subsets:
        loaded = _load(datasets, name, subset)
        for split in SPLITS:
            rows = _split(loaded, name, subset, split)
            fingerprints.append(str(rows._fingerprint))
            texts = rows.select_columns(["chosen", "rejected"]).with_format("arrow")[:]
            names = {key: pa.array([value] * len(rows)) for key, value in (("subset", subset), ("split", split))}
            parts.append(pa.table({**names, "chosen": texts["chosen"], "rejected": texts["rejected"]}))
    return DialogueTable(name, pa.concat_tables(parts), _revision(name) or "-".join(fingerprints))


def _load(datasets: Any, name: str, subset: str) -> Any:
    try:
        return datasets.load_dataset(name, data_dir=subset)
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    raise DataError(
        f"{name} ({subset}) cannot be loaded from the hub: {problem}. Expected the data set Anthropic/hh-rlhf. "
        f"Check the network, or give a folder in the hub's layout: data.source=folder data.path=FOLDER."
    )


def _split(loaded: Any, name: str, subset: str, split: str) -> Any:
    if split not in loaded:
        raise DataError(f"{name} ({subset}) has the splits {', '.join(loaded)}, expected train and test.")
    columns = loaded[split].column_names
    if not {"chosen", "rejected"} <= set(columns):
        raise DataError(
            f"{name} ({subset}, {split}) has the columns {', '.join(columns)}, expected chosen and "
            f"rejected. Is this another data set?"
        )
    return loaded[split]


def _revision(name: str) -> str | None:
    """The commit of the data set on the hub; None for a folder, or when only the cache can be read."""
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled  # noqa: PLC0415

    try:
        found: str | None = HfApi().dataset_info(name).sha
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
        return None
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
