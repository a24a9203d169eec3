"""DPO and REINFORCE leave-one-out with PPO's clipped ratio, by TRL's maintained trainers.

They train the white box's own adapter in place, on prompts and replies that its own format encodes, with the
schedule, clipping and weight decay of every other run. TRL has dropped PPO itself, whose figures the paper only cites.
Needs the extra `baselines`. Called by `tasks.studies.baselines`; leaves out the ledger.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from torch.utils.data import Sampler, SequentialSampler
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, RLOOConfig, RLOOTrainer

from cyclealign.records import PreferencePair, Prompt
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.seeds import derive_seed
from cyclealign.settings import Settings
from cyclealign.white_box.training import learning_rate
from cyclealign.white_box.weights import adapter_parameters, read_adapter
from cyclealign.white_box.white_box import WhiteBox


@dataclass(frozen=True)
class Curriculum:
    """What is learnt."""

    settings: Settings
    pairs: Sequence[PreferencePair]
    steps: int
    """Optimizer steps."""
    reward: RewardModel | None
    """None for DPO."""
    workspace: Path
    """Where the trainer writes its checkpoints, which the keeper then moves."""


class Keeper(Protocol):
    """Keeps what the trainer reports."""

    def step_done(self, **figures: Any) -> None:
        """The trainer took one optimizer step."""
        ...

    def checkpoint_written(self, steps: int, folder: Path) -> None:
        """A checkpoint after this many steps is complete in `folder`, from where it may be moved."""
        ...


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # untyped
    """DPO on pairs that are encoded already, in their order."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # trl 1.16 would encode the texts in a format of its own

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset if dataset is None else dataset)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: the run has a report."""


class OnPolicyTrainer(RLOOTrainer):  # type: ignore[misc]  # untyped
    """RLOO on prompts that the white box encodes."""

    def encode_with(self, prompts: dict[str, list[int]]) -> "OnPolicyTrainer":
        """Take token ids by prompt id; the data set's prompts are ids."""
        self._encoded = prompts
        return self

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._encoded[prompt_id] for prompt_id in prompts], None, {}

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: the run has a report."""


def train(white_box: WhiteBox, curriculum: Curriculum, keeper: Keeper, checkpoint: Path | None) -> None:
    """Train the white box to the curriculum's last step, from a checkpoint that an earlier call wrote if given.

    Afterwards the white box holds the trained adapter and samples with it.
    """
    build = on_policy_trainer if curriculum.reward is not None else preference_trainer
    trainer = build(white_box, curriculum)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Telling(keeper, curriculum))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    white_box.model.delete_adapter("ref")  # the frozen copy that the trainer compares with


def take_adapter(white_box: WhiteBox, checkpoint: Path) -> None:
    """Give the white box the adapter of a checkpoint after the last step, from which there is nothing to train."""
    parameters = adapter_parameters(white_box.model)
    for name, tensor in read_adapter(checkpoint, parameters).items():
        parameters[name].data.copy_(tensor)


def preference_trainer(white_box: WhiteBox, curriculum: Curriculum) -> DPOTrainer:
    """DPO on the data set's pairs."""
    settings, size = curriculum.settings, curriculum.settings.training.examples
    arguments = DPOConfig(
        **_arguments(curriculum, size, settings.training.checkpoint_every),
        beta=settings.baseline.dpo_beta,
        max_length=None,  # the white box has cut what is too long
    )
    return PreferenceTrainer(
        model=white_box.model,
        args=arguments,
        train_dataset=Dataset.from_list([_pair_row(white_box, pair, settings) for pair in curriculum.pairs]),
        processing_class=white_box.prompt_format.tokenizer,
        optimizers=_optimizer(white_box, curriculum),
    )


