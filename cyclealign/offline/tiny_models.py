"""Tiny models of the dialogue world: tokenizer, initialisation, training from scratch, sampling, scoring.

Dialogues are plain HH-RLHF text behind a beginning-of-sequence token, responses begin with a space and end with the
end-of-sequence token. Training takes a fixed number of steps on examples in a fixed order, so that equal seeds give
equal weights. `artifacts` trains and saves them as ordinary folders that `AutoModelForCausalLM` and `AutoTokenizer`
load; `world_judge` reads and samples one.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from cyclealign.records import PreferencePair, Prompt
from cyclealign.reward_models.reward_model import score_by_length
from cyclealign.white_box.loading import quiet_transformers

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
VOCABULARY = 1500
LONGEST = 512
"""Tokens of prompt and response together."""
REWARD_BATCH = 64
"""Responses scored at once."""

Report = Callable[[float], None]
"""Called with the share of the work that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a dialogue and of a response to it."""

    prompt: list[int]
    response: list[int]

    def cut(self) -> list[int]:
        """Both, cut on the left to what a tiny model takes."""
        return (self.prompt + self.response)[-LONGEST:]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a tiny model is trained: warm-up, then cosine decay to a twentieth."""

    learning_rate: float
    steps: int
    batch: int = 16
    warmup: int = 30

    @property
    def examples(self) -> int:
        """How many examples it uses, each once."""
        return self.steps * self.batch

    def rate(self, step: int) -> float:
        """Learning rate of a 0-based step."""
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * decay


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that begins a dialogue with BOS."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special, alphabet = [PAD, BOS, EOS], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, bos_token=BOS, eos_token=EOS)


def encode(tokenizer: Any, instruction: str, response: str) -> Encoded:
    """Token ids of a dialogue (`Prompt.instruction`) and a response; a spelled-out BOS or EOS is text."""
    asked = tokenizer("\n\n" + instruction, split_special_tokens=True)["input_ids"]
    said = tokenizer(f" {response}", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return Encoded(asked, [*said, EOS_ID])


def new_model(seed: int, vocabulary: int) -> LlamaForCausalLM:
    """An untrained Llama of 600,000 parameters; leaves the global random state alone."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=128, intermediate_size=352, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=LONGEST, tie_word_embeddings=True, initializer_range=0.04,
        pad_token_id=PAD_ID, bos_token_id=BOS_ID, eos_token_id=EOS_ID,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train_language_model(
    model: Any, examples: Sequence[Encoded], schedule: Schedule, prompt_weight: float, report: Report
) -> None:
    """Trains in place by next-token prediction, one pass over `schedule.examples` examples.

    A prompt token's loss weighs `prompt_weight`, a response token's 1.
    """
    optimizer = torch.optim.AdamW(list(model.parameters()), schedule.learning_rate, betas=(0.9, 0.98), fused=True)
    losses = (_next_token_loss(model, batch, prompt_weight) for batch in _batches(examples, schedule))
    _descend(model, optimizer, losses, schedule, report)


def train_reward_model(
    language_model: Any, tokenizer: Any, pairs: Sequence[PreferencePair], schedule: Schedule, report: Report
) -> LlamaForSequenceClassification:
    """A reward model that starts from a copy of a language model's body and learns Bradley-Terry from pairs.

    It reads `schedule.examples` pairs, each once.
    """
    config = type(language_model.config).from_dict({**language_model.config.to_dict(), "num_labels": 1})
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(language_model.model.state_dict())
    torch.nn.init.zeros_(model.score.weight)
    optimizer = torch.optim.AdamW(list(model.parameters()), schedule.learning_rate, weight_decay=0.01, fused=True)
    starts = range(0, schedule.examples, schedule.batch)
    losses = (_bradley_terry(model, tokenizer, pairs[start : start + schedule.batch]) for start in starts)
    _descend(model, optimizer, losses, schedule, report)
    return model


def _descend(
    model: Any, optimizer: torch.optim.Optimizer, losses: Iterable[Tensor], schedule: Schedule, report: Report
) -> None:
    """One optimizer step per loss; each is computed when the step before it is done."""
    model.train()
    for step, loss in enumerate(losses):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report((step + 1) / schedule.steps)
    model.eval()


def _batches(examples: Sequence[Encoded], schedule: Schedule) -> list[list[Encoded]]:
    """Batches of similar length (less padding), themselves in random order."""
    used, size = examples[: schedule.examples], schedule.batch
    batches: list[list[Encoded]] = []
    for start in range(0, len(used), 20 * size):
        nearby = sorted(used[start : start + 20 * size], key=lambda one: len(one.prompt) + len(one.response))
        cut = [nearby[at : at + size] for at in range(0, len(nearby), size)]
        batches += random.Random(start).sample(cut, len(cut))
    return batches


def _next_token_loss(model: Any, batch: Sequence[Encoded], prompt_weight: float) -> Tensor:
    ids, mask = _padded([one.prompt + one.response for one in batch])
    weights, _ = _padded([[prompt_weight] * len(one.prompt) + [1.0] * len(one.response) for one in batch])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    counted = weights[:, 1:].flatten()
    return (losses * counted).sum() / counted.sum()


def _bradley_terry(model: Any, tokenizer: Any, pairs: Sequence[PreferencePair]) -> Tensor:
    replies = [(pair.prompt, pair.chosen) for pair in pairs] + [(pair.prompt, pair.rejected) for pair in pairs]
    rows = [encode(tokenizer, prompt.instruction, reply).cut() for prompt, reply in replies]
    better, worse = _rewards(model, rows).chunk(2)
    return -F.logsigmoid(better - worse).mean()


def _rewards(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """One reward per row of token ids, shape [B], read off after the last token."""
    ids, mask = _padded(rows)
    rewards: Tensor = model(input_ids=ids, attention_mask=mask).logits[:, 0]
    return rewards


def _padded(rows: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Rows as one tensor of shape [B, T], padded on the right with 0, and its mask."""
    tensors = [torch.tensor(row) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.long) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(tensors, batch_first=True, padding_value=PAD_ID), pad(mask, batch_first=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread, for the duration.

    On models this small several threads only wait for each other: on two busy cores reading 600 responses took 45 s
    with two threads and 1.5 s with one. It also makes results independent of the machine's number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
@torch.inference_mode()
def sample(model: Any, prompt: Sequence[int], count: int, seed: int, max_new_tokens: int = 64) -> list[list[int]]:
    """Token ids of `count` responses drawn at temperature 1, without EOS; depends on the arguments alone."""
    generator = torch.Generator().manual_seed(seed)
    output = model(input_ids=torch.tensor([list(prompt)]), use_cache=True, logits_to_keep=1)
    cache, logits = output.past_key_values, output.logits[:, -1].expand(count, -1)
    cache.batch_repeat_interleave(count)
    drawn: list[Tensor] = []
    ended = torch.zeros(count, dtype=torch.bool)
    while len(drawn) < max_new_tokens and not ended.all():
        tokens = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        drawn.append(tokens)
        ended |= tokens[:, 0] == EOS_ID
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
    rows: list[list[int]] = torch.cat(drawn, 1).tolist()
    return [row[: row.index(EOS_ID)] if EOS_ID in row else row for row in rows]


class WorldRewardModel:
    """The evaluation's reward model, trained on labelled pairs of the world.

    It shares no weights, no tokenizer and no training text with the cycle.
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
        rows = [encode(self._tokenizer, prompt.instruction, response).cut() for prompt, response in items]
        return score_by_length(rows, REWARD_BATCH, lambda batch: _rewards(self._model, batch).tolist())
