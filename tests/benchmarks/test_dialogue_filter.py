"""Both sides keep the same of made-up pairs, of which every rule drops some; and the rows' arithmetic."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import made_up_dialogues
from benchmarks.dialogue_filter import Outcome, in_fresh_process, loop, ours, rows_of
from benchmarks.measuring import peak_mib
from benchmarks.plain_loop import read
from cyclealign.data.hh_rlhf import DialogueFolder
from cyclealign.settings import DataSettings
from storage.dialogues import drops, prepare
from storage.ledger import Ledger

OURS = Outcome(seconds=2.0, peak_mib=700.0, kept=9, digest="a digest", drawn={"helpful-base": 3})
LOOP = replace(OURS, seconds=12.0, peak_mib=900.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_dialogues.write(tmp_path_factory.mktemp("pairs"), pairs=2_000)


def test_both_sides_keep_the_same_pairs_and_draw_as_many_of_each_subset(files: Path) -> None:
    first, second = ours(files, prompts=100), loop(files, prompts=100)
    assert (first.kept, first.digest, first.drawn) == (second.kept, second.digest, second.drawn)
    assert sum(first.drawn.values()) == 100
    assert 1_400 < first.kept < 1_900


def test_every_rule_drops_some_of_the_made_up_pairs(files: Path, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    prepared = prepare(ledger, DialogueFolder(files), DataSettings(source="folder", paragraphs="drop"))
    reasons = {row["reason"] for row in drops(ledger, prepared.dataset_digest)}
    by_itself = {
        "broken_row",
        "no_assistant_turn",
        "different_turns",
        "not_human_first",
        "ends_with_human",
        "prompt_differs",
        "empty_reply",
        "identical_replies",
    }
    assert reasons == by_itself | {"duplicate_prompt", "test_prompt"}


def test_equal_seeds_give_equal_pairs_in_files_of_the_papers_proportions(files: Path, tmp_path: Path) -> None:
    again = list(read(made_up_dialogues.write(tmp_path, pairs=2_000)))
    assert again == list(read(files))
    assert len(again) == pytest.approx(2_000, abs=8)
    assert sum(subset == "helpful-rejection-sampled" for subset, *_ in again) == 619 + 32


def test_a_side_tells_what_it_did_from_a_process_of_its_own(files: Path) -> None:
    outcome = in_fresh_process("loop", files)
    assert replace(outcome, seconds=0.0, peak_mib=0.0) == replace(loop(files), seconds=0.0, peak_mib=0.0)


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No HH-RLHF files"):
        in_fresh_process("ours", tmp_path)


def test_the_rows_are_how_many_times_faster_and_our_memory() -> None:
    speed, memory = rows_of([OURS, replace(OURS, seconds=3.0)], [LOOP, LOOP])
    assert speed.values == (6.0, 4.0)
    assert "2.5 s against 12.0 s; 9 pairs kept" in (speed.note or "")
    assert (memory.values, memory.unit, memory.missed) == ((700.0, 700.0), "MiB", False)


@pytest.mark.parametrize("other", [{"digest": "another"}, {"kept": 8}, {"drawn": {"helpful-base": 2}}])
def test_sides_with_other_results_are_no_comparison(other: dict[str, object]) -> None:
    with pytest.raises(RuntimeError, match="expected the same pairs and samples"):
        rows_of([OURS], [replace(LOOP, **other)])  # type: ignore[arg-type]


def test_the_peak_grows_with_what_is_held() -> None:
    before = peak_mib()
    held = b"x" * int((before + 64) * 2**20)
    assert peak_mib() > before + 32
    assert json.dumps(len(held))
