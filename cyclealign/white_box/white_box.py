"""The white-box model: the open causal LM that samples, scores its samples and is trained (Figure 2).

A small front over `loading`, `prompt_format`, `sampling`, `sequence_scores`, `training_step` and `weights`.
Called by `tasks`. Leaves out the black box, rankings, and when to do what.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from cyclealign.errors import ModelError
from cyclealign.records import LogProbability, OptimizerReport, Prompt, Response, TrainingExample
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.seeds import derive_seed
from cyclealign.settings import MethodSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box import checkpoint_files, weights
from cyclealign.white_box.compiled_steps import CompiledSteps, compiled_steps_of
from cyclealign.white_box.deepspeed_engine import DeepSpeedEngine
from cyclealign.white_box.loading import Pretrained, add_adapter, load_adapter, load_pretrained, resolve_device
from cyclealign.white_box.packing import Row
from cyclealign.white_box.pass_sizes import SCORING_TOKENS
from cyclealign.white_box.prompt_format import PromptFormat, end_ids
from cyclealign.white_box.sampling import Ends, decode, draw_uniforms, no_server
from cyclealign.white_box.sequence_scores import plan_passes, scores_of
from cyclealign.white_box.training_engine import Shares, TorchEngine, TrainingEngine
from cyclealign.white_box.training_step import Objective, learning_rate, take_step

Sampler = Callable[["WhiteBox", Sequence[Prompt], Sequence[int], int, SamplingSettings], list[list[Response]]]
"""What samples like `WhiteBox.sample`, for the white box that it is given first."""


class WhiteBox:
    """A causal LM under a LoRA adapter; `load` makes one that trains, `load_for_inference` one that does not.

    With several ranks every rank calls every method with the same arguments and gets the same answer; the
    work in between is shared. Weights change in `optimize` and `load_checkpoint` alone, and depend on nothing
    but the seed, the settings and the examples.
    """

    def __init__(self, pretrained: Pretrained, model: Any, settings: WhiteBoxSettings) -> None:
        self._model = model
        self._settings = settings
        self._format = PromptFormat(
            pretrained.tokenizer, settings.prompt_format, settings.system_prompt, end_ids(pretrained.model)
        )
        self._scores = scores_of(model, settings.model, self._format.pad_id, settings.max_length)
        self._engine: TrainingEngine | None = None
        self._merge = weights.can_merge(model)
        self._shares = Shares()
        self.server: Sampler = no_server
        """What samples in the place of this process, where `sampling.engine` says so."""
        self.optimizer_steps = 0
        # With `weights_sha256`, all that determines what this model answers.
        self.description: dict[str, Any] = {
            **pretrained.identity,
            "prompt_format": self._format.kind,
            "system_prompt": settings.system_prompt,
            "max_length": settings.max_length,
            "lora": weights.lora_shape(model),
        }

    @classmethod
    def load(
        cls,
        settings: WhiteBoxSettings,
        training: TrainingSettings,
        method: MethodSettings,
        *,
        seed: int,
        model_path: str | None = None,
    ) -> Self:
        """The model of the settings (or at `model_path`) under a new adapter that depends on `seed` alone.

        Raises:
            ModelError: the model or the adapter cannot be had as asked (see `loading`).
        """
        pretrained = load_pretrained(settings, model_path, resolve_device(settings))
        return cls.under_new_adapter(pretrained, settings, training, method, seed)

    @classmethod
    def under_new_adapter(
        cls,
        pretrained: Pretrained,
        settings: WhiteBoxSettings,
        training: TrainingSettings,
        method: MethodSettings,
        seed: int,
    ) -> Self:
        """A model that `load` has loaded already, as it returns it.

        Raises:
            ModelError: the adapter cannot be had as asked.
        """
        model = add_adapter(pretrained.model, settings.lora, derive_seed(seed, "lora"))
        white_box = cls(pretrained, model, settings)
        white_box._prepare_training(training, method, seed, resolve_device(settings))
        return white_box

    @classmethod
    def load_for_inference(
        cls, settings: WhiteBoxSettings, *, model_path: str | None = None, adapter: Path | None = None
    ) -> "WhiteBox":
        """The model as it is, or under the adapter that `save_adapter` or a checkpoint left in a folder.

        Raises:
            ModelError: the model or the adapter cannot be had as asked (see `loading`).
        """
        pretrained = load_pretrained(settings, model_path, resolve_device(settings))
        model = pretrained.model if adapter is None else load_adapter(pretrained.model, adapter)
        return cls(pretrained, model, settings)

    @property
    def model(self) -> Any:
        """The network with its adapter, for trainers of other libraries (`trl_trainers`)."""
        return self._model

    @property
    def prompt_format(self) -> PromptFormat:
        """How its prompts and responses are written, with the tokenizer."""
        return self._format

    def read_response(self, tokens: Sequence[int]) -> Response:
        """The response that sampled tokens are: up to the first stop token, or the next speaker's mark."""
        return self._format.response(tokens)

    def encode_prompt(self, prompt: Prompt, reserve: int) -> list[int]:
        """The prompt's token ids, cut on the left so that `reserve` more tokens fit into `max_length`.

        Raises:
            ValueError: nothing would be left of the prompt.
        """
        budget = self._settings.max_length - reserve
        if budget < 2:
            raise ValueError(
                f"{reserve} tokens beside the prompt leave {budget} of max_length = "
                f"{self._settings.max_length} for it, expected at least 2."
            )
        return self._format.encode(prompt.turns, budget)

    def encode_reply(self, text: str, limit: int) -> Response:
        """A text of another origin (a rewrite, a reply of the data set) as at most `limit` tokens.

        It ends with the end-of-sequence token unless it was cut. Control tokens in it are ordinary text.
        """
        return self._format.encode_reply(text, limit)

    def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], responses: int, sampling: SamplingSettings
    ) -> list[list[Response]]:
        """`responses` responses to each prompt, drawn with the prompt's own seed under the current weights.

        A prompt's responses do not depend on the prompts beside it. The weights stay the same bit for bit.
        """
        if sampling.engine == "vllm":
            return self.server(self, prompts, seeds, responses, sampling)
        mine = self._shares.mine(len(prompts))
        encoded = [self.encode_prompt(prompts[index], sampling.max_new_tokens) for index in mine]
        sampled: list[list[int]] = []
        self._model.eval()
        if encoded:
            uniforms = draw_uniforms([seeds[index] for index in mine], responses, sampling.max_new_tokens)
            ends = Ends(self._format.stop_ids, self._format.has_ended)
            steps = self._compiled if sampling.engine == "compiled" else None
            # A CUDA graph reads weights where they lay when it was recorded: it runs beside the adapter.
            with weights.merged_adapter(self._model) if self._merge and steps is None else nullcontext():
                sampled = decode(steps or self._model, encoded, uniforms, sampling, ends)
        finished = [self._format.response(tokens) for tokens in sampled]
        groups = [finished[start : start + responses] for start in range(0, len(finished), responses)]
        return self._shares.together(list(zip(mine, groups, strict=True)), len(prompts))

    def log_probabilities(
        self, prompt_responses: Sequence[tuple[Prompt, Sequence[tuple[int, ...]]]]
    ) -> list[list[LogProbability]]:
        """log P(y | x) of each response (token ids) to each prompt, under the current weights."""
        rows = [self.row(prompt, responses) for prompt, responses in prompt_responses]
        mine = [index for index in self._shares.mine(len(rows)) if rows[index][1]]
        found: list[tuple[int, list[LogProbability]]] = []
        self._model.eval()
        planned = plan_passes([rows[index] for index in mine], SCORING_TOKENS, packed=self._scores.packed)
        for positions in planned:
            indices = [mine[position] for position in positions]
            found += zip(indices, self._score([rows[index] for index in indices]), strict=True)
        return self._shares.together(found, len(rows))

    def optimize(self, examples: Sequence[TrainingExample], progress: float = 0.0) -> OptimizerReport:
        """One optimizer step on the mean of L = L_rank + λ·L_sft over the examples (Paper: Eq. 1).

        An example with fewer than two preferred responses adds no L_rank, one without a target no L_sft.

        Args:
            examples: What is learnt from.
            progress: Share of the run's prompts that are done, which a decay of the learning rate follows.

        Raises:
            TrainingDiverged: a loss or gradient is not finite or too large; names prompts, updates nothing.
            ValueError: no examples, or one without responses.
        """
        engine = self._trained_engine()
        rows = [self.row(example.prompt, example.responses) for example in examples]
        if not rows or not all(responses for _, responses in rows):
            raise ValueError("An optimizer step needs examples, each with at least one response.")
        rate = learning_rate(self._training, self.optimizer_steps, progress)
        self._model.train()
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # dropout, where a setting or the model has any
            torch.manual_seed(derive_seed(self._seed, "dropout", self.optimizer_steps, engine.rank))
            report = take_step(engine, examples, rows, self._objective, rate)
        self.optimizer_steps += 1
        return report

    def save_checkpoint(self, folder: Path) -> None:
        """Writes adapter and optimizer; `load_checkpoint` continues from it bit for bit. Not atomic."""
        engine = self._trained_engine()
        adapter, moments = engine.adapter(), engine.moments()
        if engine.rank == 0:
            checkpoint_files.save_adapter(self._model, adapter, folder)
            checkpoint_files.save_optimizer(self.optimizer_steps, moments, folder)
        engine.gather([None])  # nobody leaves before the files are there

    def load_checkpoint(self, folder: Path) -> None:
        """Takes adapter and optimizer from a folder that `save_checkpoint` wrote.

        Raises:
            ModelError: a file is missing or broken, or belongs to another model or adapter.
        """
        engine = self._trained_engine()
        adapter = checkpoint_files.read_adapter(folder, engine.adapter())
        steps, moments = checkpoint_files.read_optimizer(folder)
        end = self._format.eos_id
        engine.restore(adapter, moments, steps, ([end], [[end]]))
        self.optimizer_steps = steps

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter alone, in peft's format.

        Raises:
            ModelError: there is no adapter.
        """
        if not hasattr(self._model, "peft_config"):
            raise ModelError("This model has no adapter to save: it was loaded for inference without one.")
        tensors = self._adapter()
        if self._engine is None or self._engine.rank == 0:
            checkpoint_files.save_adapter(self._model, tensors, folder)

    def weights_sha256(self) -> str:
        """Digest of the adapter's tensors by name: equal weights give equal digests on every device."""
        return weights.sha256_of(self._adapter())

    def close(self) -> None:
        """Give the weights' memory back; the model is of no use afterwards.

        DeepSpeed's hooks keep the model itself alive, whoever forgets it.
        """
        weights.release(self._model)

    def _prepare_training(
        self, training: TrainingSettings, method: MethodSettings, seed: int, device: torch.device
    ) -> None:
        if training.gradient_checkpointing:
            self._model.get_base_model().activation_checkpointing_enable()
        self._training, self._seed = training, seed
        self._objective = Objective(method.objective, method.lambda_sft, training.max_loss)
        engine = TorchEngine if training.engine == "torch" else DeepSpeedEngine
        self._engine = engine(self._scores, training, device)
        if self._engine.ranks > 1:
            weights.refuse_dropout(self._model, self._settings.model)
        # ZeRO-3 holds a part of each weight: nothing to merge into, and every rank must run every pass.
        partitioned = training.engine == "deepspeed" and training.zero_stage == 3
        self._merge = self._merge and not partitioned
        self._shares = Shares(None if partitioned else self._engine)

    @cached_property
    def _compiled(self) -> CompiledSteps | None:
        return compiled_steps_of(self._model, self._settings.model, packed=self._scores.packed)

    def _trained_engine(self) -> TrainingEngine:
        if self._engine is None:
            raise ModelError("This model was loaded for inference; training needs WhiteBox.load.")
        return self._engine

    def _adapter(self) -> Mapping[str, Tensor]:
        if self._engine is not None:
            return self._engine.adapter()
        return weights.adapter_parameters(self._model)

    def row(self, prompt: Prompt, responses: Sequence[tuple[int, ...]]) -> Row:
        """The prompt as it is sampled from in the cycle, unless a response is longer than one can be there."""
        reserve = max([self._settings.sampling.max_new_tokens, *map(len, responses)])
        return self.encode_prompt(prompt, reserve), responses

    def _score(self, rows: Sequence[Row]) -> list[list[LogProbability]]:
        with torch.no_grad():
            totals, tokens = self._scores(rows)
        scored = iter(map(LogProbability, totals.tolist(), tokens.tolist()))
        return [[next(scored) for _ in responses] for _, responses in rows]
