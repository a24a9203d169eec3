"""Preference models on real pairs, without a hub: the judge's, and another one that only the evaluation sees.

Two halves of training pairs that share no prompt each fit heads on their own layer of a frozen pretrained model.
Held-out accuracies and the two models' correlation are measured and kept with them, because no figure that comes of
them can be read without: they are no independent witnesses. Fitting takes minutes, so it happens once per choice of
settings, model and pairs. The judge sees the text of a ranking prompt alone, so it takes the dialogue apart again and
finds out by itself whether a prompt is about harm; the evaluation's reward model knows the subset.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cyclealign.disk import build_once
from cyclealign.errors import DataError
from cyclealign.offline.judge import Judge, turns_of
from cyclealign.offline.preference_heads import (
    CONTEXT_TOKENS,
    FittedArrays,
    Flags,
    FrozenModel,
    PreferenceHead,
    Progress,
    Reading,
    fit_gate,
    fit_head,
    linear,
    load_frozen,
    model_identity,
    pooled_states,
)
from cyclealign.offline.regression import Array, Gaussian, sigmoid
from cyclealign.records import SUBSETS, PreferenceAccuracy, PreferenceCorrelation, PreferencePair, Prompt, Turn
from cyclealign.seeds import derive_seed
from cyclealign.settings import JudgeSettings, PreferenceSettings, SamplingSettings
from cyclealign.white_box.prompt_format import PromptFormat
from cyclealign.white_box.sampling import Ends, decode, draw_uniforms

HARMLESS = "harmless-base"
ALL = "all"
"""The accuracy over the test pairs of every subset."""
REPORT_FILE = "report.json"
METHOD = 1
"""Raised whenever the same pairs would be fitted to other heads; part of the digest."""
AXES = 16
"""Principal directions in which the two replies of a pair differ."""
HEAD_WEIGHT, HEAD_SPREAD, OTHER_SPREAD = 1.0, 0.5, 0.1
"""The judge's belief before any demonstration: trust the head, make little of everything else. What a handful of
demonstrations says about the other features is mostly chance; at a spread of 0.25 it spoilt the choice of drafts."""
WRITER_PROMPTS = (
    "You are an honest, kind and harmless assistant who gives clear and useful answers. When a request might hurt "
    "somebody, refuse it, give the reason, and suggest something safe instead.",
    None,
)
"""System prompts for the drafts in turn. A model of this size heeds the first one where a question is about harm, and
answers other questions better under none."""
NOTHING_TO_SAY = "I am not sure what to say to that. Could you tell me more?"
"""The draft in place of an empty one."""
_REFUSING = frozenset({"sorry", "cannot", "can't", "unable", "won't", "not", "don't", "shouldn't"})


@dataclass(frozen=True, slots=True)
class PreferenceArtifacts:
    """The files of two fitted preference models, and how they did on the test pairs."""

    judge: Path
    evaluation: Path
    accuracies: tuple[PreferenceAccuracy, ...]
    correlation: PreferenceCorrelation

    @classmethod
    def read(cls, folder: Path) -> "PreferenceArtifacts":
        """The artifacts that `build_preference` left in `folder`."""
        report = json.loads((folder / REPORT_FILE).read_text())
        accuracies = tuple(PreferenceAccuracy(**row) for row in report["accuracies"])
        judge, evaluation = (row for row in accuracies if row.subset == ALL)
        alike = PreferenceCorrelation(
            evaluation.reward_model, judge.reward_model, evaluation.pairs, report["correlation"]
        )
        return cls(folder / "judge.safetensors", folder / "evaluation.safetensors", accuracies, alike)


class ChosenPairs(NamedTuple):
    """The pairs that fit the judge, those that fit the evaluation, those that test both; no prompt twice."""

    judge: tuple[PreferencePair, ...]
    evaluation: tuple[PreferencePair, ...]
    test: tuple[PreferencePair, ...]


def choose_pairs(
    train: Iterable[PreferencePair], test: Iterable[PreferencePair], settings: PreferenceSettings
) -> ChosenPairs:
    """One pair per prompt: two halves of training pairs at random, test pairs in equal numbers per subset.

    The choice depends on the pairs' texts alone, neither on their order nor on a run's seed.

    Raises:
        DataError: too few training pairs, no test pairs, or a half without harmless or without helpful pairs.
    """
    count = settings.pairs_per_half
    shuffled = _shuffled(train)
    judge, evaluation = shuffled[:count], shuffled[count : 2 * count]
    used = {pair.prompt.prompt_id for pair in (*judge, *evaluation)}
    left = [pair for pair in _shuffled(test) if pair.prompt.prompt_id not in used]
    by_subset = [[pair for pair in left if pair.prompt.subset == subset] for subset in SUBSETS]
    share = settings.test_pairs // max(1, sum(map(bool, by_subset)))
    tested = [pair for pairs in by_subset for pair in pairs[:share]]
    if len(evaluation) < count or not tested:
        raise DataError(
            f"Found {len(judge) + len(evaluation)} training pairs and {len(tested)} test pairs with prompts of "
            f"their own, expected {2 * count} and at least one. Lower preference.pairs_per_half or "
            "preference.test_pairs, or sample fewer prompts (data.prompts)."
        )
    if any(len({pair.prompt.subset == HARMLESS for pair in half}) < 2 for half in (judge, evaluation)):
        raise DataError(
            f"The training pairs are all of {HARMLESS} or none is; preference models need both kinds. "
            "Check data.subsets."
        )
    return ChosenPairs(tuple(judge), tuple(evaluation), tuple(tested))


def _shuffled(pairs: Iterable[PreferencePair]) -> list[PreferencePair]:
    """One pair per prompt, in an order that depends on the pairs' texts alone."""
    drawn = {derive_seed("preference pair", pair.prompt.prompt_id, pair.chosen, pair.rejected): pair for pair in pairs}
    firsts = {drawn[seed].prompt.prompt_id: drawn[seed] for seed in sorted(drawn, reverse=True)}
    return sorted(firsts.values(), key=lambda pair: derive_seed("preference prompt", pair.prompt.prompt_id))