def on_policy_trainer(white_box: WhiteBox, curriculum: Curriculum) -> RLOOTrainer:
    """RLOO on the prompts: as many responses to each as the cycle has candidates, scored by the reward model."""
    settings, iterations = curriculum.settings, curriculum.settings.baseline.rl_iterations
    sampling, candidates = settings.white_box.sampling, settings.method.candidates
    every = -(-settings.training.checkpoint_every // iterations) * iterations  # no responses half used
    arguments = RLOOConfig(
        **_arguments(curriculum, settings.training.examples * candidates, every),
        num_generations=candidates,
        num_iterations=iterations,
        epsilon=settings.baseline.rl_clip,
        beta=settings.baseline.rl_beta,
        max_completion_length=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        shuffle_dataset=False,
    )
    prompts = {pair.prompt.prompt_id: pair.prompt for pair in curriculum.pairs}
    trainer = OnPolicyTrainer(
        model=white_box.model,
        reward_funcs=_reward(white_box, curriculum, prompts),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt_id} for prompt_id in prompts]),
        processing_class=white_box.prompt_format.tokenizer,
        optimizers=_optimizer(white_box, curriculum),
    )
    encoded = {key: white_box.encode_prompt(prompt, sampling.max_new_tokens) for key, prompt in prompts.items()}
    return trainer.encode_with(encoded)


class Telling(TrainerCallback):  # type: ignore[misc]  # untyped
    """Tells the keeper about steps and checkpoints, of which one follows the last step."""

    def __init__(self, keeper: Keeper, curriculum: Curriculum) -> None:
        self._keeper = keeper
        self._examples = curriculum.settings.training.examples
        self._clock = time.monotonic()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the step's clock."""
        self._clock = time.monotonic()

    def on_log(self, _: Any, state: Any, *__: Any, logs: dict[str, float], **___: Any) -> None:
        """Report the step that was logged; the summary at the end has no loss of its own."""
        if "loss" in logs:
            self._keeper.step_done(
                optimizer_step=state.global_step - 1,
                examples=self._examples,
                loss=logs["loss"],
                gradient_norm=logs.get("grad_norm"),
                learning_rate=logs["learning_rate"],
                seconds=time.monotonic() - self._clock,
                reward=logs.get("reward"),
            )

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Hand over the checkpoint, which is complete by now."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._keeper.checkpoint_written(state.global_step, folder)


def _arguments(curriculum: Curriculum, batch: int, save_every: int) -> dict[str, Any]:
    """The arguments of both trainers; precision is that of the loaded weights."""
    training = curriculum.settings.training
    return {
        "output_dir": str(curriculum.workspace),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "max_steps": curriculum.steps,
        "max_grad_norm": training.clip_norm,
        "logging_steps": 1,
        "save_steps": save_every,
        "seed": derive_seed(curriculum.settings.seed, "trl") % 2**32,
        "bf16": False,
        "gradient_checkpointing": False,  # the white box has turned it on where the settings want it
        "use_cpu": curriculum.settings.white_box.device == "cpu" or not torch.cuda.is_available(),
        "report_to": [],
        "disable_tqdm": True,
    }


def _optimizer(white_box: WhiteBox, curriculum: Curriculum) -> tuple[Any, Any]:
    """AdamW over the adapter, and the learning rate that every run of these settings has."""
    training, parameters = curriculum.settings.training, adapter_parameters(white_box.model)
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=training.learning_rate, weight_decay=training.weight_decay
    )

    def share(step: int) -> float:
        return learning_rate(training, step, step / curriculum.steps) / training.learning_rate

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _pair_row(white_box: WhiteBox, pair: PreferencePair, settings: Settings) -> dict[str, list[int]]:
    limit = settings.white_box.sampling.max_new_tokens
    chosen, rejected = (white_box.encode_reply(text, limit).tokens for text in (pair.chosen, pair.rejected))
    return {
        "prompt_ids": white_box.encode_prompt(pair.prompt, limit),
        "chosen_ids": list(chosen),
        "rejected_ids": list(rejected),
    }


def _reward(white_box: WhiteBox, curriculum: Curriculum, prompts: dict[str, Prompt]) -> Any:
    reward_model = curriculum.reward
    assert reward_model is not None  # noqa: S101  asked for by the caller

    def reward(**given: Any) -> list[float]:
        texts = [white_box.prompt_format.response(tokens).text for tokens in given["completion_ids"]]
        items = [(prompts[prompt_id], text) for prompt_id, text in zip(given["prompts"], texts, strict=True)]
        return list(reward_model.score(items))

    return reward
