"""Tiny Llamas of the dialogue world: tokenizer, initialisation, training from scratch, sampling.

Dialogues are plain HH-RLHF text behind a beginning-of-sequence token, responses begin with a space and end
with the end-of-sequence token. Training takes a fixed number of steps on examples in a fixed order, so that
equal seeds give equal weights. Called by `training`; `world_judge` samples its drafts here. Saved models are
ordinary folders that `AutoModelForCausalLM` and `AutoTokenizer` load.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cyclealign.records import Prompt

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
VOCABULARY = 1500
LONGEST = 512
"""Tokens of prompt and response together."""

Report = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a dialogue and of a response to it."""

    prompt: list[int]
    response: list[int]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a tiny model is trained: warm-up, then cosine decay to a twentieth."""

    learning_rate: float
    steps: int
    batch: int = 16
    warmup: int = 30

    @property
    def examples(self) -> int:
        """How many examples are used, each once."""
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
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, bos_token=BOS, eos_token=EOS)


def plain_text(prompt: Prompt) -> str:
    """The dialogue as the tiny models read it."""
    return "\n\n" + prompt.instruction


def encode(tokenizer: Any, dialogue: str, response: str) -> Encoded:
    """Token ids of a dialogue's plain text and of one response, with BOS and EOS (as text they are text)."""
    asked = tokenizer(dialogue, split_special_tokens=True)["input_ids"]
    said = tokenizer(f" {response}", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return Encoded(asked, [*said, EOS_ID])


def new_model(seed: int, vocabulary: int) -> LlamaForCausalLM:
    """An untrained Llama of 600,000 parameters; leaves the global random state alone."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=2,
        intermediate_size=352,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        initializer_range=0.04,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train_language_model(
    model: Any, examples: Sequence[Encoded], schedule: Schedule, prompt_weight: float, report: Report
) -> None:
    """Trains in place by next-token prediction, one pass over the examples.

    Args:
        model: A causal language model.
        examples: At least `schedule.examples` of them.
        schedule: Steps and learning rate.
        prompt_weight: Weight of a prompt token's loss; a response token weighs 1.
        report: Told about every step.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, schedule.learning_rate, betas=(0.9, 0.98), fused=True)
    model.train()
    for step, batch in enumerate(_batches(examples, schedule)):
        set_rate(optimizer, schedule.rate(step))
        torch.autograd.backward(_next_token_loss(model, batch, prompt_weight))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report((step + 1) / schedule.steps)
    model.eval()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _batches(examples: Sequence[Encoded], schedule: Schedule) -> list[list[Encoded]]:
    """Batches of similar length (less padding), themselves in random order."""
    reach, size = schedule.batch * 20, schedule.batch
    used = examples[: schedule.examples]
    batches: list[list[Encoded]] = []
    for start in range(0, len(used), reach):
        nearby = sorted(used[start : start + reach], key=lambda one: len(one.prompt) + len(one.response))
        cut = [nearby[at : at + size] for at in range(0, len(nearby), size)]
        batches += random.Random(start).sample(cut, len(cut))
    return batches


def _next_token_loss(model: Any, batch: Sequence[Encoded], prompt_weight: float) -> Tensor:
    ids, mask = padded([one.prompt + one.response for one in batch])
    weights, _ = padded([[prompt_weight] * len(one.prompt) + [1.0] * len(one.response) for one in batch])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    counted = weights[:, 1:].flatten()
    return (losses * counted).sum() / counted.sum()


def padded(rows: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Rows as one tensor of shape [B, T], padded on the right with 0, and its mask."""
    tensors = [torch.tensor(row) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.long) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(tensors, batch_first=True, padding_value=PAD_ID), pad(mask, batch_first=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread, for the duration.

    On models this small several threads only wait for each other: on two busy cores reading 600 responses
    took 45 s with two threads and 1.5 s with one. It also makes results independent of the machine's number
    of cores.
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
    return [_until_end(row) for row in torch.cat(drawn, 1).tolist()]


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(EOS_ID)] if EOS_ID in tokens else tokens
