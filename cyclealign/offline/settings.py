"""The sections of the settings that are about the offline stand-ins: the judge, the world, the preference models.

Leaves out what uses no stand-in, and how sections are put together (`settings`).
"""

from typing import Annotated

from pydantic import Field

from cyclealign.setting_sections import Count, Fraction, Section


class JudgeSettings(Section):
    """The offline judge: limited on purpose (docs/deviations.md)."""

    prior_pairs: Count = 30
    """Labelled pairs it has seen before the run."""
    drafts: Count = 4
    """Of which its writer picks the best by its own opinion."""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """Multiplies the posterior spread of each draw; 0 = always the posterior mean."""


class WorldSettings(Section):
    """The generated dialogue world and the tiny models trained in it (laptop profile): a minute on two cores."""

    seed: int = 0
    train_pairs: Count = 4000
    test_pairs: Count = 800
    pretraining_steps: Count = 1200
    writer_good_share: Fraction = 0.6
    """Of the replies that the judge's writer learns from: better than the white box, and far from perfect."""


class PreferenceSettings(Section):
    """Preference heads on a frozen pretrained model, fitted on disjoint halves of the training pairs."""

    model: str | None = None
    """What they read; None: the white box before alignment."""
    pairs_per_half: Count = 1000
    """Seven minutes of reading on two cores."""
    test_pairs: Count = 480
    judge_layer: Count = 16
    evaluation_layer: Count = 24
    """Of 30: other features than the judge's, so that the two are not one opinion."""
    prompt_tokens: Count = 112
    response_tokens: Count = 64
    """Most of what the profile's own limits let through; time grows with both."""
