"""Log-probabilities of responses under a causal LM: one prefix, many responses, logits where needed.

`SequenceScores` is the one place where hidden states become log-probabilities, for scoring and for training.
It runs packed rows where the model takes them and separate full sequences where not; the numbers are the
same. Called by `white_box` and `training_engine`; arithmetic on logits is
`cyclealign.method.log_probabilities`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from cyclealign.method.log_probabilities import response_log_probabilities, token_log_probabilities
from cyclealign.white_box.device_memory import LOADING, fitting
from cyclealign.white_box.packing import PackedRows, Row, pack

_RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_HALF_TOLERANCE = 2e-2


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
        device = next(self.model.parameters()).device
        batch = pack(rows, self._pad_id, next(self.model.parameters()).dtype)
        row, column, targets = batch.predicting_positions()
        lengths = [span.end - span.start for spans in batch.spans for span in spans]
        owners = torch.repeat_interleave(torch.tensor(lengths)).to(device)
        where = (row * batch.token_ids.shape[1] + column).to(device)
        logits = (self._packed_logits if self.packed else self._plain_logits)(batch.to(device), where)
        token_values = token_log_probabilities(logits, targets.to(device))
        return response_log_probabilities(token_values, owners, len(lengths))

    def _packed_logits(self, batch: PackedRows, where: Tensor) -> Tensor:
        """Logits [N, V] at the flat positions `where`, the head applied nowhere else."""
        base = base_model(self.model)
        hidden = base.base_model(
            input_ids=batch.token_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state
        # index_select and not hidden[row, column]: its backward adds in order, so equal inputs give equal
        # bits on a CPU although responses share the position at the prompt's end.
        logits: Tensor = base.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, where))
        return logits

    def _plain_logits(self, batch: PackedRows, where: Tensor) -> Tensor:
        """Logits [N, V] at `where` of one response per row, by the model itself."""
        ends = torch.tensor([spans[-1].end for spans in batch.spans], device=where.device)
        real = torch.arange(batch.token_ids.shape[1], device=where.device) < ends[:, None]
        logits = self.model(input_ids=batch.token_ids, attention_mask=real.long(), use_cache=False).logits
        flat: Tensor = logits.flatten(0, 1).index_select(0, where)
        return flat


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


def scores_of(model: nn.Module, name: str, pad_id: int, max_length: int) -> SequenceScores:
    """The scores of a model, over packed rows where it takes them; says so where it does not."""
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
    rows = _probe_rows(config.vocab_size)
    separate = _totals(SequenceScores(model, pad_id, packed=False), rows)
    try:
        packed = _totals(SequenceScores(model, pad_id, packed=True), rows)
    except torch.OutOfMemoryError:
        raise  # which says nothing about the model
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False  # whatever a foreign architecture says to a mask that it does not know
    tolerance = _RELATIVE_TOLERANCE.get(next(model.parameters()).dtype, _HALF_TOLERANCE)
    return bool(((packed - separate).abs() <= tolerance * separate.abs()).all())


@torch.no_grad()
def _totals(scores: SequenceScores, rows: Sequence[Row]) -> Tensor:
    totals: Tensor = scores(rows)[0]
    return totals.double()


def _probe_rows(vocabulary: int) -> list[Row]:
    def tokens(start: int, count: int) -> list[int]:
        return [(start + 37 * index) % vocabulary for index in range(count)]

    return [(tokens(11, 9), [tokens(5, 4), tokens(23, 1), tokens(2, 6)]), (tokens(3, 4), [tokens(8, 2), tokens(19, 5)])]
