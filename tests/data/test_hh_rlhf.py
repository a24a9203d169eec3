"""HH-RLHF where it lies: a folder in the hub's layout, read as it is or through the hub's loading code."""

import gzip
import json
from pathlib import Path

import pytest

from cyclealign.data.hh_rlhf import DialogueFolder, load_from_hub
from cyclealign.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, subset: str, fields: tuple[str, str] = ("chosen", "rejected")) -> None:
    (folder / subset).mkdir(parents=True)
    for split, size in (("train", 3), ("test", 2)):
        rows = [json.dumps({fields[0]: f"{subset} good {n}", fields[1]: f"bad {n}"}) for n in range(size)]
        (folder / subset / f"{split}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    write(tmp_path, "helpful-base")
    with pytest.raises(DataError, match=r"harmless-base/train.*harmless-base/test.*data\.path"):
        DialogueFolder(tmp_path, ("harmless-base", "helpful-base")).files()


def test_subsets_and_splits_become_one_table(tmp_path: Path) -> None:
    for subset in ("harmless-base", "helpful-base"):
        write(tmp_path / "hub", subset)
    loaded = load_from_hub(str(tmp_path / "hub"), ("harmless-base", "helpful-base"))
    assert loaded.table.column_names == ["subset", "split", "chosen", "rejected"]
    counts = loaded.table.to_pandas().groupby(["subset", "split"]).size().to_dict()
    assert counts == {(subset, split): size for subset in ("harmless-base", "helpful-base")
                      for split, size in (("train", 3), ("test", 2))}  # fmt: skip
    assert "harmless-base good 0" in loaded.table["chosen"].to_pylist()


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "hub", "harmless-base", ("question", "answer"))
    with pytest.raises(DataError, match="expected chosen and rejected"):
        load_from_hub(str(tmp_path / "hub"), ("harmless-base",))


def test_a_data_set_that_cannot_be_loaded_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"data\.source=folder"):
        load_from_hub("nobody/nothing", ("harmless-base",))