def build_preference(  # noqa: PLR0913, PLR0917 - where from, where to, how: nothing that belongs together
    home: Path,
    model: Path,
    train: Sequence[PreferencePair],
    test: Sequence[PreferencePair],
    settings: PreferenceSettings,
    progress: Progress,
) -> PreferenceArtifacts:
    """The preference models on the frozen model in `model`, fitted unless they stand finished in `home`/preference.

    They are fitted and tested on pairs chosen from `train` and `test`; the cycle must train on none of their prompts.

    Raises:
        DataError: too few pairs, or only one kind of them.
        ModelError: the model cannot be read.
    """
    chosen = choose_pairs(train, test, settings)
    digest = _digest(chosen, settings, model_identity(model))

    def build(folder: Path) -> None:
        frozen = load_frozen(model)
        fitted, report = _fit(_read(frozen, chosen, settings, progress), chosen, digest)
        for (name, head), layer in zip(fitted.items(), (settings.judge_layer, settings.evaluation_layer), strict=True):
            identity, reading = f"preference-{name}-{digest}", _reading(settings, layer)
            FittedArrays(identity, frozen.identity, reading, asdict(head)).save(folder / f"{name}.safetensors")
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")

    if not build_once(home / "preference" / digest, build):
        progress("preference models: nothing to do, they are fitted", 1.0)
    return PreferenceArtifacts.read(home / "preference" / digest)


def _digest(chosen: ChosenPairs, settings: PreferenceSettings, model: str) -> str:
    texts = [
        [(pair.prompt.prompt_id, pair.prompt.subset, pair.chosen, pair.rejected) for pair in pairs] for pairs in chosen
    ]
    kept = settings.model_dump(exclude={"model"})  # its identity names it
    return hashlib.sha256(json.dumps([METHOD, kept, model, texts]).encode()).hexdigest()[:16]


def _reading(settings: PreferenceSettings, *layers: int) -> Reading:
    return Reading(layers, settings.prompt_tokens, settings.response_tokens)


@dataclass(frozen=True, slots=True, eq=False)
class _PairStates:
    responses: Array
    """[N, 2, Y, H], chosen first."""
    prompts: Array
    """[N, Y, H]"""
    harmless: Flags
    """[N]"""


def _read(
    frozen: FrozenModel, chosen: ChosenPairs, settings: PreferenceSettings, progress: Progress
) -> list[_PairStates]:
    """The states of the judge's pairs at its layer, and of the evaluation's and the test pairs at both layers."""
    both = (settings.judge_layer, settings.evaluation_layer)
    titles, layers_read = ("judge's pairs", "evaluation's pairs", "test pairs"), (both[:1], both, both)
    passes = list(zip(titles, chosen, layers_read, strict=True))
    works = [len(pairs) * max(layers) for _, pairs, layers in passes]
    read: list[_PairStates] = []
    for number, (title, pairs, layers) in enumerate(passes):

        def tell(message: str, share: float, title: str = title, number: int = number) -> None:
            progress(f"{title}: {message}", (sum(works[:number]) + share * works[number]) / sum(works))

        dialogues = [(pair.prompt.turns, (pair.chosen, pair.rejected)) for pair in pairs]
        states = pooled_states(frozen, dialogues, _reading(settings, *layers), tell)
        responses = np.stack([state.responses for state in states]).astype(np.float64)
        prompts = np.stack([state.prompt for state in states]).astype(np.float64)
        read.append(_PairStates(responses, prompts, np.array([pair.prompt.subset == HARMLESS for pair in pairs])))
    return read


