"""Packed rows: who sees whom, at which position, and which position predicts which token."""

import pytest
import torch

from cyclealign.white_box.sequence_scores import Span, pack

ROWS = [([1, 2, 3], [[4, 5], [6]]), ([7], [[8, 9, 10]])]


def test_a_row_is_the_prompt_once_and_every_response_behind_it() -> None:
    packed = pack(ROWS, pad_id=0, like=torch.zeros(1))
    assert packed.token_ids.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 0]]
    assert packed.spans == [[Span(3, 3, 5), Span(3, 5, 6)], [Span(1, 1, 4)]]


def test_positions_restart_after_the_prompt() -> None:
    packed = pack(ROWS, pad_id=0, like=torch.zeros(1))
    assert packed.position_ids[0].tolist() == [0, 1, 2, 3, 4, 3]
    assert packed.position_ids[1, :4].tolist() == [0, 1, 2, 3]


def test_a_response_sees_the_prompt_and_its_own_past_and_nothing_else() -> None:
    visible = pack(ROWS, pad_id=0, like=torch.zeros(1)).attention_mask[0, 0] == 0
    prompt, first, second = {0, 1, 2}, {3, 4}, {5}
    for query in range(6):
        own = next(group for group in (prompt, first, second) if query in group)
        expected = {key for key in prompt | own if key <= query}
        assert set(visible[query].nonzero().flatten().tolist()) == expected


def test_padding_is_seen_by_nobody_and_sees_itself_so_that_no_softmax_is_empty() -> None:
    visible = pack(ROWS, pad_id=0, like=torch.zeros(1)).attention_mask[1, 0] == 0
    assert not visible[:4, 4:].any()
    assert visible.any(-1).all()


def test_a_pad_id_that_means_something_changes_nothing_but_the_filling() -> None:
    ours, other = pack(ROWS, pad_id=0, like=torch.zeros(1)), pack(ROWS, pad_id=10, like=torch.zeros(1))
    assert torch.equal(ours.attention_mask, other.attention_mask)
    assert [tensor.tolist() for tensor in ours.predicting_positions()] == [
        tensor.tolist() for tensor in other.predicting_positions()
    ]


def test_every_first_token_is_predicted_by_the_prompts_last() -> None:
    rows, columns, targets = pack(ROWS, pad_id=0, like=torch.zeros(1)).predicting_positions()
    assert rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert columns.tolist() == [2, 3, 2, 0, 1, 2]
    assert targets.tolist() == [4, 5, 6, 8, 9, 10]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_mask_has_the_models_dtype(dtype: torch.dtype) -> None:
    mask = pack(ROWS, pad_id=0, like=torch.zeros(1, dtype=dtype)).attention_mask
    assert mask.dtype == dtype
    assert mask.shape == (2, 1, 6, 6)
    assert mask.min() == torch.finfo(dtype).min
