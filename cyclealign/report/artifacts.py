"""The report for Prefect's run page, as plain values; whoever publishes them imports Prefect."""

from collections.abc import Sequence
from typing import Any

from cyclealign.report.canvas import Plot
from cyclealign.report.figures import RunFigures
from cyclealign.report.files import data_uri, render_markdown
from cyclealign.report.formats import number, signed
from cyclealign.report.untrusted import for_markdown


def artifact_markdown(figures: RunFigures, plots: Sequence[Plot]) -> str:
    """The whole report as Markdown; plots are PNG data addresses, because the UI strips inline SVG."""
    return render_markdown(figures, plots, {plot.name: data_uri(plot) for plot in plots})


def reward_table_rows(figures: RunFigures) -> list[dict[str, Any]]:
    """One row per reward model and subset, for a table artifact; the primary reward model's rows first.

    The UI reads cells as Markdown.
    """
    return [
        {
            "reward model": for_markdown(table.reward_model),
            "subset": for_markdown(row.subset),
            "n": row.n,
            "before": number(row.before.mean),
            "after": number(row.after.mean),
            "difference": signed(row.difference.mean),
            "95% low": signed(row.difference.low),
            "95% high": signed(row.difference.high),
            "win": round(row.win, 3),
            "tie": round(row.tie, 3),
            "lose": round(row.lose, 3),
        }
        for table in figures.rewards
        for row in table.rows
    ]
