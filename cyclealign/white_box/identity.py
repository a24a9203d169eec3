"""What makes two loaded models the same: contents for local files, the commit for the hub's.

Called by `loading` and by the reward models; the result becomes part of an identity in the ledger.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch


def model_identity(name: str, model: Any, tokenizer: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Name, revision or file digest, dtype and tokenizer digest; where a folder lies does not matter."""
    path = Path(name).expanduser()
    local = path.exists()
    return {
        "model": path.name if local else name,
        "revision": getattr(model.config, "_commit_hash", None),
        "files_sha256": files_sha256(path) if local else None,
        "dtype": str(dtype).removeprefix("torch."),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
    }


def files_sha256(path: Path) -> str:
    """Digest of a checkpoint's config and weights: of a folder, or of a single `.gguf` file."""
    files = [path] if path.is_file() else sorted([*path.glob("*.safetensors"), path / "config.json"])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """Digest of vocabulary, chat template and special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    text = repr((vocabulary, tokenizer.chat_template, sorted(tokenizer.special_tokens_map.items())))
    return hashlib.sha256(text.encode()).hexdigest()
