"""Preference models on real pairs, without a hub: the judge's, and another one that only the evaluation sees.

Two halves of training pairs that share no prompt (`preference_pairs`) each fit heads on their own layer of a
frozen pretrained model. Held-out accuracies and the two models' correlation are measured and kept with them,
because both are needed to read any figure that comes of them. Fitting takes minutes, so it happens once per
choice of settings, model and pairs.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclealign.offline.folders import build_once
from cyclealign.offline.frozen_features import (
    FrozenModel,
    Progress,
    Reading,
    load_frozen,
    model_identity,
    pooled_states,
)
from cyclealign.offline.preference_heads import Array, FittedArrays, Flags, Gate, PreferenceHead, accuracy
from cyclealign.offline.preference_judge import JudgeSight
from cyclealign.offline.preference_pairs import HARMLESS, ChosenPairs, choose_pairs, harmless_flags
from cyclealign.offline.settings import PreferenceSettings
from cyclealign.records import SUBSETS, PreferencePair, Prompt

ALL = "all"
"""The accuracy over the test pairs of every subset."""
JUDGE_FILE, EVALUATION_FILE, REPORT_FILE = "judge.safetensors", "evaluation.safetensors", "report.json"
METHOD = 1
"""Raised whenever the same pairs would be fitted to other heads; part of the digest."""


@dataclass(frozen=True, slots=True)
class PreferenceAccuracy:
    """How often a preference model agrees with the annotators on held-out pairs; `subset` may be `all`."""

    reward_model: str
    subset: str
    pairs: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class PreferenceArtifacts:
    """The two fitted preference models and what is known of them."""

    judge: Path
    evaluation: Path
    accuracies: tuple[PreferenceAccuracy, ...]
    correlation: float
    """Of the two models' score differences over the test pairs: they are no independent witnesses."""
    gate_accuracy: float
    """Share of the test prompts that the judge's gate sorts right into harmless-base and the rest."""

    @classmethod
    def read(cls, folder: Path) -> "PreferenceArtifacts":
        """What `build_preference` left in `folder`."""
        report = json.loads((folder / REPORT_FILE).read_text())
        accuracies = tuple(PreferenceAccuracy(**row) for row in report["accuracies"])
        files = (folder / JUDGE_FILE, folder / EVALUATION_FILE)
        return cls(*files, accuracies, report["correlation"], report["gate_accuracy"])


def build_preference(  # noqa: PLR0913, PLR0917 - where from, where to, how: nothing that belongs together
    home: Path,
    model: Path,
    train: Sequence[PreferencePair],
    test: Sequence[PreferencePair],
    settings: PreferenceSettings,
    progress: Progress,
) -> PreferenceArtifacts:
    """The preference models for these pairs, fitted unless they stand finished under `home`/preference.

    Args:
        home: Folder that holds everything the application keeps.
        model: Folder of the frozen pretrained model.
        train: Pairs to choose from; the cycle must train on none of their prompts.
        test: Held-out pairs to choose from.
        settings: How many pairs, which layers, how much of each text.
        progress: Told about every pass over the model.

    Raises:
        DataError: too few pairs, or only one kind of them.
        ModelError: the model cannot be read.
    """
    chosen = choose_pairs(train, test, settings)
    digest = _digest(chosen, settings, model_identity(model))
    folder = home / "preference" / digest

    def build(unfinished: Path) -> None:
        reader = _Reader(load_frozen(model), settings, chosen, progress)
        _fit(reader, chosen, digest).write(unfinished)

    if not build_once(folder, build):
        progress("preference models: nothing to do, they are fitted", 1.0)
    return PreferenceArtifacts.read(folder)


def _digest(chosen: ChosenPairs, settings: PreferenceSettings, model: str) -> str:
    texts = [
        [(pair.prompt.prompt_id, pair.prompt.subset, pair.chosen, pair.rejected) for pair in pairs]
        for pairs in (chosen.judge, chosen.evaluation, chosen.test)
    ]
    kept = settings.model_dump(exclude={"model"})  # named by its identity
    whole = json.dumps([METHOD, kept, model, texts])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


