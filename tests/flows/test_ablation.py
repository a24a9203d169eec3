"""A grid of runs: one after another, what is finished is left alone; elsewhere done runs are merged."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from prefect.artifacts import Artifact

from cli.main import main
from cyclealign.errors import SettingsChanged
from cyclealign.profiles import merge
from flows.ablation import ablation
from storage.asking import answer
from tests.flows.conftest import SMALL

TINY = merge(SMALL, {"data": {"prompts": 4}, "evaluation": {"prompts_per_subset": 1}})
NAMES = [f"laptop-{variant}-seed0" for variant in (
    "pro-icl-full-rewrite-head-n2", "none-icl-full-rewrite-head-n2", "pro-icl-full-rewrite-off-n2"
)]  # fmt: skip


def test_a_grid_leaves_finished_runs_alone_shows_every_variant_and_is_merged_elsewhere_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ablation(grid="controls", objectives=("pro",), overrides=TINY)
    assert [(row["name"], row["state"]) for row in first] == [(name, "complete") for name in NAMES]
    updated = "select max(updated_at) from runs"
    before = answer(home, updated).iloc[0, 0]
    table = Artifact.get("table-4")
    assert table is not None
    assert all(str(table.data).count(f"| {value} |") > 0 for value in ("none", "off"))
    assert ablation(grid="controls", objectives=("pro",), overrides=TINY) == first
    assert answer(home, updated).iloc[0, 0] == before
    with pytest.raises(SettingsChanged, match=r"data\.prompts: 4 -> 8"):
        ablation(grid="controls", objectives=("pro",), overrides=merge(TINY, {"data": {"prompts": 8}}))

    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["ledger", "import", str(home)])
    assert result.exit_code == 0, result.output
    assert NAMES[0] in result.output
    found = CliRunner().invoke(main, ["status", NAMES[0], "--json"])
    assert json.loads(found.output)["state"] == "complete"
    again = CliRunner().invoke(main, ["ledger", "import", str(home)])
    assert again.output.startswith("0 new runs, 0 new rows")
