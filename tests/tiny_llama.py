"""A two-layer Llama of some ten thousand parameters with a tokenizer of its own, for tests of every folder.

A folder's `conftest` imports the fixtures that its tests use.
"""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Like SmolLM2's: a system message of its own where the dialogue brings none.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}<|start|>system\nYou are tiny.<|end|>\n{% endif %}"
    "<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_CORPUS = [
    "\n\nHuman: How do I cook rice?\n\nAssistant: Rinse it, add two cups of water and let it simmer.",
    "\n\nHuman: Tell me about the weather.\n\nAssistant: It is sunny today, take a hat with you.",
]


def byte_tokenizer(*, chat: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 300 tokens; padding is the end-of-sequence token, as in many models."""
    special = ["<|begin|>", "<|end|>", "<|start|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def save_llama(folder: Path, *, chat: bool = True, seed: int = 0, **sizes: float) -> Path:
    """Writes model and tokenizer; weights are large enough that tokens differ in probability."""
    tokenizer = byte_tokenizer(chat=chat)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4}
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **ends, **{**small, **more, **sizes}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def _saved(chat: bool, seed: int) -> Path:
    return save_llama(Path(tempfile.mkdtemp()), chat=chat, seed=seed)


def save_tiny_llama(folder: Path, *, chat: bool = True, seed: int = 0) -> Path:
    """A folder with the tiny Llama, made once in a process and copied."""
    return shutil.copytree(_saved(chat, seed), folder, dirs_exist_ok=True)


@pytest.fixture
def make_tiny_llama(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny Llama under `tmp_path` and returns its folder; chat template and seed by choice."""

    def make(name: str = "tiny-llama", *, chat: bool = True, seed: int = 0) -> Path:
        return save_tiny_llama(tmp_path / name, chat=chat, seed=seed)

    return make


@pytest.fixture
def tiny_llama(make_tiny_llama: Callable[..., Path]) -> Path:
    """The folder of a tiny Llama with a chat template, which the test may change."""
    return make_tiny_llama()
