"""The offline judge's parts for real dialogues: what it looks at in a response, and who writes its drafts.

Both use one frozen pretrained model. The judge sees the text of a ranking prompt alone, so it takes the
dialogue apart again and finds out by itself whether a prompt is about harm. Its head was fitted on other
pairs and another layer than the evaluation's; the two are nevertheless no independent witnesses (their
correlation is reported). Ranking, learning from demonstrations and answering are `ranker` and `judge`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclealign.offline.frozen_features import CONTEXT_TOKENS, FrozenModel, Reading, load_frozen, pooled_states
from cyclealign.offline.judge import Judge
from cyclealign.offline.preference_heads import Array, FittedArrays, Flags, Gate, LinearScore, PreferenceHead
from cyclealign.offline.ranker import Gaussian
from cyclealign.offline.settings import JudgeSettings
from cyclealign.records import PreferencePair, Turn
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.seeds import derive_seed
from cyclealign.white_box.prompt_format import PromptFormat
from cyclealign.white_box.sampling import Ends, decode, draw_uniforms

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
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant):")


@dataclass(frozen=True, slots=True, eq=False)
class JudgeSight:
    """What the judge makes of a response's state and text (H hidden units, K axes, 6 figures of the text)."""

    head: PreferenceHead
    gate: Gate
    axes: Array
    """[K, H], scaled so that replies of a pair differ by 1 on average along each."""
    text_centre: Array
    text_spread: Array

    @classmethod
    def fit(cls, responses: Array, harmless: Flags, pairs: Sequence[PreferencePair], gate: Gate) -> "JudgeSight":
        """Sight from N pairs with states of responses [N, 2, H], chosen first."""
        texts = [(pair.prompt.turns, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        figures = [text_figures(turns, text) for turns, text in texts]
        _, sizes, axes = np.linalg.svd(responses[:, 0] - responses[:, 1], full_matrices=False)
        kept = min(AXES, int((sizes > 1e-6 * sizes[0]).sum()))
        return cls(
            head=PreferenceHead.fit(responses, harmless),
            gate=gate,
            axes=axes[:kept] / (sizes[:kept, None] / np.sqrt(len(pairs))),
            text_centre=np.mean(figures, 0),
            text_spread=np.std(figures, 0) + 1e-6,
        )

    @classmethod
    def of(cls, arrays: dict[str, Array]) -> "JudgeSight":
        """The sight that `arrays` put into a file."""
        gate = Gate(LinearScore.unpacked(arrays["gate"]))
        return cls(PreferenceHead.of(arrays), gate, arrays["axes"], arrays["text_centre"], arrays["text_spread"])

    def arrays(self) -> dict[str, Array]:
        """Everything as arrays for a file."""
        own = {"axes": self.axes, "text_centre": self.text_centre, "text_spread": self.text_spread}
        return {**self.head.arrays(), "gate": self.gate.logit.packed(), **own}

    def score(self, responses: Array, prompts: Array) -> Array:
        """Scores [N] of responses [N, H] to prompts [N, H]: both heads, mixed by the gate's opinion."""
        return self.head(responses, self.gate(prompts))


class PreferenceFeatures:
    """The features of the preference judge: the head's score, K principal coordinates, 6 figures of the text.

    Args:
        frozen: The model whose states are read.
        reading: Its one layer and how much of a text is read.
        sight: Fitted on states of the same model.
    """

    def __init__(self, frozen: FrozenModel, reading: Reading, sight: JudgeSight) -> None:
        self._frozen, self._reading, self._sight = frozen, reading, sight

    @property
    def size(self) -> int:
        """D"""
        return 1 + len(self._sight.axes) + self._sight.text_centre.size

    def __call__(self, instruction: str, responses: Sequence[str]) -> Array:
        """[R, D]. Each response is read in a pass of its own: not even rounding depends on the others."""
        return np.stack([self._look(turns_of(instruction), text) for text in responses])

    def _look(self, turns: Sequence[Turn], text: str) -> Array:
        states = pooled_states(self._frozen, [(turns, [text])], self._reading)[0]
        response, prompt = states.responses[:, 0].astype(float), states.prompt.astype(float)
        figures = (text_figures(turns, text) - self._sight.text_centre) / self._sight.text_spread
        return np.concatenate([self._sight.score(response, prompt), self._sight.axes @ response[0], figures])

    def prior(self) -> Gaussian:
        """What the judge believes about the features' weights before it reads a demonstration."""
        mean = np.zeros(self.size)
        spread = np.full(self.size, OTHER_SPREAD)
        mean[0], spread[0] = HEAD_WEIGHT, HEAD_SPREAD
        return Gaussian(mean, np.diag(1 / spread**2))


class PromptedWriter:
    """Drafts from the frozen model itself: better than the white box by its system prompts and by choice.

    Args:
        frozen: The model that writes.
        drafts: How many drafts there are per instruction, in equal parts under each of `WRITER_PROMPTS`.
        max_tokens: Longest draft; a longer one breaks off there, as the white box's responses do.
    """

    def __init__(self, frozen: FrozenModel, drafts: int, max_tokens: int) -> None:
        self._model = frozen.model
        self._count = drafts
        self._sampling = SamplingSettings(temperature=0.8, top_p=0.95, max_new_tokens=max_tokens)
        self._prompt_tokens = CONTEXT_TOKENS - max_tokens
        self._forms = [PromptFormat(frozen.tokenizer, "auto", system) for system in WRITER_PROMPTS]

    def drafts(self, instruction: str) -> list[str]:
        """Different texts, at least one, none empty; they depend on the instruction alone."""
        form, turns = self._forms[0], turns_of(instruction)
        prompts = [form.encode(turns, self._prompt_tokens) for form in self._forms]
        seeds = [derive_seed("offline writer", number, instruction) for number in range(len(prompts))]
        each = -(-self._count // len(prompts))
        uniforms = draw_uniforms(seeds, each, self._sampling.max_new_tokens)
        ends = Ends(form.stop_ids, form.has_ended)
        sampled = decode(self._model, prompts, uniforms, self._sampling, ends)[: self._count]
        return list(dict.fromkeys(form.response(tokens).text or NOTHING_TO_SAY for tokens in sampled))


def load_preference_judge(heads: Path, model: Path, settings: JudgeSettings, max_tokens: int) -> Judge:
    """The judge with the sight in the file `heads`, on the frozen model in the folder `model`.

    Args:
        heads: `PreferenceArtifacts.judge`.
        model: The pretrained model that the heads were fitted on.
        settings: How many drafts it writes, and how much its opinions scatter.
        max_tokens: Longest draft, tokens of the model.

    Raises:
        ModelError: a file is missing, or the heads belong to another model.
    """
    frozen = load_frozen(model)
    fitted = FittedArrays.load(heads, frozen.identity)
    features = PreferenceFeatures(frozen, fitted.reading, JudgeSight.of(fitted.arrays))
    writer = PromptedWriter(frozen, settings.drafts, max_tokens)
    belief = f"{HEAD_WEIGHT} {HEAD_SPREAD} {OTHER_SPREAD}"
    origin = f"{fitted.identity}, {max_tokens} tokens, belief {belief}"
    return Judge(features, writer, features.prior(), settings, fitted=origin)


def turns_of(instruction: str) -> tuple[Turn, ...]:
    """The turns of a dialogue in HH-RLHF's plain text; a text that is none counts as one human turn."""
    before, *spoken = _SPEAKER.split(instruction)
    turns = [
        Turn("human" if speaker == "Human" else "assistant", text.strip())
        for speaker, text in zip(spoken[::2], spoken[1::2], strict=True)
        if text.strip()
    ]
    return tuple(turns) if turns and not before.strip() else (Turn("human", instruction.strip()),)


def text_figures(turns: Sequence[Turn], text: str) -> Array:
    """Six figures of a text: its length, echo of the last turn, question, variety, refusal, sentences."""
    words = [word.strip(".,;:?!\"'()") for word in text.lower().split()]
    asked = {word.strip(".,;:?!\"'()") for word in turns[-1].text.lower().split() if len(word) > 3}
    count = len(words) + 1
    return np.array(
        [
            np.log(count),
            sum(word in asked for word in words) / count,
            "?" in text,
            len(set(words)) / count,
            not _REFUSING.isdisjoint(words),
            len(re.findall(r"[.!?](?:\s|$)", text)) / count,
        ],
        dtype=np.float64,
    )
