"""What the documents say of the paper's profile is what the estimate says."""

from pathlib import Path
from typing import Any

from cyclealign.estimate import MachineEstimate, estimate_machine
from tasks.context import load_settings

ROOT = Path(__file__).parent.parent
PAPER_PROFILE = "paper-llama-7b-pro"


def test_the_table_of_the_scaling_page_says_what_the_command_prints() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    for column, prompts in enumerate((1_000, 10_000, 169_550)):
        one, sixteen = (machine_of_the_paper(prompts, wave) for wave in (1, 16))
        rows = {
            "A100-40GB hours of the cycle, W = 1 as in the paper": one.hours_by_part["cycle"],
            "the same, W = 16": sixteen.hours_by_part["cycle"],
            "hours of the held-out responses": one.hours_by_part["held-out responses"],
            "hours of the rewards": one.hours_by_part["rewards"],
            "disk with both models' weights and checkpoints, GiB": one.disk_gib,
            "GPU memory, W = 1, GiB": one.memory_gib,
            "GPU memory, W = 16, GiB": sixteen.memory_gib,
        }
        assert {row: cells(text, row)[column] for row in rows} == {row: f"{value:,.1f}" for row, value in rows.items()}


def test_the_readme_says_what_quantisation_saves_in_the_cycle() -> None:
    found = [machine_of_the_paper(1000, 1, quantization=one).memory_by_phase for one in ("nf4", "none")]
    small, large = (max(memory["sampling"], memory["training"]) for memory in found)
    assert f"{small:.1f} instead of {large:.1f} GiB for the cycle" in (ROOT / "README.md").read_text()


def machine_of_the_paper(prompts: int, wave: int, **white_box: Any) -> MachineEstimate:
    overrides = {"data": {"prompts": prompts}, "training": {"wave": wave}, "white_box": white_box}
    return estimate_machine(load_settings(PAPER_PROFILE, overrides), 7_000_000_000)


def cells(text: str, row: str) -> list[str]:
    """The cells of a table's row behind its name."""
    [line] = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]
