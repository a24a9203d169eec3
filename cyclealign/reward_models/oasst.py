"""OpenAssistant's reward model, with which the paper scores its Table 1: oasst-rm-2-pythia-6.9b-epoch-1.

Holds the network in the layout of the published checkpoint, which transformers has no class for, and the
adapter that writes dialogues the way it was trained on them. Mapping the checkpoint onto transformers' own
GPT-NeoX classifier would lose the head's bias and shift every sigmoid. Called by `tasks.models`; leaves out
sigmoid and means, which the evaluation takes.

Paper: Section 3.3 and Table 1; length limit and precision are those of PRO's published evaluation.
"""

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GPTNeoXConfig, GPTNeoXModel, GPTNeoXPreTrainedModel, PreTrainedTokenizerFast

from cyclealign.errors import ModelError
from cyclealign.records import Prompt, Turn
from cyclealign.reward_models.length_batches import score_by_length
from cyclealign.white_box.identity import files_sha256
from cyclealign.white_box.loading import quiet_transformers
from cyclealign.white_box.pass_sizes import REWARD_TOKENS

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
        """Rewards of shape (R,) for R dialogues of shape (R, T), padded on the right."""
        states = self.gpt_neox(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        rewards: Tensor = self.out_proj(self._pooled(states, attention_mask)).squeeze(-1)
        return rewards

    def _pooled(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        lengths = attention_mask.sum(dim=1)
        if self.config.pooling == "mean":
            return (states * attention_mask.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(-1)
        return states[torch.arange(len(states), device=states.device), lengths - 1]


class OasstRewardModel:
    """The paper's reward model, or another of its family, by hub name or folder.

    Reads `<|prompter|>…<|endoftext|><|assistant|>…<|endoftext|>` turn by turn, cut on the left. Computes in
    float32 as the published scores were (28 GB for 6.9B). Weights may be safetensors or torch pickles that hold
    tensors only.

    Args:
        name: Hub name or folder.
        revision: Branch, tag or commit on the hub.
        max_tokens: Longest dialogue with its response.
        batch: Responses scored at once.
        device: By default CUDA where there is one. On `meta` everything is looked at, no weight takes memory, and
            nothing can be scored.

    Raises:
        ModelError: the model cannot be found or loaded, or it is of another architecture.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        max_tokens: int = REWARD_TOKENS,
        batch: int = 8,
        device: str | None = None,
    ) -> None:
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._max_tokens, self._batch = max_tokens, batch
        version, self._tokenizer, self._network = _load(name, revision, self._device)
        self.identity = f"oasst:{version}:{max_tokens}"

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The head's output for each response, before any sigmoid."""
        dialogues = [self._tokens(prompt, response) for prompt, response in items]
        return score_by_length(dialogues, self._batch, self._scores)

    def _tokens(self, prompt: Prompt, response: str) -> list[int]:
        tokens: list[int] = []
        for turn in (*prompt.turns, Turn("assistant", response)):
            # A response that spells out a control token must not open or close a turn with it.
            text = self._tokenizer.encode(turn.text, add_special_tokens=False, split_special_tokens=True)
            tokens += [self._id(SPEAKERS[turn.speaker]), *text, self._id(END_OF_TURN)]
        return tokens[-self._max_tokens :]

    def _id(self, control_token: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(control_token))

    @torch.inference_mode()
    def _scores(self, dialogues: list[list[int]]) -> list[float]:
        rows = [torch.tensor(tokens) for tokens in dialogues]
        input_ids = pad_sequence(rows, batch_first=True, padding_value=self._id(PADDING))
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        scores: list[float] = self._network(input_ids.to(self._device), mask.to(self._device)).tolist()
        return scores


def _load(name: str, revision: str | None, device: str) -> tuple[str, Any, OasstNetwork]:
    """Version, tokenizer and network; what transformers, torch and the hub raise becomes a `ModelError`."""
    try:
        with quiet_transformers():
            folder, version = _locate(name, revision)
            config = _read_config(name, folder)
            tokenizer = _load_tokenizer(name, folder)
            return version, tokenizer, _load_network(name, folder, config, device)
    except torch.OutOfMemoryError:
        raise  # no fault of the model's
    except pickle.UnpicklingError:  # torch's own message advises to run the code in the file
        problem = "Its pickled weights are damaged or hold more than tensors."
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    raise ModelError(
        f"Cannot load {name!r} as OpenAssistant's reward model. {problem} Expected a hub name or a folder "
        "with config.json, tokenizer.json and weights; a hub name needs network access or a filled cache."
    )


def _locate(name: str, revision: str | None) -> tuple[Path, str]:
    """The folder with the checkpoint, and what tells it from others: the commit, or a digest of the files."""
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
