"""Reward models: they score responses in the evaluation, and the cycle uses none of them.

Holds the protocol, what all adapters to networks from the hub or a folder share, and the one to sequence classifiers;
that to OpenAssistant's is `oasst`. The dialogue world's own are in `offline.tiny_models` and `offline.world`, the heads
on a frozen model in `offline.preference`. Leaves out the summary of scores.
"""

import hashlib
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cyclealign.errors import ModelError
from cyclealign.model_sizes import REWARD_TOKENS
from cyclealign.records import Prompt
from cyclealign.white_box.device_memory import REWARDS, fitting
from cyclealign.white_box.loading import files_sha256, look_up, quiet_transformers, tokenizer_sha256

ROLES = {"human": "user", "assistant": "assistant"}


class RewardModel(Protocol):
    """Scores responses; higher is better. Scores of different identities must not be compared."""

    @property
    def identity(self) -> str:
        """Changes whenever the same text could get another score."""
        ...

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """One raw score per prompt and response, in the order given."""
        ...


def rewards_of(reward_model: RewardModel, items: Sequence[tuple[Prompt, str]]) -> list[float]:
    """One raw score per prompt and response, in the order given.

    Raises:
        DeviceMemoryFull: the reward model's passes do not fit.
    """
    with fitting(f"Scoring {len(items)} responses by {reward_model.identity}", REWARDS):
        return reward_model.score(items)


def score_by_length(
    rows: Sequence[list[int]], batch: int, score: Callable[[list[list[int]]], Sequence[float]]
) -> list[float]:
    """One score per row of token ids, in the order of the rows; computed shortest first, so that little is padding.

    Args:
        rows: Token ids.
        batch: Rows at a time.
        score: The scores of a batch.
    """
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    scores = [0.0] * len(rows)
    for start in range(0, len(rows), batch):
        places = by_length[start : start + batch]
        for place, value in zip(places, score([rows[place] for place in places]), strict=True):
            scores[place] = value
    return scores


class NetworkRewardModel(ABC):
    """A network with its tokenizer, by hub name or folder, that scores dialogues cut on the left.

    Args:
        name: Hub name or folder.
        revision: Branch, tag or commit on the hub.
        max_tokens: Longest dialogue with its response.
        batch: Responses scored at once.
        device: By default CUDA where there is one. On `meta` it looks at everything, no weight takes memory, and it
            scores nothing.

    Raises:
        ModelError: the model cannot be found or loaded, or is of another kind.
    """

    kind: str
    files: str
    """What a name or folder has to hold."""
    identity: str
    _pad_id: int

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
        try:
            with quiet_transformers():
                self._load(name, revision)
            return
        except torch.OutOfMemoryError:
            raise  # no fault of the model's
        except pickle.UnpicklingError:  # torch's own message advises to run the code in the file
            problem = "Its pickled weights are damaged or hold more than tensors."
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise self._refusal(name, problem)

    def _refusal(self, name: str, problem: str) -> ModelError:
        return ModelError(
            f"Cannot load {name!r} as {self.kind}. {problem} Expected a hub name or a folder with {self.files}; "
            "a hub name needs network access or a filled cache."
        )

    @abstractmethod
    def _load(self, name: str, revision: str | None) -> None:
        """Take tokenizer, network and identity; what transformers, torch and the hub raise may pass."""

    @abstractmethod
    def _tokens(self, prompt: Prompt, response: str) -> list[int]:
        """The dialogue; control tokens that are spelled out in it are ordinary text."""

    @abstractmethod
    def _rewards(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Raw scores [B] of dialogues [B, T], padded on the right."""

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The network's raw output for each response."""
        return score_by_length([self._tokens(*item) for item in items], self._batch, self._score)

    @torch.inference_mode()
    def _score(self, rows: list[list[int]]) -> list[float]:
        ids = [torch.tensor(row) for row in rows]
        token_ids = pad_sequence(ids, batch_first=True, padding_value=self._pad_id)
        mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        scores: list[float] = self._rewards(token_ids.to(self._device), mask.to(self._device)).tolist()
        return scores


class ClassifierRewardModel(NetworkRewardModel):
    """Any sequence classifier with a single output; weights in safetensors.

    Dialogues are written with the tokenizer's chat template where it has one, else as HH-RLHF's plain text.
    """

    kind = "a reward model"
    files = "a sequence classifier in safetensors"

    def _load(self, name: str, revision: str | None) -> None:
        where = Path(name).expanduser()
        here = where.is_dir()
        source = str(where) if here else name
        if not here and name.startswith((".", "/", "~")):
            raise ModelError(f"No folder {name}: expected one with a reward model. Check evaluation.reward_model_name.")
        if not here:
            look_up(name, revision)
        # Stated, because transformers would ask on the terminal otherwise.
        shared: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(source, **shared)
        self._tokenizer.truncation_side = "left"
        dtype = "auto" if self._device == "cuda" else torch.float32  # half precision crawls on a CPU
        shared |= {"dtype": dtype, "device_map": self._device, "use_safetensors": True, "output_loading_info": True}
        model, report = AutoModelForSequenceClassification.from_pretrained(source, **shared)
        if missing := sorted(report["missing_keys"]):
            raise self._refusal(name, f"{len(missing)} weights are missing, first {missing[0]}.")
        outputs = model.config.num_labels
        if outputs != 1:
            raise ModelError(f"{name!r} has {outputs} outputs, expected a reward model's one. Choose another.")
        self._model = model.eval()
        # Classifiers find the last token by the padding id; without one, rows cannot share a batch.
        pad_id = model.config.get_text_config().pad_token_id
        self._pad_id, self._batch = (pad_id, self._batch) if pad_id is not None else (0, 1)
        commit = getattr(model.config, "_commit_hash", None) or revision
        self.identity = f"classifier:{self._version(name, commit)}"

    def _version(self, name: str, commit: str | None) -> str:
        """Of a folder its name, files and limit, wherever it lies; of a hub model its commit."""
        folder = Path(name).expanduser()
        if folder.is_dir():
            contents = files_sha256(folder) + tokenizer_sha256(self._tokenizer)
            return f"{folder.resolve().name}@{hashlib.sha256(contents.encode()).hexdigest()[:16]}:{self._max_tokens}"
        limit = "" if self._max_tokens == REWARD_TOKENS else f":{self._max_tokens}"
        return name + (f"@{commit}" if commit else "") + limit

    def _rewards(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        outputs: Tensor = self._model(input_ids=token_ids, attention_mask=mask).logits[:, 0].float()
        return outputs

    def _tokens(self, prompt: Prompt, response: str) -> list[int]:
        limit: dict[str, Any] = {"truncation": True, "max_length": self._max_tokens}
        ids: list[int]
        if self._tokenizer.chat_template is None:
            text = f"\n\n{prompt.instruction} {response}"
            ids = self._tokenizer(text, split_special_tokens=True, **limit)["input_ids"]
            return ids
        turns = [{"role": ROLES[turn.speaker], "content": turn.text} for turn in prompt.turns]
        messages = [*turns, {"role": "assistant", "content": response}]
        ids = self._tokenizer.apply_chat_template(messages, return_dict=False, sanitize_control_tokens=True, **limit)
        return ids
