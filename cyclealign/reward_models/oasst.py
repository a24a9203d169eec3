"""OpenAssistant's reward model, with which the paper scores its Table 1: oasst-rm-2-pythia-6.9b-epoch-1.

Holds the network in the layout of the published checkpoint, which transformers has no class for, and the adapter that
writes dialogues as in its training. Mapping the checkpoint onto transformers' own GPT-NeoX classifier would lose the
head's bias and shift every sigmoid. Called by `tasks.models`; leaves out sigmoid and means, which the evaluation takes.

Paper: Section 3.3 and Table 1; length limit and precision are those of PRO's published evaluation.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXModel, GPTNeoXPreTrainedModel, PreTrainedTokenizerFast

from cyclealign.errors import ModelError
from cyclealign.records import Prompt, Turn
from cyclealign.reward_models.reward_model import NetworkRewardModel
from cyclealign.white_box.loading import files_sha256

SPEAKERS = {"human": "<|prompter|>", "assistant": "<|assistant|>"}
END_OF_TURN = "<|endoftext|>"
PADDING = "<|padding|>"
_FILES = ("config.json", "tokenizer.json", "model*.safetensors*", "pytorch_model*.bin*")


@strict
class OasstConfig(GPTNeoXConfig):  # type: ignore[misc]  # transformers is untyped
    """GPT-NeoX's configuration and how the states of a dialogue become one."""

    model_type = "gpt_neox_reward_model"
    pooling: Literal["last", "mean"] | None = "last"


class OasstNetwork(GPTNeoXPreTrainedModel):  # type: ignore[misc]
    """GPT-NeoX under a linear head with a bias: `gpt_neox.*`, `out_proj.weight` and `out_proj.bias`."""

    config_class = OasstConfig

    def __init__(self, config: OasstConfig) -> None:
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.out_proj = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Rewards [R] of R dialogues [R, T], padded on the right."""
        states = self.gpt_neox(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        lengths = attention_mask.sum(dim=1)
        if self.config.pooling == "mean":
            pooled = (states * attention_mask.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(-1)
        else:
            pooled = states[torch.arange(len(states), device=states.device), lengths - 1]
        rewards: Tensor = self.out_proj(pooled).squeeze(-1)
        return rewards


class OasstRewardModel(NetworkRewardModel):
    """The paper's reward model, or another of its family.

    Reads `<|prompter|>…<|endoftext|><|assistant|>…<|endoftext|>` turn by turn. Computes in float32 as the published
    scores were (28 GB for 6.9B). Weights may be safetensors or torch pickles that hold tensors only.
    """

    kind = "OpenAssistant's reward model"
    files = "config.json, tokenizer.json and weights"

    def _load(self, name: str, revision: str | None) -> None:
        folder, version = _locate(name, revision)
        config = _read_config(name, folder)
        self._tokenizer = _load_tokenizer(name, folder)
        self._pad_id = self._id(PADDING)
        self._network = _load_network(name, folder, config, self._device)
        self.identity = f"oasst:{version}:{self._max_tokens}"

    def _tokens(self, prompt: Prompt, response: str) -> list[int]:
        tokens: list[int] = []
        for turn in (*prompt.turns, Turn("assistant", response)):
            # A response that spells out a control token must not open or close a turn with it.
            text = self._tokenizer.encode(turn.text, add_special_tokens=False, split_special_tokens=True)
            tokens += [self._id(SPEAKERS[turn.speaker]), *text, self._id(END_OF_TURN)]
        return tokens[-self._max_tokens :]

    def _rewards(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        rewards: Tensor = self._network(token_ids, mask)
        return rewards

    def _id(self, control_token: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(control_token))


def _locate(name: str, revision: str | None) -> tuple[Path, str]:
    """The folder with the checkpoint, and its version: the commit, or a digest of the files."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        snapshot = Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES)))
        return snapshot, f"{name}@{snapshot.name[:12]}"
    digests = [files_sha256(file) for pattern in _FILES for file in sorted(folder.glob(pattern))]
    return folder, f"{folder.name}@{hashlib.sha256(''.join(digests).encode()).hexdigest()[:12]}"


def _read_config(name: str, folder: Path) -> OasstConfig:
    # Checked before any weight is touched: another architecture's figures would build a network of any size.
    values, _ = OasstConfig.get_config_dict(folder)
    found = values.get("model_type")
    if found != OasstConfig.model_type:
        raise ModelError(
            f"{name!r} is a model of type {found!r}, expected {OasstConfig.model_type!r}. Choose one of "
            "OpenAssistant's GPT-NeoX reward models, or set evaluation.reward_model to classifier."
        )
    config: OasstConfig = OasstConfig.from_dict(values)
    return config


def _load_tokenizer(name: str, folder: Path) -> Any:
    # From tokenizer.json alone: beside other files transformers would give tokens that it lacks new ids.
    file = folder / "tokenizer.json"
    known = {token["content"] for token in json.loads(file.read_text(encoding="utf-8"))["added_tokens"]}
    missing = {*SPEAKERS.values(), END_OF_TURN, PADDING} - known
    if missing:
        raise ModelError(
            f"The tokenizer of {name!r} lacks {', '.join(sorted(missing))}: expected the control tokens of "
            "OpenAssistant's dialogues. Use the tokenizer that was published with the reward model."
        )
    return PreTrainedTokenizerFast(tokenizer_file=str(file))


def _load_network(name: str, folder: Path, config: OasstConfig, device: str) -> OasstNetwork:
    network: OasstNetwork
    network, report = OasstNetwork.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        device_map=device,
        weights_only=True,
        ignore_mismatched_sizes=True,  # to name them below
        output_loading_info=True,
    )
    unfit = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if unfit:
        raise ModelError(
            f"{name!r} is no complete reward model: {len(unfit)} weights are missing or of another shape, "
            f"first {unfit[0]}. Expected every gpt_neox.*, out_proj.weight and out_proj.bias in the sizes of "
            "its config.json. Fetch the checkpoint again."
        )
    return network
