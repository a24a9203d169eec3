"""The generated dialogues."""

import gzip
import json
from pathlib import Path

import pytest

from cyclealign.offline.grader import grade
from cyclealign.offline.settings import WorldSettings
from cyclealign.offline.world import mixed_pairs, pairs, reading_matter, write_world
from cyclealign.records import SUBSETS

SETTINGS = WorldSettings(train_pairs=80, test_pairs=40)


def rows_of(folder: Path, subset: str, split: str) -> list[dict[str, str]]:
    text = gzip.decompress((folder / subset / f"{split}.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def prompt_text(row: dict[str, str]) -> str:
    return row["chosen"].rpartition("\n\nAssistant:")[0]


def test_equal_settings_write_equal_bytes(tmp_path: Path) -> None:
    write_world(tmp_path / "one", SETTINGS)
    write_world(tmp_path / "two", SETTINGS)
    write_world(tmp_path / "other", SETTINGS.model_copy(update={"seed": 1}))
    for file in sorted((tmp_path / "one").rglob("*.gz")):
        name = file.relative_to(tmp_path / "one")
        assert file.read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert file.read_bytes() != (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("subset", SUBSETS)
def test_files_stand_in_the_layout_of_the_hub(tmp_path: Path, subset: str) -> None:
    write_world(tmp_path, SETTINGS)
    assert len(rows_of(tmp_path, subset, "train")) == 20
    assert len(rows_of(tmp_path, subset, "test")) == 10
    for row in rows_of(tmp_path, subset, "train"):
        assert set(row) == {"chosen", "rejected"}
        assert row["chosen"].startswith("\n\nHuman: ")
        assert row["rejected"].startswith(prompt_text(row) + "\n\nAssistant: ")


def test_no_test_prompt_is_ever_a_training_prompt() -> None:
    for subset in SUBSETS:
        training = {pair.prompt.prompt_id for pair in pairs(1, subset, "train", 400)}
        held_out = {pair.prompt.prompt_id for pair in pairs(2, subset, "test", 100)}
        assert not training & held_out


def test_about_88_percent_of_the_labels_agree_with_the_truth() -> None:
    labelled = mixed_pairs(3, 1500)
    gaps = [grade(one.prompt, one.chosen).quality - grade(one.prompt, one.rejected).quality for one in labelled]
    told_apart = [gap for gap in gaps if gap]
    assert 0.85 < sum(gap > 0 for gap in told_apart) / len(told_apart) < 0.92


def test_better_reading_matter_holds_more_good_answers() -> None:
    def mean_quality(good_share: float) -> float:
        return sum(grade(*example).quality for example in reading_matter(5, 400, good_share)) / 400

    assert mean_quality(0.0) + 0.2 < mean_quality(0.6) < mean_quality(1.0)
