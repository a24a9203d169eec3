"""Files of others are data: no loader runs code from a model's folder or from a pickle, and none asks whether to."""

import ast
import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cyclealign.errors import ModelError
from cyclealign.offline.preference_heads import load_frozen
from cyclealign.offline.tiny_models import WorldRewardModel
from cyclealign.offline.world_judge import FITTED, TinyModel, load_world_judge
from cyclealign.reward_models.reward_model import ClassifierRewardModel
from cyclealign.settings import JudgeSettings, WhiteBoxSettings
from cyclealign.white_box.loading import load_pretrained, load_tokenizer
from cyclealign.white_box.white_box import WhiteBox

ROOT = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")


def settings_for(folder: Path, **changes: bool) -> WhiteBoxSettings:
    return WhiteBoxSettings(model=str(folder), max_length=256, **changes)  # type: ignore[arg-type]


LOADERS: dict[str, Callable[[Path], object]] = {
    "white box": lambda folder: load_pretrained(settings_for(folder), None, CPU),
    "tokenizer": lambda folder: load_tokenizer(settings_for(folder), None),
    "frozen model": load_frozen,
    "reward model": lambda folder: ClassifierRewardModel(str(folder)),
    "tiny model": TinyModel.load,
    "tiny reward model": WorldRewardModel,
}


def with_code(folder: Path) -> Path:
    """Make the model in `folder` one that needs code of its own, which leaves a mark when it runs."""
    mark = folder / "executed"
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w')\n")
    classes = ("Config", "ModelForCausalLM", "ModelForSequenceClassification")
    own = {"model_type": "theirs", "auto_map": {f"Auto{name}": "theirs.Theirs" for name in classes}}
    for file, more in (("config.json", own), ("tokenizer_config.json", {})):
        values = json.loads((folder / file).read_text())
        values.pop("tokenizer_class", None)
        auto_map = {"auto_map": {"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}}
        (folder / file).write_text(json.dumps({**values, **auto_map, **more}))
    return mark


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_no_loader_runs_code_in_a_models_folder_or_asks_whether_to(
    tiny_llama: Path, loader: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    mark = with_code(tiny_llama)
    with pytest.raises((ModelError, ValueError)):
        loader(tiny_llama)
    assert not mark.exists()
    assert "Do you wish" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_pickled_weights_are_not_read(tiny_llama: Path, loader: Callable[[Path], object]) -> None:
    (tiny_llama / "model.safetensors").unlink()
    torch.save({}, tiny_llama / "pytorch_model.bin")
    if loader is LOADERS["tokenizer"]:
        loader(tiny_llama)  # which needs no weights
        return
    with pytest.raises((ModelError, OSError), match="safetensors"):
        loader(tiny_llama)


@pytest.mark.parametrize(
    "load",
    [lambda settings: load_tokenizer(settings, None), lambda settings: load_pretrained(settings, None, CPU)],
    ids=["tokenizer", "model"],
)
def test_running_a_repositorys_code_needs_a_setting_and_is_warned_of_once(
    tiny_llama: Path, load: Callable[[WhiteBoxSettings], object]
) -> None:
    with pytest.warns(UserWarning, match=r"Python code from the repository of .* will be executed") as told:
        load(settings_for(tiny_llama, trust_remote_code=True))
    assert len([one for one in told if "will be executed" in str(one.message)]) == 1


def test_a_pickled_adapter_is_no_adapter(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"expected adapter_config\.json and adapter_model\.safetensors"):
        WhiteBox.load_for_inference(settings_for(tiny_llama), adapter=tmp_path)


def test_arrays_of_a_judge_that_hold_objects_are_not_read(tiny_llama: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / FITTED, centre=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_world_judge(tmp_path, tiny_llama, JudgeSettings())


@functools.cache
def calls() -> list[tuple[str, str]]:
    """Of every call in the code that is shipped: the function, and the whole call."""
    packages = ("cyclealign", "storage", "tasks", "flows", "cli")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), ast.unparse(node)) for node in nodes]


def test_no_call_runs_the_file_that_it_reads() -> None:
    """Ruff refuses `pickle`, `eval`, `exec` and `yaml.load`."""
    assert not {"joblib.load", "torch.load", "pd.read_pickle"} & {function for function, _ in calls()}
    assert all("allow_pickle=False" in call for function, call in calls() if function == "np.load")


def test_every_automatic_class_is_given_whether_to_run_foreign_code() -> None:
    """Without a word transformers asks on the terminal."""
    loads = [call for function, call in calls() if function.startswith("Auto") and function.endswith("from_pretrained")]
    assert len(loads) >= 6
    assert [load for load in loads if "trust_remote_code" not in load and "**" not in load] == []
