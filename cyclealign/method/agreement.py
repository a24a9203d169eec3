"""The agreement of the two models' rankings, which becomes a pseudo-label and a dynamic demonstration.

The paper asks for the longest common subsequence "with the highest black-box rankings" (Section 2.2).
Leaves out: whether the agreement is long enough to be shown (`demonstrations`).
"""

from collections.abc import Sequence

from cyclealign.method.rankings import check_same_ids


def agreement(black_box: Sequence[int], white_box: Sequence[int]) -> tuple[int, ...]:
    """The longest order on which both rankings agree, best first; ties go to the best black-box ranks.

    Among all longest common subsequences it takes the one whose members' black-box ranks are
    lexicographically smallest. A common subsequence of two permutations is an increasing one of the white-box
    ranks read in black-box order, so `longest[i]` below is the length of the longest that starts at black-box
    rank i. Taking the first member that still allows full length, again and again, is the tie rule. Paper:
    Section 2.2.

    Raises:
        ValueError: the rankings do not hold the same ids, each exactly once.
    """
    check_same_ids(black_box, white_box)
    white_box_rank = {candidate: rank for rank, candidate in enumerate(white_box)}
    ranks = [white_box_rank[candidate] for candidate in black_box]
    longest = _longest_increasing_from(ranks)
    agreed: list[int] = []
    missing = max(longest, default=0)
    for candidate, rank, length in zip(black_box, ranks, longest, strict=True):
        if length == missing and (not agreed or rank > white_box_rank[agreed[-1]]):
            agreed.append(candidate)
            missing -= 1
    return tuple(agreed)


def _longest_increasing_from(ranks: Sequence[int]) -> list[int]:
    """For each place, the length of the longest increasing subsequence that starts there."""
    longest = [1] * len(ranks)
    for start in reversed(range(len(ranks))):
        after = (longest[later] for later in range(start + 1, len(ranks)) if ranks[later] > ranks[start])
        longest[start] += max(after, default=0)
    return longest
