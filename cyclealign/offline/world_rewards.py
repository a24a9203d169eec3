"""The dialogue world's reward models: a tiny learned one for the evaluation, and the ground truth.

The learned one shares no weights, no tokenizer and no training text with the cycle. Scores of both are
comparable within one model only. Trained by `training`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaForSequenceClassification

from cyclealign.offline.grader import grade
from cyclealign.offline.tiny_models import LONGEST, Report, Schedule, encode, one_thread, padded, plain_text, set_rate
from cyclealign.records import PreferencePair, Prompt
from cyclealign.white_box.loading import quiet_transformers

BATCH = 64


class WorldRewardModel:
    """A tiny model that was trained on labelled pairs of the world.

    Args:
        folder: As `training` saved it.
    """

    def __init__(self, folder: Path) -> None:
        with quiet_transformers():
            self._model = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False
            ).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        self.identity = f"world:reward-model@{weights[:8]}"

    @one_thread()
    @torch.inference_mode()
    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Log-odds scale: a difference of d means that annotators prefer with probability sigmoid(d)."""
        rows = [(index, _ids(self._tokenizer, *item)) for index, item in enumerate(items)]
        rows.sort(key=lambda row: len(row[1]))  # similar lengths together: less padding
        scores = [0.0] * len(items)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            rewards = _rewards(self._model, [ids for _, ids in batch]).tolist()
            for (index, _), reward in zip(batch, rewards, strict=True):
                scores[index] = reward
        return scores


class GroundTruth:
    """The world's own grades, 0 to 1."""

    def __init__(self, measure: Literal["quality", "well-formedness"]) -> None:
        self.identity = f"world:{measure}"
        self._measure = measure.replace("-", "_")

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The measure of each response.

        Raises:
            DataError: a dialogue is not of the world.
        """
        return [float(getattr(grade(prompt, response), self._measure)) for prompt, response in items]


def train_reward_model(
    language_model: Any, tokenizer: Any, pairs: Sequence[PreferencePair], schedule: Schedule, report: Report
) -> LlamaForSequenceClassification:
    """A reward model that starts from a language model's body and learns Bradley-Terry from labelled pairs.

    Args:
        language_model: Its body is copied.
        tokenizer: The language model's.
        pairs: At least `schedule.examples`, each used once.
        schedule: Steps and learning rate.
        report: Told about every step.
    """
    config = type(language_model.config).from_dict({**language_model.config.to_dict(), "num_labels": 1})
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(language_model.model.state_dict())
    torch.nn.init.zeros_(model.score.weight)
    optimizer = torch.optim.AdamW(list(model.parameters()), schedule.learning_rate, weight_decay=0.01, fused=True)
    model.train()
    for step in range(schedule.steps):
        set_rate(optimizer, schedule.rate(step))
        batch = pairs[step * schedule.batch : (step + 1) * schedule.batch]
        torch.autograd.backward(_bradley_terry(model, tokenizer, batch))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report((step + 1) / schedule.steps)
    return model.eval()


def _bradley_terry(model: Any, tokenizer: Any, pairs: Sequence[PreferencePair]) -> Tensor:
    chosen = [_ids(tokenizer, pair.prompt, pair.chosen) for pair in pairs]
    rejected = [_ids(tokenizer, pair.prompt, pair.rejected) for pair in pairs]
    better, worse = _rewards(model, chosen + rejected).chunk(2)
    return -F.logsigmoid(better - worse).mean()


def _rewards(model: Any, rows: list[list[int]]) -> Tensor:
    """One reward per row of token ids, shape [B], read off after the last token."""
    ids, mask = padded(rows)
    rewards: Tensor = model(input_ids=ids, attention_mask=mask).logits[:, 0]
    return rewards


def _ids(tokenizer: Any, prompt: Prompt, response: str) -> list[int]:
    tokens = encode(tokenizer, plain_text(prompt), response)
    return (tokens.prompt + tokens.response)[-LONGEST:]
