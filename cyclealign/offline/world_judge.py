"""The dialogue world's judge: what it looks at, who writes its drafts, what it believed before.

Its features are the leading principal components of its writer's hidden states and a few figures about
the text. Unlabelled text fixes their scale; the prior has seen `prior_pairs` labelled pairs and nothing else.
Neither the ground truth nor the evaluation's reward model enters. Fitted by `artifacts`, answered through
`judge`.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cyclealign.errors import ModelError
from cyclealign.offline.judge import Judge
from cyclealign.offline.ranker import Array, Gaussian, posterior
from cyclealign.offline.settings import JudgeSettings, WorldSettings
from cyclealign.offline.tiny_models import LONGEST, encode, one_thread, sample
from cyclealign.offline.world import mixed_pairs, reading_matter
from cyclealign.seeds import derive_seed
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
    """The judge of these artifacts (see `artifacts.WorldArtifacts`)."""
    fitted = np.load(judge / FITTED, allow_pickle=False)
    features = WorldFeatures(StateReader(writer), fitted["centre"], fitted["projection"])
    prior = Gaussian(fitted["prior_mean"], fitted["prior_precision"])
    return Judge(features, WorldWriter(writer, settings.drafts), prior, settings, fitted=judge.parent.name)


def fit_world_judge(target: Path, writer: Path, world: WorldSettings, settings: JudgeSettings) -> None:
    """Fits features and prior and writes them into the folder `target`."""
    reader = StateReader(writer)
    texts = reading_matter(derive_seed("judge texts", world.seed), UNLABELLED_TEXTS)
    looks = np.stack([reader.look(prompt.instruction, response) for prompt, response in texts])
    features = WorldFeatures(reader, *_whitening(looks))
    pairs = mixed_pairs(derive_seed("judge pairs", world.seed), settings.prior_pairs)
    shown = [features(pair.prompt.instruction, [pair.chosen, pair.rejected]) for pair in pairs]
    prior = posterior(Gaussian.isotropic(features.size, PRIOR_SPREAD), shown)
    np.savez(
        target / FITTED,
        centre=features.centre,
        projection=features.projection,
        prior_mean=prior.mean,
        prior_precision=prior.precision,
    )


class StateReader:
    """A tiny model as a reader: one vector of raw figures per dialogue and response."""

    def __init__(self, folder: Path) -> None:
        self._model, self._tokenizer = _load(folder)

    @one_thread()
    @torch.inference_mode()
    def look(self, instruction: str, response: str) -> Array:
        """Hidden state after the last token, mean state over the response, then the text figures."""
        # One response at a time, without padding: the figures of a response never depend on its neighbours.
        tokens = encode(self._tokenizer, "\n\n" + instruction, response)
        ids = (tokens.prompt + tokens.response)[-LONGEST:]
        states = self._model.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double()
        pooled = torch.cat([states[-1], states[-len(tokens.response) :].mean(0)])
        return np.concatenate([pooled.numpy(), text_figures(instruction, response)])


def text_figures(instruction: str, response: str) -> Array:
    """Length, words shared with the question, exclamation, variety, negation, sentences."""
    words = re.findall(r"[\w']+", response.lower())
    asked = {word for word in re.findall(r"[\w']+", instruction.rpartition("Human:")[2].lower()) if len(word) > 3}
    count = max(1, len(words))
    return np.array([
        math.log1p(len(words)),
        sum(word in asked for word in words) / count,
        float("!" in response),
        len(set(words)) / count,
        float(any(word in ("not", "no", "sorry") for word in words)),
        float(response.count(".")),
    ])  # fmt: skip


def _whitening(looks: Array) -> tuple[Array, Array]:
    """Centre and projection to components and text figures, each of standard deviation 1."""
    centre = looks.mean(0)
    states = looks.shape[1] - len(text_figures("", ""))
    _, spreads, axes = np.linalg.svd(looks[:, :states] - centre[:states], full_matrices=False)
    kept = axes[:COMPONENTS] / (spreads[:COMPONENTS, None] / math.sqrt(len(looks)) + 1e-6)
    texts = np.diag(1 / (looks[:, states:].std(0) + 1e-6))
    projection = np.zeros((looks.shape[1], len(kept) + len(texts)))
    projection[:states, : len(kept)] = kept.T
    projection[states:, len(kept) :] = texts
    return centre, projection


class WorldFeatures:
    """What the world's judge looks at, D = components + text figures.

    Args:
        reader: Gives the raw figures.
        centre: Their mean over unlabelled texts.
        projection: From centred figures to features, shape [figures, D].
    """

    def __init__(self, reader: StateReader, centre: Array, projection: Array) -> None:
        self._reader = reader
        self.centre = centre
        self.projection = projection

    @property
    def size(self) -> int:
        """D."""
        return int(self.projection.shape[1])

    def __call__(self, instruction: str, responses: Sequence[str]) -> Array:
        """Features of each response, shape [R, D]."""
        looks = [self._reader.look(instruction, response) - self.centre for response in responses]
        rows = [look @ self.projection for look in looks]
        return np.clip(np.stack(rows), -LARGEST_FEATURE, LARGEST_FEATURE)


class WorldWriter:
    """Drafts of a tiny model that has read better answers than the white box, but not only."""

    def __init__(self, folder: Path, count: int) -> None:
        self._model, self._tokenizer = _load(folder)
        self._count = count

    def drafts(self, instruction: str) -> list[str]:
        """Sampled drafts, none empty; the same for the same instruction.

        Raises:
            ModelError: every draft is empty.
        """
        prompt = encode(self._tokenizer, "\n\n" + instruction, "").prompt[-(LONGEST - DRAFT_TOKENS) :]
        sampled = sample(self._model, prompt, self._count, derive_seed("draft", instruction), DRAFT_TOKENS)
        texts = (self._tokenizer.decode(tokens, skip_special_tokens=True) for tokens in sampled)
        # A draft ends where the model goes on to write the next turn.
        drafts = [draft for text in texts if (draft := text.partition("\n\n")[0].strip())]
        if not drafts:
            raise ModelError("The offline writer produced only empty drafts. Raise world.pretraining_steps.")
        return drafts


def _load(folder: Path) -> tuple[Any, Any]:
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
        return model.eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
