"""A dialogue world so small that the whole job runs in seconds; every flow test uses it through the real flow."""

from typing import Any

import pytest

SMALL: dict[str, Any] = {
    "data": {"prompts": 12},
    "world": {"train_pairs": 240, "test_pairs": 60, "pretraining_steps": 20},
    "white_box": {"sampling": {"max_new_tokens": 12}},
    "method": {"rounds": 2},
    "training": {"wave": 4, "prompts_per_optimizer_step": 2, "checkpoint_every": 4},
    "black_box": {"judge": {"drafts": 1, "prior_pairs": 10}},
    "evaluation": {"prompts_per_subset": 2, "sampling": {"max_new_tokens": 12}},
}


@pytest.fixture(scope="session", autouse=True)
def served(prefect: None) -> None:
    """Flow tests run on the tests' Prefect server."""
