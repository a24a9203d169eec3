"""Samples depend on data, options and seed alone; allocation adds up."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.errors import DataError
from storage import samples
from storage.dialogues import FilterOptions, PreparedDialogues, TableSource, prepare
from storage.ledger import Ledger
from storage.sampling import Draw, allocate, draw_sample, load_pairs

SIZES = {"harmless-base": 40, "helpful-base": 20, "helpful-online": 10}


def table(reverse: bool = False) -> pd.DataFrame:
    rows = [
        (subset, split, *(f"Human: {subset} {split} {n}\n\nAssistant: {kind} {n}" for kind in ("good", "bad")))
        for subset, size in SIZES.items()
        for split in ("train", "test")
        for n in range(size)
    ]
    return pd.DataFrame(rows[::-1] if reverse else rows, columns=["subset", "split", "chosen", "rejected"])


@pytest.fixture
def prepared(ledger: Ledger) -> PreparedDialogues:
    return prepare(ledger, TableSource("world", table(), "1"), FilterOptions())


def drawn(ledger: Ledger, prepared: PreparedDialogues, draw: Draw) -> list[str]:
    return [prompt.instruction for prompt in samples.read(ledger, draw_sample(ledger, prepared, draw))]


def per_subset(instructions: list[str]) -> dict[str, int]:
    return dict(Counter(instruction.split()[1] for instruction in instructions))


def test_a_proportional_sample_follows_the_sizes(ledger: Ledger, prepared: PreparedDialogues) -> None:
    found = drawn(ledger, prepared, Draw("training", seed=0, prompts=35))
    assert per_subset(found) == {"harmless-base": 20, "helpful-base": 10, "helpful-online": 5}
    assert all(" train " in one for one in found)
    assert len(set(found)) == 35


def test_an_equal_sample_gives_each_subset_the_same(ledger: Ledger, prepared: PreparedDialogues) -> None:
    found = drawn(ledger, prepared, Draw("training", seed=0, prompts=20, allocation="equal"))
    assert per_subset(found) == {"harmless-base": 7, "helpful-base": 7, "helpful-online": 6}


def test_evaluation_takes_test_prompts_all_or_some_of_each_subset(ledger: Ledger, prepared: PreparedDialogues) -> None:
    everything = drawn(ledger, prepared, Draw("evaluation", seed=0))
    assert per_subset(everything) == SIZES
    assert all(" test " in one for one in everything)
    some = drawn(ledger, prepared, Draw("evaluation", seed=0, per_subset=4))
    assert per_subset(some) == dict.fromkeys(SIZES, 4)


def test_the_same_seed_draws_the_same_prompts_in_the_same_order_from_reordered_rows(
    tmp_path: Path, ledger: Ledger, prepared: PreparedDialogues
) -> None:
    elsewhere = Ledger(tmp_path / "elsewhere")
    reordered = prepare(elsewhere, TableSource("world", table(reverse=True), "1"), FilterOptions())
    draw = Draw("training", seed=3, prompts=30)
    assert drawn(ledger, prepared, draw) == drawn(elsewhere, reordered, draw)
    assert load_pairs(prepared.folder, "train", pairs=9) == load_pairs(reordered.folder, "train", pairs=9)
    elsewhere.close()


def test_of_the_pairs_of_a_prompt_the_same_one_is_drawn_whatever_the_order_of_rows(
    tmp_path: Path, ledger: Ledger
) -> None:
    # every prompt has six pairs in each of two subsets
    rows = [
        (subset, split, f"Human: {n}\n\nAssistant: good {kind}", f"Human: {n}\n\nAssistant: bad {kind}")
        for subset in ("harmless-base", "helpful-base")
        for split in ("train", "test")
        for n in range(8)
        for kind in range(6)
    ]
    found = []
    for order in (rows, rows[::-1], sorted(rows, key=lambda row: row[::-1])):
        home = Ledger(tmp_path / str(len(found)))
        frame = pd.DataFrame(order, columns=["subset", "split", "chosen", "rejected"])
        repeated = prepare(home, TableSource("world", frame, "1"), FilterOptions(drop_duplicates=False))
        found.append(samples.read_pairs(home, draw_sample(home, repeated, Draw("evaluation", 0, prompts=8))))
        home.close()
    assert found[0] == found[1] == found[2]
    assert {pair.prompt.instruction for pair in found[0]} == {f"Human: {n}\n\nAssistant:" for n in range(8)}


def test_another_seed_draws_other_prompts(ledger: Ledger, prepared: PreparedDialogues) -> None:
    one = drawn(ledger, prepared, Draw("training", seed=1, prompts=30))
    two = drawn(ledger, prepared, Draw("training", seed=2, prompts=30))
    assert set(one) != set(two)


def test_the_order_of_a_sample_mixes_the_subsets(ledger: Ledger, prepared: PreparedDialogues) -> None:
    found = drawn(ledger, prepared, Draw("training", seed=0, prompts=35))
    subsets = [instruction.split()[1] for instruction in found]
    assert sum(a != b for a, b in pairwise(subsets)) > 8


def test_prompts_that_are_spoken_for_are_never_drawn(ledger: Ledger, prepared: PreparedDialogues) -> None:
    pairs = load_pairs(prepared.folder, "train", subsets=["helpful-online"], pairs=6)
    taken = tuple(pair.prompt.prompt_id for pair in pairs)
    left = Draw("training", seed=0, prompts=64, excluded=taken)
    assert {pair.prompt.instruction for pair in pairs}.isdisjoint(drawn(ledger, prepared, left))
    with pytest.raises(DataError, match="Found 64 prompts after filtering"):
        draw_sample(ledger, prepared, Draw("training", seed=0, prompts=65, excluded=taken))


def test_a_sample_drawn_before_is_used_again(ledger: Ledger, prepared: PreparedDialogues) -> None:
    draw = Draw("training", seed=0, prompts=5)
    digest = draw_sample(ledger, prepared, draw)
    (prepared.folder / "train.parquet").unlink()
    assert draw_sample(ledger, prepared, draw) == digest


@pytest.mark.parametrize(
    "draw",
    [
        Draw("training", seed=0, prompts=71),
        Draw("training", seed=0, prompts=60, allocation="equal"),
        Draw("evaluation", seed=0, per_subset=11),
    ],
    ids=["total", "equal share", "per subset"],
)
def test_asking_for_more_than_exists_says_how_many_exist(
    ledger: Ledger, prepared: PreparedDialogues, draw: Draw
) -> None:
    with pytest.raises(DataError, match=r"Found 70 .*harmless-base 40, helpful-base 20, helpful-online 10"):
        draw_sample(ledger, prepared, draw)


@given(sizes=st.dictionaries(st.sampled_from("abcde"), st.integers(0, 50), min_size=1), share=st.floats(0, 1))
def test_a_proportional_allocation_adds_up_and_is_within_one_of_exact(sizes: dict[str, int], share: float) -> None:
    total = sum(sizes.values())
    prompts = int(total * share)
    quotas = allocate(sizes, prompts, "proportional")
    assert sum(quotas.values()) == prompts
    for subset, size in sizes.items():
        assert abs(quotas.get(subset, 0) - (prompts * size / total if total else 0)) < 1


def test_pairs_can_be_restricted_to_subsets_and_a_number(prepared: PreparedDialogues) -> None:
    found = load_pairs(prepared.folder, "train", subsets=["helpful-online", "helpful-base"], pairs=12, seed=5)
    assert len(found) == 12
    assert {pair.prompt.subset for pair in found} <= {"helpful-online", "helpful-base"}
    assert found[:4] == load_pairs(
        prepared.folder, "train", subsets=["helpful-base", "helpful-online"], pairs=4, seed=5
    )


def test_a_folder_without_prepared_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prepare the data again"):
        load_pairs(tmp_path, "train")
