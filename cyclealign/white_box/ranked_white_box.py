"""A white box of several ranks behind the methods of one: this process is rank 0, the others do what it does.

Prompts of a wave are shared out for sampling and scoring, examples of an optimizer step for training; what comes back
is what one rank gives, up to the order of a sum. Called by `tasks.cycle.assembly`; leaves out the sharing itself
(`white_box`, `training_engine`) and the processes (`rank_processes`).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from cyclealign.errors import ModelError
from cyclealign.records import LogProbability, OptimizerReport, Prompt, Response, TrainingExample
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.settings import WhiteBoxSettings
from cyclealign.white_box.loading import load_pretrained, resolve_device
from cyclealign.white_box.process_group import join, leave
from cyclealign.white_box.rank_commands import Call, Join, Load, Recipe
from cyclealign.white_box.rank_processes import Ranks, started
from cyclealign.white_box.white_box import WhiteBox


class RankedWhiteBox(WhiteBox):
    """The white box as rank 0 has it; every method that computes has the other ranks call it too."""

    _ranks: Ranks

    @classmethod
    def led(cls, ranks: Ranks, recipe: Recipe) -> "RankedWhiteBox":
        """The white box of the recipe on all ranks.

        Rank 0 loads it first and alone, because it may have to come from the hub; the others find it in the cache.

        Raises:
            ModelError: the model or the adapter cannot be had as asked.
            RankLost: another rank failed.
        """
        settings, device = recipe.settings, resolve_device(recipe.settings)
        pretrained = load_pretrained(settings, recipe.model_path, device)
        ranks.hear()  # they have started meanwhile
        with ranks.doing(Join(settings, torch.get_num_threads())):
            join(ranks.folder, device)
        with ranks.doing(Load(recipe)):
            white_box = cls.under_new_adapter(pretrained, settings, recipe.training, recipe.method, recipe.seed)
        white_box._ranks = ranks
        return white_box

    @property
    def process_ids(self) -> list[int]:
        """Of the other ranks, in their order."""
        return [one.process.pid for one in self._ranks.followers]

    def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], responses: int, sampling: SamplingSettings
    ) -> list[list[Response]]:
        """See `WhiteBox.sample`; a server's responses are fetched by rank 0 alone."""
        if sampling.engine == "vllm":
            return super().sample(prompts, seeds, responses, sampling)
        with self._ranks.doing(Call("sample", (prompts, seeds, responses, sampling))):
            return super().sample(prompts, seeds, responses, sampling)

    def log_probabilities(
        self, prompt_responses: Sequence[tuple[Prompt, Sequence[tuple[int, ...]]]]
    ) -> list[list[LogProbability]]:
        """See `WhiteBox.log_probabilities`."""
        with self._ranks.doing(Call("log_probabilities", (prompt_responses,))):
            return super().log_probabilities(prompt_responses)

    def optimize(self, examples: Sequence[TrainingExample], progress: float = 0.0) -> OptimizerReport:
        """See `WhiteBox.optimize`."""
        with self._ranks.doing(Call("optimize", (examples, progress))):
            return super().optimize(examples, progress)

    def save_checkpoint(self, folder: Path) -> None:
        """See `WhiteBox.save_checkpoint`; rank 0 alone writes."""
        with self._ranks.doing(Call("save_checkpoint", (folder,))):
            super().save_checkpoint(folder)

    def load_checkpoint(self, folder: Path) -> None:
        """See `WhiteBox.load_checkpoint`; every rank reads."""
        with self._ranks.doing(Call("load_checkpoint", (folder,))):
            super().load_checkpoint(folder)

    def save_adapter(self, folder: Path) -> None:
        """See `WhiteBox.save_adapter`; rank 0 alone writes."""
        with self._ranks.doing(Call("save_adapter", (folder,))):
            super().save_adapter(folder)

    def weights_sha256(self) -> str:
        """See `WhiteBox.weights_sha256`."""
        with self._ranks.doing(Call("weights_sha256", ())):
            return super().weights_sha256()


@contextmanager
def white_box_alone(recipe: Recipe) -> Iterator[WhiteBox]:
    """The white box of the recipe in this process only, which may load another afterwards.

    Raises:
        ModelError: the model or the adapter cannot be had as asked.
    """
    try:
        with closing(
            WhiteBox.load(
                recipe.settings, recipe.training, recipe.method, seed=recipe.seed, model_path=recipe.model_path
            )
        ) as white_box:
            yield white_box
    finally:
        leave()


@contextmanager
def white_box_of_ranks(recipe: Recipe, secrets: Collection[str]) -> Iterator[RankedWhiteBox]:
    """The white box of the recipe on `training.ranks` ranks of this machine, which end with the block.

    Args:
        secrets: Environment variables with keys, which no rank but 0 gets.

    Raises:
        ModelError: the model cannot be had as asked.
        RankLost: a rank failed or is gone.
    """
    with started(recipe.training.ranks, secrets) as ranks, closing(RankedWhiteBox.led(ranks, recipe)) as white_box:
        yield white_box


def refuse_too_many_ranks(settings: WhiteBoxSettings, ranks: int) -> None:
    """Raise `ModelError` where not every rank would have a CUDA device of its own."""
    if ranks > 1 and resolve_device(settings).type == "cuda" and torch.cuda.device_count() < ranks:
        raise ModelError(
            f"training.ranks = {ranks}, but torch finds {torch.cuda.device_count()} CUDA devices. Expected one for "
            "each rank. Lower training.ranks, or set CUDA_VISIBLE_DEVICES to more of them."
        )
