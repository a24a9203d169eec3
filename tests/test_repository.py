"""Guards on the repository itself: what the documents and files promise is there."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli.main import main
from cyclealign.profiles import resolve

ROOT = Path(__file__).parent.parent
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
PREFECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = PREFECT["deployments"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_validates(path: Path) -> None:
    assert resolve(path.stem, yaml.safe_load(path.read_text()), {}).profile == path.stem


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_number_in_a_profile_says_where_it_comes_from(path: Path) -> None:
    bare = [
        line
        for line in path.read_text().splitlines()
        if re.match(r"\s+[a-z_]+: *-?\d", line) and not re.search(r"# (paper|ours)", line)
    ]
    assert bare == []


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: one["name"])
def test_every_deployment_loads_its_flow_with_prefects_own_loader(deployment: dict[str, str]) -> None:
    from prefect.flows import load_flow_from_entrypoint

    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == "cyclealign"


def test_the_kubernetes_pool_declares_what_its_pods_and_the_deployments_use() -> None:
    pool = json.loads((ROOT / "kubernetes-pool.json").read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(pool["job_configuration"])))
    declared = pool["variables"]["properties"]
    assert used == set(declared)
    assert set(PREFECT["definitions"]["cluster"]["work_pool"]["job_variables"]) <= used
    assert [name for name in pool["variables"]["required"] if "default" in declared[name]] == []


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_stands_in_the_readme(command: str) -> None:
    assert f"cyclealign {command}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'prefect', 'pandas', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_paper_map_and_exhibits_name_each_other() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    named = set(re.findall(r"sql/exhibits/([a-z0-9_]+)\.sql", text))
    there = {path.stem for path in (ROOT / "sql" / "exhibits").glob("*.sql")}
    assert named == there


def test_lock_pins_every_direct_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=\[ ]", one)[0].lower().replace("_", "-") for one in wanted}
    pinned = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names - pinned == set()
