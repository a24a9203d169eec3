"""Reward models: what scores responses in the evaluation. None of them is ever used by the cycle.

Holds the protocol and the adapter to sequence classifiers from the hub or a folder. The dialogue world's own
are in `offline.tiny_models` and `offline.world`, the heads on a frozen model in `offline.preference`. Leaves out the
summary of scores.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cyclealign.errors import ModelError
from cyclealign.records import Prompt
from cyclealign.reward_models.length_batches import score_by_length
from cyclealign.white_box.device_memory import REWARDS, fitting
from cyclealign.white_box.identity import files_sha256, tokenizer_sha256
from cyclealign.white_box.loading import look_up, quiet_transformers
from cyclealign.white_box.pass_sizes import REWARD_TOKENS

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


class ClassifierRewardModel:
    """Any sequence classifier with a single output, by hub name or folder.

    Dialogues are written with the tokenizer's chat template where it has one, else as HH-RLHF's plain text,
    and cut on the left.

    Args:
        name: Hub name or folder; weights in safetensors.
        revision: Branch, tag or commit on the hub.
        max_tokens: Longest dialogue with its response.
        batch: Responses scored at once.
        device: By default CUDA where there is one. On `meta` everything is looked at, no weight takes memory, and
            nothing can be scored.

    Raises:
        ModelError: the model cannot be found or loaded, or it has more than one output.
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
        # Half precision crawls on a CPU.
        dtype = "auto" if self._device == "cuda" else torch.float32
        self._tokenizer, model = _load(name, revision, dtype, self._device)
        outputs = model.config.num_labels
        if outputs != 1:
            raise ModelError(f"{name!r} has {outputs} outputs, expected a reward model's one. Choose another.")
        self._model = model.eval()
        self._tokenizer.truncation_side = "left"
        self._max_tokens = max_tokens
        # Classifiers find the last token by the padding id; without one, rows cannot share a batch.
        self._pad_id = model.config.get_text_config().pad_token_id
        self._batch = batch if self._pad_id is not None else 1
        commit = getattr(model.config, "_commit_hash", None) or revision
        self.identity = f"classifier:{_version(name, commit, self._tokenizer, max_tokens)}"

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The classifier's raw output for each response."""
        rows = [self._ids(prompt, response) for prompt, response in items]
        return score_by_length(rows, self._batch, self._scores)

    @torch.inference_mode()
    def _scores(self, token_ids: list[list[int]]) -> list[float]:
        rows = [torch.tensor(ids) for ids in token_ids]
        ids = pad_sequence(rows, batch_first=True, padding_value=self._pad_id or 0)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        output = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
        scores: list[float] = output.logits[:, 0].float().tolist()
        return scores

    def _ids(self, prompt: Prompt, response: str) -> list[int]:
        """Token ids; control tokens that are spelled out in the dialogue are ordinary text."""
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


def _version(name: str, commit: str | None, tokenizer: Any, max_tokens: int) -> str:
    """What decides the scores: of a folder its name, files and limit, wherever it lies; of a hub model its commit."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        contents = files_sha256(folder) + tokenizer_sha256(tokenizer)
        return f"{folder.resolve().name}@{hashlib.sha256(contents.encode()).hexdigest()[:16]}:{max_tokens}"
    limit = "" if max_tokens == REWARD_TOKENS else f":{max_tokens}"
    return name + (f"@{commit}" if commit else "") + limit


def _load(name: str, revision: str | None, dtype: torch.dtype | str, device: str) -> tuple[Any, Any]:
    where = Path(name).expanduser()
    here = where.is_dir()
    source = str(where) if here else name
    if not here and name.startswith((".", "/", "~")):
        raise ModelError(f"No folder {name}: expected one with a reward model. Check evaluation.reward_model_name.")
    # Said, because transformers would ask on the terminal otherwise.
    shared: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        with quiet_transformers():
            if not here:
                look_up(name, revision)
            tokenizer = AutoTokenizer.from_pretrained(source, **shared)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                source, **shared, dtype=dtype, device_map=device, use_safetensors=True, output_loading_info=True
            )
    except torch.OutOfMemoryError:
        raise  # no fault of the model's
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, HFValidationError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    else:
        missing = sorted(report["missing_keys"])
        if not missing:
            return tokenizer, model
        problem = f"{len(missing)} weights are missing, first {missing[0]}."
    raise ModelError(
        f"Cannot load {name!r} as a reward model. {problem} Expected a hub name or a folder with a sequence"
        " classifier in safetensors; a hub name needs network access or a filled cache."
    )
