"""Scores of texts in batches of similar length, so that little of a batch is padding. Called by the reward models."""

from collections.abc import Callable, Sequence


def score_by_length(
    rows: Sequence[list[int]], batch: int, score: Callable[[list[list[int]]], Sequence[float]]
) -> list[float]:
    """One score per row, in the order of the rows, computed shortest first.

    Args:
        rows: Token ids.
        batch: Rows at a time.
        score: The scores of a batch.
    """
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    scores = [0.0] * len(rows)
    for start in range(0, len(rows), batch):
        places = by_length[start : start + batch]
        for place, value in zip(places, score([rows[place] for place in places]), strict=True):
            scores[place] = value
    return scores
