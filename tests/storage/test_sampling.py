"""Samples depend on data, options and seed alone, and come back in their order."""

from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclealign.errors import DataError
from cyclealign.settings import DataSettings
from storage import samples
from storage.dialogues import PreparedDialogues, prepare
from storage.ledger import Ledger
from storage.sampling import Draw, allocate, draw_sample, load_pairs
from tests.storage.values import dialogue_table, pair

FILTERED = DataSettings(source="hub")
SIZES = {"harmless-base": 40, "helpful-base": 20, "helpful-online": 10}


ROWS = [
    (subset, split, *(f"Human: {subset} {split} {n}\n\nAssistant: {kind} {n}" for kind in ("good", "bad")))
    for subset, size in SIZES.items()
    for split in ("train", "test")
    for n in range(size)
]


@pytest.fixture
def prepared(ledger: Ledger) -> PreparedDialogues:
    return prepare(ledger, dialogue_table(ROWS), FILTERED)


def drawn(ledger: Ledger, prepared: PreparedDialogues, draw: Draw) -> list[str]:
    return [prompt.instruction for prompt in samples.read(ledger, draw_sample(ledger, prepared, draw))]


def per_subset(instructions: list[str]) -> dict[str, int]:
    return dict(Counter(instruction.split()[1] for instruction in instructions))


def test_a_proportional_sample_follows_the_sizes_and_mixes_the_subsets(
    ledger: Ledger, prepared: PreparedDialogues
) -> None:
    found = drawn(ledger, prepared, Draw("training", seed=0, prompts=35))
    assert per_subset(found) == {"harmless-base": 20, "helpful-base": 10, "helpful-online": 5}
    assert all(" train " in one for one in found)
    assert len(set(found)) == 35
    assert sum(a.split()[1] != b.split()[1] for a, b in pairwise(found)) > 8
    assert set(found) != set(drawn(ledger, prepared, Draw("training", seed=1, prompts=35)))


@pytest.mark.parametrize(
    ("draw", "split", "expected"),
    [
        (Draw("training", seed=0, prompts=20, allocation="equal"), "train", (7, 7, 6)),
        (Draw("evaluation", seed=0), "test", (40, 20, 10)),
        (Draw("evaluation", seed=0, per_subset=4), "test", (4, 4, 4)),
    ],
    ids=["equal", "all test prompts", "some of each subset"],
)
def test_each_subset_gives_its_share(
    ledger: Ledger, prepared: PreparedDialogues, draw: Draw, split: str, expected: tuple[int, ...]
) -> None:
    found = drawn(ledger, prepared, draw)
    assert per_subset(found) == dict(zip(SIZES, expected, strict=True))
    assert all(f" {split} " in one for one in found)


def test_the_same_seed_draws_the_same_prompts_in_the_same_order_from_reordered_rows(
    tmp_path: Path, ledger: Ledger, prepared: PreparedDialogues
) -> None:
    elsewhere = Ledger(tmp_path / "elsewhere")
    reordered = prepare(elsewhere, dialogue_table(ROWS[::-1]), FILTERED)
    draw = Draw("training", seed=3, prompts=30)
    assert drawn(ledger, prepared, draw) == drawn(elsewhere, reordered, draw)
    assert load_pairs(prepared.folder, "train") == load_pairs(reordered.folder, "train")
    elsewhere.close()


def test_of_the_pairs_of_a_prompt_the_same_one_is_drawn_whatever_the_order_of_rows(
    tmp_path: Path, ledger: Ledger
) -> None:
    # every prompt has six pairs in each of two subsets
    kinds = product(("harmless-base", "helpful-base"), ("train", "test"), range(8), range(6))
    rows = [
        (subset, split, f"Human: {n}\n\nAssistant: good {kind}", f"Human: {n}\n\nAssistant: bad {kind}")
        for subset, split, n, kind in kinds
    ]
    found = []
    for place, order in enumerate((rows, rows[::-1], sorted(rows, key=lambda row: row[::-1]))):
        home = Ledger(tmp_path / str(place))  # of its own: a ledger keeps a prompt as it came first
        repeated = prepare(home, dialogue_table(order), FILTERED.model_copy(update={"drop_duplicates": False}))
        found.append(samples.read_pairs(home, draw_sample(home, repeated, Draw("evaluation", 0, prompts=8))))
        home.close()
    assert found[0] == found[1] == found[2]
    assert {pair.prompt.instruction for pair in found[0]} == {f"Human: {n}\n\nAssistant:" for n in range(8)}


def test_excluded_prompts_are_never_drawn(ledger: Ledger, prepared: PreparedDialogues) -> None:
    pairs = [one for one in load_pairs(prepared.folder, "train") if one.prompt.subset == "helpful-online"][:6]
    taken = tuple(one.prompt.prompt_id for one in pairs)
    left = Draw("training", seed=0, prompts=64, excluded=taken)
    assert {one.prompt.instruction for one in pairs}.isdisjoint(drawn(ledger, prepared, left))
    with pytest.raises(DataError, match="Found 64 prompts after filtering"):
        draw_sample(ledger, prepared, Draw("training", seed=0, prompts=65, excluded=taken))


def test_a_sample_drawn_before_is_used_again(ledger: Ledger, prepared: PreparedDialogues) -> None:
    draw = Draw("training", seed=0, prompts=5)
    digest = draw_sample(ledger, prepared, draw)
    (prepared.folder / "train.parquet").unlink()
    assert draw_sample(ledger, prepared, draw) == digest
    with pytest.raises(DataError, match="prepare the data again"):
        load_pairs(prepared.folder, "train")


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


def test_a_sample_comes_back_in_its_order_and_may_share_prompts(ledger: Ledger) -> None:
    pairs = (pair("zebra"), pair("ape"), pair("lion", subset="helpful-base"))
    for digest, chosen in 2 * (("s", pairs), ("t", pairs[:2])):
        samples.put(ledger, digest, "training", "d", chosen)
    assert samples.read_pairs(ledger, "s") == list(pairs)
    assert samples.read_pairs(ledger, "t") == list(pairs[:2])
    with pytest.raises(DataError, match="No sample 'u'"):
        samples.read(ledger, "u")
