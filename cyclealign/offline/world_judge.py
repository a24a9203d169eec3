"""The dialogue world's judge: its features, the writer of its drafts, its belief before the run.

The features are the leading principal components of its writer's hidden states and a few figures about the text.
Unlabelled text fixes their scale; the prior has seen `prior_pairs` labelled pairs and nothing else. Neither the
ground truth nor the evaluation's reward model enters. `artifacts` fits it.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cyclealign.errors import ModelError
from cyclealign.offline.judge import Judge
from cyclealign.offline.regression import Array, Gaussian, posterior
from cyclealign.offline.tiny_models import LONGEST, encode, one_thread, sample
from cyclealign.offline.world import mixed_pairs, reading_matter
from cyclealign.seeds import derive_seed
from cyclealign.settings import JudgeSettings, WorldSettings
from cyclealign.white_box.loading import quiet_transformers

COMPONENTS = 16
UNLABELLED_TEXTS = 600
PRIOR_SPREAD = 0.5
"""Standard deviation of each weight before any pair was seen; features have standard deviation 1."""
LARGEST_FEATURE = 4.0
"""Features are cut here, so that a text unlike the world's cannot outweigh everything else."""
DRAFT_TOKENS = 64
FITTED = "judge.npz"


def load_world_judge(judge: Path, writer: Path, settings: JudgeSettings) -> Judge:
    """The judge of these folders (see `artifacts.WorldArtifacts`)."""
    fitted, tiny = np.load(judge / FITTED, allow_pickle=False), TinyModel.load(writer)
    features = WorldFeatures(tiny, fitted["centre"], fitted["projection"])
    prior = Gaussian(fitted["prior_mean"], fitted["prior_precision"])
    return Judge(features, lambda asked: tiny.drafts(asked, settings.drafts), prior, settings, judge.parent.name)


def fit_world_judge(target: Path, writer: Path, world: WorldSettings, settings: JudgeSettings) -> None:
    """Fits features and prior and writes them into the folder `target`."""
    tiny = TinyModel.load(writer)
    texts = reading_matter(derive_seed("judge texts", world.seed), UNLABELLED_TEXTS)
    looks = np.stack([tiny.look(prompt.instruction, response) for prompt, response in texts])
    centre, projection = _whitening(looks)
    features = WorldFeatures(tiny, centre, projection)
    pairs = mixed_pairs(derive_seed("judge pairs", world.seed), settings.prior_pairs)
    shown = [
        np.stack([features(pair.prompt.instruction, text) for text in (pair.chosen, pair.rejected)]) for pair in pairs
    ]
    size = projection.shape[1]
    prior = posterior(Gaussian(np.zeros(size), np.eye(size) / PRIOR_SPREAD**2), shown)
    np.savez(
        target / FITTED, centre=centre, projection=projection, prior_mean=prior.mean, prior_precision=prior.precision
    )


@dataclass(frozen=True, slots=True, eq=False)
class TinyModel:
    """The tiny model that the judge reads with, and that writes its drafts.

    It has read better answers than the white box, but not only.
    """

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "TinyModel":
        """The model in `folder`."""
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
            return cls(model.eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=False))

    @one_thread()
    @torch.inference_mode()
    def look(self, instruction: str, response: str) -> Array:
        """Hidden state after the last token, mean state over the response, then the text figures."""
        # One response at a time, without padding: the figures of a response never depend on its neighbours.
        tokens = encode(self.tokenizer, instruction, response)
        states = self.model.model(input_ids=torch.tensor([tokens.cut()])).last_hidden_state[0].double()
        pooled = torch.cat([states[-1], states[-len(tokens.response) :].mean(0)])
        return np.concatenate([pooled.numpy(), text_figures(instruction, response)])

    def drafts(self, instruction: str, count: int) -> list[str]:
        """Sampled drafts, none empty; the same for the same instruction.

        Raises:
            ModelError: every draft is empty.
        """
        prompt = encode(self.tokenizer, instruction, "").prompt[-(LONGEST - DRAFT_TOKENS) :]
        sampled = sample(self.model, prompt, count, derive_seed("draft", instruction), DRAFT_TOKENS)
        texts = (self.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in sampled)
        # A draft ends where the model goes on to write the next turn.
        drafts = [draft for text in texts if (draft := text.partition("\n\n")[0].strip())]
        if not drafts:
            raise ModelError("The offline writer produced only empty drafts. Raise world.pretraining_steps.")
        return drafts


def text_figures(instruction: str, response: str) -> Array:
    """Length, words shared with the question, exclamation, variety, negation, sentences."""
    words = re.findall(r"[\w']+", response.lower())
    asked = {word for word in re.findall(r"[\w']+", instruction.rpartition("Human:")[2].lower()) if len(word) > 3}
    count = max(1, len(words))
    shared, negates = sum(word in asked for word in words), any(word in ("not", "no", "sorry") for word in words)
    variety = len(set(words)) / count
    return np.array([math.log1p(len(words)), shared / count, "!" in response, variety, negates, response.count(".")])


@dataclass(frozen=True, slots=True, eq=False)
class WorldFeatures:
    """The features [D] of a response: components, then text figures, each of standard deviation 1."""

    tiny: TinyModel
    centre: Array
    """Mean of the raw figures over unlabelled texts."""
    projection: Array
    """From centred figures to features, [figures, D]."""

    def __call__(self, instruction: str, response: str) -> Array:
        """See `judge.Features`."""
        row = (self.tiny.look(instruction, response) - self.centre) @ self.projection
        return np.clip(row, -LARGEST_FEATURE, LARGEST_FEATURE)


def _whitening(looks: Array) -> tuple[Array, Array]:
    """Centre and projection of `WorldFeatures`."""
    centre = looks.mean(0)
    states = looks.shape[1] - len(text_figures("", ""))
    _, spreads, axes = np.linalg.svd(looks[:, :states] - centre[:states], full_matrices=False)
    kept = axes[:COMPONENTS] / (spreads[:COMPONENTS, None] / math.sqrt(len(looks)) + 1e-6)
    texts = np.diag(1 / (looks[:, states:].std(0) + 1e-6))
    projection = np.zeros((looks.shape[1], len(kept) + len(texts)))
    projection[:states, : len(kept)] = kept.T
    projection[states:, len(kept) :] = texts
    return centre, projection
