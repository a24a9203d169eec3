"""The white-box model: the open causal LM that samples, scores its samples and is trained (Figure 2).

A small front over `loading`, `prompt_format`, `sampling`, `sequence_scores`, `training` and `weights`. Called by
`tasks`, and by `ranks` where several processes train it. Leaves out the black box, rankings, and when to do what.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import torch
from torch import Tensor

from cyclealign.errors import ModelError
from cyclealign.model_sizes import SCORING_TOKENS
from cyclealign.records import LogProbability, OptimizerReport, Prompt, Response, TrainingExample, Turn
from cyclealign.seeds import derive_seed
from cyclealign.settings import SamplingSettings, WhiteBoxSettings
from cyclealign.white_box import weights
from cyclealign.white_box.loading import Pretrained, Recipe, add_adapter, load_adapter, load_pretrained, resolve_device
from cyclealign.white_box.prompt_format import PromptFormat, end_ids
from cyclealign.white_box.sampling import CompiledSteps, Ends, decode, draw_uniforms
from cyclealign.white_box.sequence_scores import Row, plan_passes, scores_of
from cyclealign.white_box.training import DeepSpeedEngine, TrainingEngine, learning_rate, take_step

T = TypeVar("T")
Sampler = Callable[["WhiteBox", Sequence[Prompt], Sequence[int], int, SamplingSettings], list[list[Response]]]
"""What samples like `WhiteBox.sample`, for the white box that it is given first."""


class WhiteBox:
    """A causal LM under a LoRA adapter; `load` makes one that trains, `load_for_inference` one that does not.

    With several ranks every rank calls every method with the same arguments and gets the same answer; the
    work in between is shared. Weights change in `optimize` and `load_checkpoint` alone, and depend on nothing
    but the seed, the settings and the examples.
    """

    def __init__(self, pretrained: Pretrained, model: Any, settings: WhiteBoxSettings) -> None:
        self.model = model
        """The network with its adapter, for trainers of other libraries too (`trl_trainers`)."""
        self.prompt_format = PromptFormat(
            pretrained.tokenizer, settings.prompt_format, settings.system_prompt, end_ids(pretrained.model)
        )
        self.server: Sampler = no_server
        """What samples in the place of this process, where `sampling.engine` says so."""
        self.optimizer_steps = 0
        lora = getattr(model, "peft_config", {}).get("default")
        self.description: dict[str, Any] = {
            **pretrained.identity,
            "prompt_format": self.prompt_format.kind,
            "system_prompt": settings.system_prompt,
            "max_length": settings.max_length,
            "lora": None if lora is None else {"rank": lora.r, "alpha": lora.lora_alpha},
        }
        """With `weights_sha256`, all that determines what this model answers."""
        self._settings = settings
        self._scores = scores_of(model, settings.model, self.prompt_format.pad_id, settings.max_length)
        self._engine: TrainingEngine | None = None
        self._sharing: TrainingEngine | None = None  # over whose ranks prompts are shared out
        self._merge = weights.can_merge(model)

    @classmethod
    def load(cls, recipe: Recipe) -> Self:
        """The model of the recipe under a new adapter that depends on the recipe's seed alone.

        Raises:
            ModelError: the model or the adapter cannot be had as asked (see `loading`).
        """
        pretrained = load_pretrained(recipe.settings, recipe.model_path, resolve_device(recipe.settings))
        return cls.under_new_adapter(pretrained, recipe)

    @classmethod
    def under_new_adapter(cls, pretrained: Pretrained, recipe: Recipe) -> Self:
        """A model that is loaded already, as `load` returns it.

        Raises:
            ModelError: the adapter cannot be had as asked.
        """
        model = add_adapter(pretrained.model, recipe.settings.lora, derive_seed(recipe.seed, "lora"))
        white_box = cls(pretrained, model, recipe.settings)
        white_box._prepare_training(recipe)
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

    def _prepare_training(self, recipe: Recipe) -> None:
        training, device = recipe.training, resolve_device(recipe.settings)
        if training.gradient_checkpointing:
            self.model.get_base_model().activation_checkpointing_enable()
        self._recipe = recipe
        kind = TrainingEngine if training.engine == "torch" else DeepSpeedEngine
        self._engine = kind(self._scores, training, device)
        if self._engine.ranks > 1:
            weights.refuse_dropout(self.model, self._settings.model)
        # ZeRO-3 holds a part of each weight: nothing to merge into, and every rank must run every pass.
        if training.partitioned:
            self._merge = False
        else:
            self._sharing = self._engine

    def encode_prompt(self, prompt: Prompt, reserve: int) -> list[int]:
        """The prompt's token ids, of which a part gives way so that `reserve` more fit into `max_length`.

        Raises:
            ValueError: nothing would be left of the prompt.
        """
        budget = self._settings.max_length - reserve
        if budget < 2:
            raise ValueError(
                f"{reserve} tokens beside the prompt leave {budget} of max_length = "
                f"{self._settings.max_length} for it, expected at least 2."
            )
        return self.prompt_format.encode(prompt.turns, budget)

    def fit(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns of a prompt that fit beside a sampled response; see `PromptFormat.fit`."""
        return self.prompt_format.fit(turns, self._settings.max_length - self._settings.sampling.max_new_tokens)

    def encode_reply(self, text: str, limit: int) -> Response:
        """A text of another origin (a rewrite, a reply of the data set); see `PromptFormat.encode_reply`."""
        return self.prompt_format.encode_reply(text, limit)

    def row(self, prompt: Prompt, responses: Sequence[tuple[int, ...]]) -> Row:
        """The prompt as it is sampled from in the cycle, unless a response is longer than one can be there."""
        reserve = max([self._settings.sampling.max_new_tokens, *map(len, responses)])
        return self.encode_prompt(prompt, reserve), responses

    def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], responses: int, sampling: SamplingSettings
    ) -> list[list[Response]]:
        """`responses` responses to each prompt, drawn with the prompt's own seed under the current weights.

        A prompt's responses do not depend on the prompts beside it. The weights stay the same bit for bit.
        """
        if sampling.engine == "vllm":
            return self.server(self, prompts, seeds, responses, sampling)
        mine = self._mine(len(prompts))
        encoded = [self.encode_prompt(prompts[index], sampling.max_new_tokens) for index in mine]
        sampled: list[list[int]] = []
        self.model.eval()
        if encoded:
            uniforms = draw_uniforms([seeds[index] for index in mine], responses, sampling.max_new_tokens)
            ends = Ends(self.prompt_format.stop_ids, self.prompt_format.has_ended)
            steps = self._compiled if sampling.engine == "compiled" else None
            # A CUDA graph reads weights where they lay when it was recorded: it runs beside the adapter.
            with weights.merged_adapter(self.model) if self._merge and steps is None else nullcontext():
                sampled = decode(steps or self.model, encoded, uniforms, sampling, ends)
        finished = [self.prompt_format.response(tokens) for tokens in sampled]
        groups = [finished[start : start + responses] for start in range(0, len(finished), responses)]
        return self._together(zip(mine, groups, strict=True), len(prompts))

    def log_probabilities(
        self, prompt_responses: Sequence[tuple[Prompt, Sequence[tuple[int, ...]]]]
    ) -> list[list[LogProbability]]:
        """log P(y | x) of each response (token ids) to each prompt, under the current weights."""
        rows = [self.row(prompt, responses) for prompt, responses in prompt_responses]
        mine = [index for index in self._mine(len(rows)) if rows[index][1]]
        found: list[tuple[int, list[LogProbability]]] = []
        self.model.eval()
        for positions in plan_passes([rows[index] for index in mine], SCORING_TOKENS, packed=self._scores.packed):
            with torch.no_grad():
                totals, tokens = self._scores([rows[mine[position]] for position in positions])
            scored = map(LogProbability, totals.tolist(), tokens.tolist())
            found += [(mine[one], list(islice(scored, len(rows[mine[one]][1])))) for one in positions]
        return self._together(found, len(rows))

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
        rate = learning_rate(self._recipe.training, self.optimizer_steps, progress)
        self.model.train()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # dropout, where a setting or the model has any
            torch.manual_seed(derive_seed(self._recipe.seed, "dropout", self.optimizer_steps, engine.rank))
            report = take_step(engine, self._recipe, examples, rows, rate)
        self.optimizer_steps += 1
        return report

    def save_checkpoint(self, folder: Path) -> None:
        """Writes adapter and optimizer; `load_checkpoint` continues from it bit for bit. Not atomic."""
        engine = self._trained_engine()
        adapter, moments = engine.adapter(), engine.moments()
        if engine.rank == 0:
            weights.save_adapter(self.model, adapter, folder)
            weights.save_optimizer(self.optimizer_steps, moments, folder)
        engine.gather([None])  # no rank leaves before the files are there

    def load_checkpoint(self, folder: Path) -> None:
        """Takes adapter and optimizer from a folder that `save_checkpoint` wrote.

        Raises:
            ModelError: a file is missing or broken, or belongs to another model or adapter.
        """
        engine = self._trained_engine()
        adapter = weights.read_adapter(folder, engine.adapter())
        steps, moments = weights.read_optimizer(folder)
        end = self.prompt_format.end_id
        engine.restore(adapter, moments, steps, ([end], [[end]]))
        self.optimizer_steps = steps

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter alone, in peft's format.

        Raises:
            ModelError: there is no adapter.
        """
        if not hasattr(self.model, "peft_config"):
            raise ModelError("This model has no adapter to save: it was loaded for inference without one.")
        tensors = self._adapter()
        if self._engine is None or self._engine.rank == 0:
            weights.save_adapter(self.model, tensors, folder)

    def weights_sha256(self) -> str:
        """Digest of the adapter's tensors by name: equal weights give equal digests on every device."""
        return weights.sha256_of(self._adapter())

    def close(self) -> None:
        """Give the weights' memory back, although DeepSpeed's hooks keep the model; it is of no use afterwards."""
        weights.release(self.model)

    @cached_property
    def _compiled(self) -> CompiledSteps | None:
        return CompiledSteps.of(self.model, self._settings.model, packed=self._scores.packed)

    def _trained_engine(self) -> TrainingEngine:
        if self._engine is None:
            raise ModelError("This model was loaded for inference; training needs WhiteBox.load.")
        return self._engine

    def _adapter(self) -> Mapping[str, Tensor]:
        return weights.adapter_parameters(self.model) if self._engine is None else self._engine.adapter()

    def _mine(self, count: int) -> Sequence[int]:
        """Which of so many prompts this rank does."""
        return range(count) if self._sharing is None else range(self._sharing.rank, count, self._sharing.ranks)

    def _together(self, found: Iterable[tuple[int, list[T]]], count: int) -> list[list[T]]:
        """What all ranks found, each with its prompt's number, in the order of the prompts."""
        by_prompt = dict(found if self._sharing is None else self._sharing.gather(list(found)))
        return [by_prompt.get(prompt, []) for prompt in range(count)]


def no_server(*_: object) -> NoReturn:
    """Stands where a white box has no server to sample with.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        "The settings have another engine sample (sampling.engine), but this white box was given no server. Expected "
        "the engine transformers here."
    )
