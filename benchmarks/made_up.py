"""A model of any shape with random weights, prompts for it, and a judge that costs no time: speed without meaning.

The tokenizer knows one word per token (`w17`), so that a prompt has as many tokens as words and every sampled response
is a text of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from cyclealign.offline.chat_server import ChatModel
from cyclealign.records import Prompt, Turn
from cyclealign.seeds import derive_seed

SMALL: Mapping[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 512,
    "intermediate_size": 1_365,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "max_position_embeddings": 1_024,
}
"""A Llama that two CPU cores train in a second."""
SPECIAL = ("<pad>", "</s>", "<unk>")
NAMES = 2
"""Words of a prompt in the plain format besides those of the turn."""


def model(shape: Mapping[str, Any], device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A Llama of this configuration; the same weights each time."""
    torch.manual_seed(0)
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=dtype)
    made.config.eos_token_id = made.generation_config.eos_token_id = SPECIAL.index("</s>")
    return made


def save(folder: Path, shape: Mapping[str, Any]) -> Path:
    """The model and its tokenizer in transformers' format; returns the folder."""
    model(shape).eval().save_pretrained(folder)
    tokenizer(shape["vocab_size"]).save_pretrained(folder)
    return folder


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token per word."""
    pad, eos, unknown = SPECIAL
    words = [*SPECIAL, *(f"w{number}" for number in range(vocabulary - len(SPECIAL)))]
    known = {word: number for number, word in enumerate(words)}
    by_word = Tokenizer(models.WordLevel(known, unk_token=unknown))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=by_word, pad_token=pad, eos_token=eos, unk_token=unknown)


def prompt(vocabulary: int, count: int, *place: int) -> Prompt:
    """A prompt of so many tokens, another in every place."""
    return Prompt.from_turns("helpful-base", "train", [Turn("human", words(vocabulary, count - NAMES, *place))])


def words(vocabulary: int, count: int, *place: int | str) -> str:
    """So many words of a vocabulary of that size, others in every place."""
    return " ".join(f"w{token - len(SPECIAL)}" for token in tokens(vocabulary, count, *place))


def tokens(vocabulary: int, count: int, *place: int | str) -> list[int]:
    """So many token ids, none of them special here, others in every place."""
    generator = torch.Generator().manual_seed(derive_seed(0, "made up", *place))
    return torch.randint(len(SPECIAL), vocabulary, (count,), generator=generator).tolist()


def where(model: Any) -> str:
    """The device of the model, for a note."""
    device = next(model.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


class InstantJudge(ChatModel[str]):
    """A black box in this process that ranks in the order shown and always writes the same.

    It answers chat completions over the client of a paid model, so that the application does all of its work around a
    question, and none of the time is the judge's.
    """

    identity, kind, questions, parse = "instant-judge", "judge", "all prompts", staticmethod(str)

    def __init__(self, candidates: int, rewrite: str) -> None:
        self._opinion = {"desired rank": list(range(candidates)), "response": rewrite}

    def opinion(self, question: str, seed: int) -> dict[str, Any]:  # noqa: ARG002
        """The order of the prompt."""
        return self._opinion
