"""Data sets: where prompts come from."""
