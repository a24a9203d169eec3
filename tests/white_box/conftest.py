"""Fixtures of models for the tests of the white box."""

from pathlib import Path

import pytest

from tests.tiny_llama import make_tiny_llama, save_tiny_llama, tiny_llama

__all__ = ["make_tiny_llama", "tiny_llama"]


@pytest.fixture(scope="module")
def module_tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama with a chat template, shared by the tests of a module."""
    return save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")
