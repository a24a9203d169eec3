"""Batches of similar length give every row its own score."""

from cyclealign.reward_models.length_batches import score_by_length


def test_scores_stand_in_the_order_of_the_rows_and_batches_hold_similar_lengths() -> None:
    rows = [[length] * length for length in (9, 2, 8, 1, 3)]
    batches: list[list[int]] = []

    def score(batch: list[list[int]]) -> list[float]:
        batches.append([len(row) for row in batch])
        return [float(row[0]) for row in batch]

    assert score_by_length(rows, 2, score) == [9.0, 2.0, 8.0, 1.0, 3.0]
    assert batches == [[1, 2], [3, 8], [9]]


def test_no_rows_have_no_scores() -> None:
    assert score_by_length([], 8, lambda batch: [0.0] * len(batch)) == []
