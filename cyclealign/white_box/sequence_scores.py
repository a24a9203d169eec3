"""Log-probabilities of responses under a causal LM: one prefix, many responses, logits where needed.

`SequenceScores` is the one place where hidden states become log-probabilities, for scoring and for training. It runs
packed rows where the model takes them and separate full sequences where not; the numbers are the same. A packed row
reads `[prompt | y0 | y1 | …]`: every response attends to the prompt and to itself, never to another response, and its
positions restart after the prompt, so hidden states equal those of separate full passes. Called by `white_box` and
`training`, and for the features of preference heads; arithmetic on logits is `cyclealign.method.log_probabilities`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from cyclealign.method.log_probabilities import response_log_probabilities, token_log_probabilities
from cyclealign.white_box.device_memory import LOADING, fitting

_RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_HALF_TOLERANCE = 2e-2

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

        N runs over rows, then responses, then tokens. A response's first token is predicted by the prompt's last.
        """
        rows, columns, targets = [], [], []
        for row, spans in enumerate(self.spans):
            for span in spans:
                rows += [row] * (span.end - span.start)
                columns += [span.prompt_end - 1, *range(span.start, span.end - 1)]
                targets.append(self.token_ids[row, span.start : span.end])
        device = self.token_ids.device
        return torch.tensor(rows, device=device), torch.tensor(columns, device=device), torch.cat(targets)


def pack(rows: Sequence[Row], pad_id: int, like: Tensor) -> PackedRows:
    """The rows, each holding its prompt once and all its responses.

    Args:
        rows: Prompt and response token ids; the prompt and every response hold at least one token.
        pad_id: Fills rows on the right; any id does, even one that means something.
        like: A parameter of the model, for the mask's dtype and all tensors' device.
    """
    length = max(len(prompt) + sum(map(len, responses)) for prompt, responses in rows)
    token_ids = torch.full((len(rows), length), pad_id)
    position_ids = torch.zeros(len(rows), length, dtype=torch.int64)
    # A padding query sees itself: a row of the mask without any key would make the softmax NaN.
    visible = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
    spans = []
    for index, (prompt, responses) in enumerate(rows):
        tokens = [*prompt, *(token for response in responses for token in response)]
        token_ids[index, : len(tokens)] = torch.tensor(tokens)
        spans.append(_lay_out(visible[index], position_ids[index], len(prompt), responses))
    mask = torch.zeros(visible.shape, dtype=like.dtype).masked_fill_(~visible, torch.finfo(like.dtype).min)[:, None]
    return PackedRows(token_ids.to(like.device), mask.to(like.device), position_ids.to(like.device), spans)


def _lay_out(visible: Tensor, positions: Tensor, prompt_end: int, responses: Sequence[Sequence[int]]) -> list[Span]:
    """Opens the mask [L, L] and counts the positions [L] of one row, in place; where its responses stand."""
    visible[:prompt_end, :prompt_end] = torch.ones(prompt_end, prompt_end, dtype=torch.bool).tril()
    positions[:prompt_end] = torch.arange(prompt_end)
    spans, start = [], prompt_end
    for response in responses:
        length = len(response)
        end = start + length
        visible[start:end, :prompt_end] = True
        visible[start:end, start:end] = torch.ones(length, length, dtype=torch.bool).tril()
        positions[start:end] = torch.arange(prompt_end, prompt_end + length)
        spans.append(Span(prompt_end, start, end))
        start = end
    return spans


def plan_passes(rows: Sequence[Row], tokens: int, *, packed: bool) -> list[list[int]]:
    """Indices of rows in passes of similar lengths, each of at most `tokens` padded tokens or a single row.

    Depends on the lengths alone, so equal inputs are always computed in equal batches.
    """
    lengths = [_padded_cost(row, packed=packed) for row in rows]
    passes: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda index: (-lengths[index], index)):
        # The longest row of a pass comes first and sets the width of all.
        if passes and lengths[passes[-1][0]] * (len(passes[-1]) + 1) <= tokens:
            passes[-1].append(index)
        else:
            passes.append([index])
    return passes


def _padded_cost(row: Row, *, packed: bool) -> int:
    prompt, responses = row
    lengths = [len(response) for response in responses]
    return len(prompt) + sum(lengths) if packed else len(lengths) * (len(prompt) + max(lengths))


