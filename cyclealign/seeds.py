"""Seeds for every random draw, derived from the purpose of the draw; no state of a process ever matters."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed for the draw that `parts` names, for example `(run seed, "sample", step, round)`.

    The same parts give the same seed in every process and on every machine; the run's name is never a part.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
