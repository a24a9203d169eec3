"""How much one forward pass takes at most: what bounds the memory of training, scoring and compiled sampling.

Constants alone, so that an estimate can read them where no model is loaded. Leaves out how passes are planned
(`sequence_scores.plan_passes`) and what a wave or a batch holds, which the settings say.
"""

from typing import Final

SCORING_TOKENS: Final = 2048
"""Padded tokens of one forward pass without gradients."""
TRAINING_TOKENS: Final = 1024
"""Padded tokens of one forward and backward pass: bounds the activations kept in memory."""
STATIC_LENGTHS: Final = 128
"""Caches of compiled passes are so long, or a multiple of it: few shapes, few compilations."""
STATIC_CACHES: Final = 2
"""Of them, those kept for later calls: that of a whole wave and that of what is left over. A CUDA graph knows its cache
by where it lies in memory."""
REWARD_TOKENS: Final = 1024
"""Longest dialogue with its response that a reward model of the hub reads, unless said otherwise."""
