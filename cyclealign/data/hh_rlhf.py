"""HH-RLHF from the hub, through `datasets`: one table over the subsets and splits, and the revision it is of.

Leaves out: files in a folder (DuckDB reads those itself) and the filters (`storage.dialogues`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cyclealign.errors import DataError

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
class HubTable:
    """Rows of HH-RLHF as an arrow table with the columns subset, split, chosen, rejected."""

    name: str
    table: Any
    revision: str


def load_from_hub(name: str, subsets: Sequence[str]) -> HubTable:
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
            table = rows.select_columns(["chosen", "rejected"]).with_format("arrow")[:]
            constant = {key: pa.array([value] * len(rows)) for key, value in (("subset", subset), ("split", split))}
            parts.append(pa.table({**constant, "chosen": table["chosen"], "rejected": table["rejected"]}))
    return HubTable(name, pa.concat_tables(parts), _revision(name) or "-".join(fingerprints))


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
    missing = {"chosen", "rejected"} - set(loaded[split].column_names)
    if missing:
        raise DataError(
            f"{name} ({subset}, {split}) has the columns {', '.join(loaded[split].column_names)}, expected chosen and "
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
