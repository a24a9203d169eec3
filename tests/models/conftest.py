"""A two-layer Llama of some ten thousand parameters with a tokenizer of its own, made anew in `tmp_path`."""

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


def save_tiny_llama(folder: Path, *, chat: bool = True, seed: int = 0) -> Path:
    """Writes model and tokenizer; weights are large enough that tokens differ in probability."""
    tokenizer = byte_tokenizer(chat=chat)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_tiny_llama(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny Llama under `tmp_path` and returns its folder; chat template and seed by choice."""

    def make(name: str = "tiny-llama", *, chat: bool = True, seed: int = 0) -> Path:
        return save_tiny_llama(tmp_path / name, chat=chat, seed=seed)

    return make


@pytest.fixture
def tiny_llama(make_tiny_llama: Callable[..., Path]) -> Path:
    """The folder of a tiny Llama with a chat template."""
    return make_tiny_llama()


@pytest.fixture(scope="module")
def module_tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama with a chat template, shared by the tests of a module."""
    return save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")