def _fit(
    states: Sequence[_PairStates], chosen: ChosenPairs, digest: str
) -> tuple[dict[str, PreferenceHead], dict[str, Any]]:
    """Both models, and the report of the test pairs on them."""
    mine, seen, tested = states
    # The gate alone learns from all prompts: where they come from says nothing about which reply was preferred.
    prompts = np.vstack([mine.prompts[:, 0], seen.prompts[:, 0]])
    gate = fit_gate(prompts, np.append(mine.harmless, seen.harmless))
    sight = _fit_sight(mine.responses[:, :, 0], mine.harmless, chosen.judge, gate)
    head = fit_head(seen.responses[:, :, 1], seen.harmless)
    harm = sight.harm(tested.prompts[:, 0])
    judged = _gaps(sight, tested.responses[:, :, 0], harm)
    evaluated = _gaps(head, tested.responses[:, :, 1], tested.harmless.astype(float))
    named = ((f"preference-judge-{digest}", judged), (f"preference-evaluation-{digest}", evaluated))
    report = {
        "accuracies": [asdict(row) for name, gaps in named for row in _accuracies(name, gaps, chosen.test)],
        "correlation": float(np.corrcoef(judged, evaluated)[0, 1]),
        "gate_accuracy": float(np.mean((harm > 0.5) == tested.harmless)),
    }
    return {"judge": sight, "evaluation": head}, report


def _gaps(head: PreferenceHead, states: Array, harmless: Array) -> Array:
    """How much better than the rejected reply the chosen one is, [N], of replies with states [N, 2, H]."""
    return head.score(states[:, 0], harmless) - head.score(states[:, 1], harmless)


def _accuracies(name: str, gaps: Array, pairs: Sequence[PreferencePair]) -> list[PreferenceAccuracy]:
    """One row per subset in the order of the paper's tables, and one over all; a tie counts half."""
    subsets, right = np.array([pair.prompt.subset for pair in pairs]), (gaps > 0) + 0.5 * (gaps == 0)
    parts = [(subset, subsets == subset) for subset in SUBSETS if subset in subsets]
    parts.append((ALL, np.full(len(pairs), True)))
    return [PreferenceAccuracy(name, part, int(rows.sum()), float(np.mean(right[rows]))) for part, rows in parts]


@dataclass(frozen=True, slots=True, eq=False)
class JudgeSight(PreferenceHead):
    """The judge's view of a response's state and text (H hidden units, K axes, 6 figures of the text)."""

    gate: Array
    """Linear logit that a prompt is of harmless-base, [H + 1]."""
    axes: Array
    """[K, H], scaled so that replies of a pair differ by 1 on average along each."""
    text_centre: Array
    text_spread: Array

    def harm(self, prompts: Array) -> Array:
        """The probability [N] that prompts with states [N, H] are of harmless-base."""
        return sigmoid(linear(prompts, self.gate))


