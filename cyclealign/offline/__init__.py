"""Local stand-ins that need neither a hub nor a key: a dialogue world, tiny models, and in-context judges."""