class _Reader:
    """Reads the chosen pairs with the frozen model and tells how far all passes together are."""

    def __init__(
        self, frozen: FrozenModel, settings: PreferenceSettings, chosen: ChosenPairs, progress: Progress
    ) -> None:
        self.frozen = frozen
        self.judge_layer, self.evaluation_layer = settings.judge_layer, settings.evaluation_layer
        self._settings, self._progress = settings, progress
        both = max(self.judge_layer, self.evaluation_layer)
        parts = (chosen.judge, self.judge_layer), (chosen.evaluation, both), (chosen.test, both)
        self._work = sum(len(pairs) * layers for pairs, layers in parts)
        self._done = 0

    def reading(self, *layers: int) -> Reading:
        """What is read of each pair at these layers."""
        return Reading(layers, self._settings.prompt_tokens, self._settings.response_tokens)

    def read(self, title: str, pairs: Sequence[PreferencePair], *layers: int) -> "_PairStates":
        """The states of N pairs at Y layers."""
        work = len(pairs) * max(layers)

        def tell(message: str, share: float) -> None:
            self._progress(f"{title}: {message}", (self._done + share * work) / self._work)

        dialogues = [(pair.prompt.turns, (pair.chosen, pair.rejected)) for pair in pairs]
        states = pooled_states(self.frozen, dialogues, self.reading(*layers), tell)
        self._done += work
        return _PairStates(
            responses=np.stack([state.responses for state in states]).astype(np.float64),
            prompts=np.stack([state.prompt for state in states]).astype(np.float64),
            harmless=harmless_flags(pairs),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _PairStates:
    responses: Array
    """[N, 2, Y, H], chosen first."""
    prompts: Array
    """[N, Y, H]"""
    harmless: Flags
    """[N]"""


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """Both models and what the test pairs said about them."""

    judge: FittedArrays
    evaluation: FittedArrays
    report: dict[str, Any]

    def write(self, folder: Path) -> None:
        self.judge.save(folder / JUDGE_FILE)
        self.evaluation.save(folder / EVALUATION_FILE)
        (folder / REPORT_FILE).write_text(json.dumps(self.report, indent=2) + "\n")


def _fit(reader: _Reader, chosen: ChosenPairs, digest: str) -> _Fitted:
    """Fits and tests both models; the three passes over the frozen model take all the time."""
    first, second, frozen = reader.judge_layer, reader.evaluation_layer, reader.frozen.identity
    mine = reader.read("judge's pairs", chosen.judge, first)
    seen = reader.read("evaluation's pairs", chosen.evaluation, first, second)
    head = PreferenceHead.fit(seen.responses[:, :, 1], seen.harmless)
    # The gate learns from all prompts: where they come from says nothing about which reply was preferred.
    prompts = np.vstack([mine.prompts[:, 0], seen.prompts[:, 0]])
    gate = Gate.fit(prompts, np.append(mine.harmless, seen.harmless))
    sight = JudgeSight.fit(mine.responses[:, :, 0], mine.harmless, chosen.judge, gate)
    judge = FittedArrays(f"preference-judge-{digest}", frozen, reader.reading(first), sight.arrays())
    name = f"preference-evaluation-{digest}"
    evaluation = FittedArrays(name, frozen, reader.reading(second), head.arrays())
    seen = reader.read("test pairs", chosen.test, first, second)
    judged = _scores(lambda states: sight.score(states, seen.prompts[:, 0]), seen.responses[:, :, 0])
    evaluated = _scores(lambda states: head(states, seen.harmless.astype(float)), seen.responses[:, :, 1])
    accuracies = _accuracies(judge.identity, judged, chosen.test) + _accuracies(name, evaluated, chosen.test)
    report = {
        "accuracies": [asdict(row) for row in accuracies],
        "correlation": float(np.corrcoef(_gaps(judged), _gaps(evaluated))[0, 1]),
        "gate_accuracy": float(np.mean((sight.gate(seen.prompts[:, 0]) > 0.5) == seen.harmless)),
    }
    return _Fitted(judge, evaluation, report)


def _scores(score: Callable[[Array], Array], states: Array) -> Array:
    """Scores [N, 2] of the replies with states [N, 2, H]."""
    return np.stack([score(states[:, 0]), score(states[:, 1])], axis=1)


def _gaps(scores: Array) -> Array:
    return np.asarray(scores[:, 0] - scores[:, 1])


def _accuracies(name: str, scores: Array, pairs: Sequence[PreferencePair]) -> list[PreferenceAccuracy]:
    """One row per subset in the order of the paper's tables, and one over all."""
    subsets = np.array([pair.prompt.subset for pair in pairs])
    parts = [(subset, subsets == subset) for subset in SUBSETS if subset in subsets]
    parts.append((ALL, np.full(len(pairs), True)))
    return [PreferenceAccuracy(name, part, int(rows.sum()), accuracy(scores[rows])) for part, rows in parts]


class PreferenceRewardModel:
    """The evaluation's preference model as a reward model: it is told the subset and never seen by the cycle.

    Rewards are in standard deviations over the replies that it was fitted on.

    Args:
        heads: `PreferenceArtifacts.evaluation`.
        model: Folder of the pretrained model that the heads were fitted on.

    Raises:
        ModelError: a file is missing, or the heads belong to another model.
    """

    def __init__(self, heads: Path, model: Path) -> None:
        self._frozen = load_frozen(model)
        self._fitted = FittedArrays.load(heads, self._frozen.identity)
        self._head = PreferenceHead.of(self._fitted.arrays)

    @property
    def identity(self) -> str:
        """Changes whenever the rewards would."""
        return self._fitted.identity

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The reward of each response to its prompt."""
        if not items:
            return []
        dialogues = [(prompt.turns, (text,)) for prompt, text in items]
        pooled = pooled_states(self._frozen, dialogues, self._fitted.reading)
        states = np.stack([state.responses[0, 0] for state in pooled]).astype(np.float64)
        harmless = np.array([prompt.subset == HARMLESS for prompt, _ in items], np.float64)
        return [float(reward) for reward in self._head(states, harmless)]
