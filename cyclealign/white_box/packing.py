"""Packed rows: one prompt and many responses in a single row, so that the prompt is computed once.

A row reads `[prompt | y0 | y1 | …]`. Every response attends to the prompt and to itself, never to another
response, and its positions restart after the prompt: hidden states equal those of separate full passes.
Called by `sequence_scores` for log-probabilities and training, and for the features of preference heads.
Leaves out the model itself, and which models take such rows (`sequence_scores.accepts_packed_rows`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Token ids of a prompt, and of each of its responses."""


class Span(NamedTuple):
    """Where a response stands in its row: `row[start:end]`, behind the prompt `row[:prompt_end]`."""

    prompt_end: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PackedRows:
    """B rows of L tokens, padded on the right. Padding is known from lengths, never from token ids."""

    token_ids: Tensor
    """[B, L], int64."""
    attention_mask: Tensor
    """[B, 1, L, L], additive: 0 where query (second to last axis) sees key, the dtype's minimum elsewhere."""
    position_ids: Tensor
    """[B, L], int64."""
    spans: list[list[Span]]
    """Per row, one span per response in the order given."""

    def predicting_positions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row and column whose hidden state predicts each response token, and the token: three [N] tensors.

        N runs over rows, then responses, then tokens. A response's first token is predicted by the prompt's
        last.
        """
        rows, columns, targets = [], [], []
        for row, spans in enumerate(self.spans):
            for span in spans:
                rows += [row] * (span.end - span.start)
                columns += [span.prompt_end - 1, *range(span.start, span.end - 1)]
                targets.append(self.token_ids[row, span.start : span.end])
        return torch.tensor(rows), torch.tensor(columns), torch.cat(targets)

    def to(self, device: torch.device | str) -> "PackedRows":
        """The same rows with their tensors on `device`."""
        mask = self.attention_mask.to(device)
        return PackedRows(self.token_ids.to(device), mask, self.position_ids.to(device), self.spans)


def pack(rows: Sequence[Row], pad_id: int, dtype: torch.dtype) -> PackedRows:
    """The rows, each holding its prompt once and all its responses, as tensors on the CPU.

    Args:
        rows: Prompt and response token ids; the prompt and every response hold at least one token.
        pad_id: Fills rows on the right; any id does, even one that means something.
        dtype: Of the mask: the model's.

    Raises:
        ValueError: no rows, or an empty prompt or response.
    """
    _check(rows)
    lengths = [len(prompt) + sum(map(len, responses)) for prompt, responses in rows]
    length = max(lengths)
    token_ids = torch.full((len(rows), length), pad_id)
    position_ids = torch.zeros(len(rows), length, dtype=torch.int64)
    # A padding query sees itself: a row of the mask without any key would make the softmax NaN.
    visible = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
    spans = [_spans(prompt, responses) for prompt, responses in rows]
    for index, (prompt, responses) in enumerate(rows):
        tokens = [*prompt, *(token for response in responses for token in response)]
        token_ids[index, : len(tokens)] = torch.tensor(tokens)
        _lay_out(visible[index], position_ids[index], len(prompt), spans[index])
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
    return PackedRows(token_ids, mask[:, None], position_ids, spans)


def _check(rows: Sequence[Row]) -> None:
    if not rows:
        raise ValueError("No rows to pack: expected at least one prompt with its responses.")
    for index, (prompt, responses) in enumerate(rows):
        if not prompt or not all(responses):
            raise ValueError(f"Row {index} holds an empty prompt or response: each needs a token to predict.")


def _spans(prompt: Sequence[int], responses: Sequence[Sequence[int]]) -> list[Span]:
    spans, start = [], len(prompt)
    for response in responses:
        spans.append(Span(len(prompt), start, start + len(response)))
        start += len(response)
    return spans


def _lay_out(visible: Tensor, position_ids: Tensor, prompt_end: int, spans: Sequence[Span]) -> None:
    """Opens the mask [L, L] and counts the positions [L] of one row, in place."""
    visible[:prompt_end, :prompt_end] = torch.ones(prompt_end, prompt_end, dtype=torch.bool).tril()
    position_ids[:prompt_end] = torch.arange(prompt_end)
    for _, start, end in spans:
        length = end - start
        visible[start:end, :prompt_end] = True
        visible[start:end, start:end] = torch.ones(length, length, dtype=torch.bool).tril()
        position_ids[start:end] = torch.arange(prompt_end, prompt_end + length)