def _fit_sight(responses: Array, harmless: Flags, pairs: Sequence[PreferencePair], gate: Array) -> JudgeSight:
    """Sight from N pairs with states of responses [N, 2, H], chosen first."""
    figures = [text_figures(pair.prompt.turns, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    _, sizes, axes = np.linalg.svd(responses[:, 0] - responses[:, 1], full_matrices=False)
    kept = min(AXES, int((sizes > 1e-6 * sizes[0]).sum()))
    axes, head = axes[:kept] / (sizes[:kept, None] / np.sqrt(len(pairs))), fit_head(responses, harmless)
    return JudgeSight(head.harmless, head.helpful, gate, axes, np.mean(figures, 0), np.std(figures, 0) + 1e-6)


def text_figures(turns: Sequence[Turn], text: str) -> Array:
    """Six figures of a text: its length, echo of the last turn, question, variety, refusal, sentences."""
    words = [word.strip(".,;:?!\"'()") for word in text.lower().split()]
    asked = {word.strip(".,;:?!\"'()") for word in turns[-1].text.lower().split() if len(word) > 3}
    count = len(words) + 1
    echoes, sentences = sum(word in asked for word in words), len(re.findall(r"[.!?](?:\s|$)", text))
    refuses = not _REFUSING.isdisjoint(words)
    figures = [np.log(count), echoes / count, "?" in text, len(set(words)) / count, refuses, sentences / count]
    return np.array(figures, np.float64)


def load_preference_judge(heads: Path, model: Path, settings: JudgeSettings, max_tokens: int) -> Judge:
    """The judge with the sight in the file `heads` (`PreferenceArtifacts.judge`), on the model in the folder `model`.

    A draft of more than `max_tokens` tokens breaks off there, as the white box's responses do.

    Raises:
        ModelError: a file is missing, or the heads belong to another model.
    """
    frozen = load_frozen(model)
    fitted = FittedArrays.load(heads, frozen.identity)
    features = PreferenceFeatures(frozen, fitted.reading, JudgeSight(**fitted.arrays))
    origin = f"{fitted.identity}, {max_tokens} tokens, belief {HEAD_WEIGHT} {HEAD_SPREAD} {OTHER_SPREAD}"

    def writer(instruction: str) -> list[str]:
        return drafts(frozen, instruction, settings.drafts, max_tokens)

    return Judge(features, writer, features.prior(), settings, origin)


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceFeatures:
    """The features [D] of the preference judge: the head's score, K principal coordinates, 6 figures of the text."""

    frozen: FrozenModel
    reading: Reading
    """Of one layer."""
    sight: JudgeSight

    def __call__(self, instruction: str, response: str) -> Array:
        """See `judge.Features`; each response is read in a pass of its own, so not even rounding depends on others."""
        turns = turns_of(instruction)
        states = pooled_states(self.frozen, [(turns, [response])], self.reading)[0]
        own, prompt = states.responses[:, 0].astype(float), states.prompt.astype(float)
        figures = (text_figures(turns, response) - self.sight.text_centre) / self.sight.text_spread
        return np.concatenate([self.sight.score(own, self.sight.harm(prompt)), self.sight.axes @ own[0], figures])

    def prior(self) -> Gaussian:
        """The judge's belief about the features' weights before it reads a demonstration."""
        mean = np.zeros(1 + len(self.sight.axes) + self.sight.text_centre.size)
        spread = np.full(mean.size, OTHER_SPREAD)
        mean[0], spread[0] = HEAD_WEIGHT, HEAD_SPREAD
        return Gaussian(mean, np.diag(1 / spread**2))


def drafts(frozen: FrozenModel, instruction: str, count: int, max_tokens: int) -> list[str]:
    """At most `count` different drafts by the frozen model, in equal parts under each of `WRITER_PROMPTS`; none empty.

    It writes better than the white box by its system prompts and by choice.
    """
    sampling = SamplingSettings(temperature=0.8, top_p=0.95, max_new_tokens=max_tokens)
    forms = [PromptFormat(frozen.tokenizer, "auto", system) for system in WRITER_PROMPTS]
    prompts = [form.encode(turns_of(instruction), CONTEXT_TOKENS - max_tokens) for form in forms]
    seeds = [derive_seed("offline writer", number, instruction) for number in range(len(prompts))]
    uniforms = draw_uniforms(seeds, -(-count // len(prompts)), max_tokens)
    ends = Ends(forms[0].stop_ids, forms[0].has_ended)
    sampled = decode(frozen.model, prompts, uniforms, sampling, ends)[:count]
    return list(dict.fromkeys(forms[0].response(tokens).text or NOTHING_TO_SAY for tokens in sampled))


class PreferenceRewardModel:
    """A preference model as a reward model, which knows a prompt's subset; the cycle never sees the evaluation's.

    Rewards are in standard deviations over the replies that it was fitted on. `heads` is a file of
    `PreferenceArtifacts`, `model` the folder of the model that they were fitted on.

    Raises:
        ModelError: a file is missing, or the heads belong to another model.
    """

    def __init__(self, heads: Path, model: Path) -> None:
        self._frozen = load_frozen(model)
        fitted = FittedArrays.load(heads, self._frozen.identity)
        self.identity, self._reading = fitted.identity, fitted.reading
        self._head = PreferenceHead(fitted.arrays["harmless"], fitted.arrays["helpful"])

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The reward of each response to its prompt."""
        if not items:
            return []
        dialogues = [(prompt.turns, (text,)) for prompt, text in items]
        pooled = pooled_states(self._frozen, dialogues, self._reading)
        states = np.stack([state.responses[0, 0] for state in pooled]).astype(np.float64)
        harmless = np.array([prompt.subset == HARMLESS for prompt, _ in items], np.float64)
        return [float(reward) for reward in self._head.score(states, harmless)]