def base_model(model: nn.Module) -> Any:
    """The causal LM itself, without peft's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class SequenceScores(nn.Module):
    """Total log-probability of each response, as a module so that a training engine can wrap it.

    Args:
        model: A causal LM, possibly wrapped by peft.
        pad_id: Any token id; padding is known from lengths.
        packed: Run packed rows; else one full sequence per response (see `accepts_packed_rows`).
    """

    def __init__(self, model: nn.Module, pad_id: int, *, packed: bool) -> None:
        super().__init__()
        self.model = model
        self.packed = packed
        self._pad_id = pad_id

    def forward(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Sum of log P(y_t | x, y_<t) in nats and number of tokens of each response, both [R], rows first."""
        if not self.packed:
            rows = [(prompt, [response]) for prompt, responses in rows for response in responses]
        batch = pack(rows, self._pad_id, next(self.model.parameters()))
        row, column, targets = batch.predicting_positions()
        lengths = [span.end - span.start for spans in batch.spans for span in spans]
        owners = torch.repeat_interleave(torch.tensor(lengths)).to(row.device)
        logits = self._logits(batch, row * batch.token_ids.shape[1] + column)
        return response_log_probabilities(token_log_probabilities(logits, targets), owners, len(lengths))

    def _logits(self, batch: PackedRows, where: Tensor) -> Tensor:
        """Logits [N, V] at the flat positions `where`; of packed rows the head is applied nowhere else."""
        logits: Tensor
        if self.packed:
            base = base_model(self.model)
            hidden = base.base_model(
                input_ids=batch.token_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
            # index_select and not hidden[row, column]: its backward adds in order, so equal inputs give equal
            # bits on a CPU although responses share the position at the prompt's end.
            logits = base.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, where))
        else:
            ends = torch.tensor([spans[-1].end for spans in batch.spans], device=where.device)
            real = torch.arange(batch.token_ids.shape[1], device=where.device) < ends[:, None]
            logits = self.model(input_ids=batch.token_ids, attention_mask=real.long(), use_cache=False).logits
            logits = logits.flatten(0, 1).index_select(0, where)
        return logits


def scores_of(model: nn.Module, name: str, pad_id: int, max_length: int) -> SequenceScores:
    """The scores of a model, over packed rows where it takes them; warns where it does not."""
    with fitting(f"A first pass of {name!r}", LOADING):
        packed = accepts_packed_rows(model, pad_id, max_length)
    if not packed:
        warnings.warn(
            f"{name} does not take packed rows: prompts are computed once per response, which is slower. The numbers "
            "are the same.",
            stacklevel=3,
        )
    return SequenceScores(model, pad_id, packed=packed)


def accepts_packed_rows(model: nn.Module, pad_id: int, max_length: int) -> bool:
    """Whether packed rows give the model's own log-probabilities, found out by computing both on tiny rows.

    They do not where positions or masks work otherwise (ALiBi, state spaces, logits that are scaled or capped
    behind the head), or where an attention window is shorter than `max_length`.
    """
    config = base_model(model).config
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and window < max_length:
        return False
    separate = _probed(SequenceScores(model, pad_id, packed=False), config.vocab_size)
    try:
        packed = _probed(SequenceScores(model, pad_id, packed=True), config.vocab_size)
    except torch.OutOfMemoryError:
        raise  # which says nothing about the model
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False  # how foreign architectures refuse a mask that they do not know
    tolerance = _RELATIVE_TOLERANCE.get(next(model.parameters()).dtype, _HALF_TOLERANCE)
    return bool(((packed - separate).abs() <= tolerance * separate.abs()).all())


@torch.no_grad()
def _probed(scores: SequenceScores, vocabulary: int) -> Tensor:
    """The totals [R] of two rows of made-up tokens."""

    def tokens(start: int, count: int) -> list[int]:
        return [(start + 37 * index) % vocabulary for index in range(count)]

    rows = [(tokens(11, 9), [tokens(5, 4), tokens(23, 1), tokens(2, 6)]), (tokens(3, 4), [tokens(8, 2), tokens(19, 5)])]
    totals: Tensor = scores(rows)[0]
    return totals.double()
