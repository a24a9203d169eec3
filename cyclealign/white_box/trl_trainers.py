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

from cyclealign.records import PreferencePair
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.seeds import derive_seed
from cyclealign.settings import Settings
from cyclealign.white_box.training import learning_rate
from cyclealign.white_box.weights import adapter_parameters, read_adapter
from cyclealign.white_box.white_box import WhiteBox


@dataclass(frozen=True)
class Curriculum:
    """Who learns what, for how long."""

    white_box: WhiteBox
    settings: Settings
    pairs: Sequence[PreferencePair]
    steps: int
    """Optimizer steps."""
    reward: RewardModel | None
    """None for DPO."""
    workspace: Path
    """Where the trainer writes its checkpoints, which the keeper then moves."""

    def arguments(self, batch: int, save_every: int) -> dict[str, Any]:
        """The arguments of both trainers; precision is that of the loaded weights."""
        training = self.settings.training
        return {
            "output_dir": str(self.workspace),
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 1,
            "max_steps": self.steps,
            "max_grad_norm": training.clip_norm,
            "logging_steps": 1,
            "save_steps": save_every,
            "seed": derive_seed(self.settings.seed, "trl") % 2**32,
            "bf16": False,
            "gradient_checkpointing": False,  # the white box has turned it on where the settings want it
            "use_cpu": self.settings.white_box.device == "cpu" or not torch.cuda.is_available(),
            "report_to": [],
            "disable_tqdm": True,
        }

    def optimizer(self) -> tuple[Any, Any]:
        """AdamW over the adapter, and the learning rate that every run of these settings has."""
        training, parameters = self.settings.training, adapter_parameters(self.white_box.model)
        rate = training.learning_rate
        optimizer = torch.optim.AdamW(list(parameters.values()), lr=rate, weight_decay=training.weight_decay)

        def share(step: int) -> float:
            return learning_rate(training, step, step / self.steps) / rate

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


class Keeper(Protocol):
    """Keeps what the trainer reports."""

    def step_done(self, **figures: Any) -> None:
        """The trainer took one optimizer step."""
        ...

    def checkpoint_written(self, steps: int, folder: Path) -> None:
        """A checkpoint after this many steps is complete in `folder`, from where it may be moved."""
        ...


def train(curriculum: Curriculum, keeper: Keeper, checkpoint: Path | None) -> None:
    """Train the white box to the curriculum's last step, from a checkpoint that an earlier call wrote if given.

    Afterwards the white box holds the trained adapter and samples with it.
    """
    trainer = (preference_trainer if curriculum.reward is None else on_policy_trainer)(curriculum)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Telling(keeper, curriculum.settings.training.examples))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    curriculum.white_box.model.delete_adapter("ref")  # the frozen copy that the trainer compares with


def take_adapter(white_box: WhiteBox, checkpoint: Path) -> None:
    """Give the white box the adapter of a checkpoint after the last step, from which there is nothing to train."""
    parameters = adapter_parameters(white_box.model)
    for name, tensor in read_adapter(checkpoint, parameters).items():
        parameters[name].data.copy_(tensor)


class PreferenceTrainer(DPOTrainer):  # type: ignore[misc]  # untyped
    """DPO on pairs that are encoded already, in their order."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # trl 1.16 would encode the texts in a format of its own

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset if dataset is None else dataset)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: the run has a report."""


def preference_trainer(curriculum: Curriculum) -> DPOTrainer:
    """DPO on the data set's pairs."""
    settings, box = curriculum.settings, curriculum.white_box
    limit = settings.white_box.sampling.max_new_tokens
    rows = [
        {
            "prompt_ids": box.encode_prompt(pair.prompt, limit),
            "chosen_ids": list(box.encode_reply(pair.chosen, limit).tokens),
            "rejected_ids": list(box.encode_reply(pair.rejected, limit).tokens),
        }
        for pair in curriculum.pairs
    ]
    arguments = DPOConfig(
        **curriculum.arguments(settings.training.examples, settings.training.checkpoint_every),
        beta=settings.baseline.dpo_beta,
        max_length=None,  # the white box has cut what is too long
    )
    return PreferenceTrainer(
        model=box.model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=box.prompt_format.tokenizer,
        optimizers=curriculum.optimizer(),
    )


class OnPolicyTrainer(RLOOTrainer):  # type: ignore[misc]  # untyped
    """RLOO on prompts that the white box encodes; those of the data set are ids."""

    encoded: dict[str, list[int]]
    """Token ids by prompt id."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self.encoded[prompt_id] for prompt_id in prompts], None, {}

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: the run has a report."""


def on_policy_trainer(curriculum: Curriculum) -> RLOOTrainer:
    """RLOO on the prompts: as many responses to each as the cycle has candidates, scored by the reward model."""
    settings, box, reward_model = curriculum.settings, curriculum.white_box, curriculum.reward
    sampling, candidates = settings.white_box.sampling, settings.method.candidates
    iterations = settings.baseline.rl_iterations
    every = -(-settings.training.checkpoint_every // iterations) * iterations  # no responses half used
    arguments = RLOOConfig(
        **curriculum.arguments(settings.training.examples * candidates, every),
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

    def reward(**given: Any) -> list[float]:
        assert reward_model is not None  # noqa: S101  the caller has looked
        texts = [box.prompt_format.response(tokens).text for tokens in given["completion_ids"]]
        items = [(prompts[prompt_id], text) for prompt_id, text in zip(given["prompts"], texts, strict=True)]
        return list(reward_model.score(items))

    trainer = OnPolicyTrainer(
        model=box.model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt_id} for prompt_id in prompts]),
        processing_class=box.prompt_format.tokenizer,
        optimizers=curriculum.optimizer(),
    )
    trainer.encoded = {name: box.encode_prompt(prompt, sampling.max_new_tokens) for name, prompt in prompts.items()}
    return trainer


class Telling(TrainerCallback):  # type: ignore[misc]  # untyped
    """Reports steps and checkpoints to the keeper, of which one follows the last step."""

    def __init__(self, keeper: Keeper, examples: int) -> None:
        self._keeper, self._examples, self._clock = keeper, examples, time.monotonic()

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
