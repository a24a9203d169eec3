"""Fixtures of models for the tests of the white box."""

from tests.tiny_llama import make_tiny_llama, tiny_llama

__all__ = ["make_tiny_llama", "tiny_llama"]
