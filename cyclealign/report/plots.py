"""The report's plots: rewards before and after, agreement over the steps, the course of training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cyclealign.report.canvas import AFTER, BEFORE, FAINT, INK, Plot, render
from cyclealign.report.figures import RewardTable, RunFigures
from cyclealign.report.untrusted import clip, for_terminal
from cyclealign.statistics import Interval

LOSS_BINS = 80


def draw_plots(figures: RunFigures) -> list[Plot]:
    """All plots that the run has figures for, in the order of the page."""
    plots = []
    if figures.primary is not None:
        plots.append(reward_plot(figures.primary))
    if len(figures.agreement):
        plots.append(agreement_plot(figures))
    if len(figures.losses):
        plots.append(loss_plot(figures.losses))
    return plots


def reward_plot(table: RewardTable) -> Plot:
    """Mean reward before and after per subset, and the paired difference, each with its 95% interval."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        places = np.arange(len(table.rows))[::-1].astype(float)
        before, after = [row.before for row in table.rows], [row.after for row in table.rows]
        left.errorbar(**_intervals(before, places + 0.13), color=BEFORE, fmt="o", label="before")
        left.errorbar(**_intervals(after, places - 0.13), color=AFTER, fmt="s", label="after")
        left.set_yticks(places, [for_terminal(clip(row.subset, 30)) for row in table.rows])
        left.set(xlabel="mean reward (95% interval)", ylim=(-0.6, len(table.rows) - 0.4))
        left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        right.errorbar(**_intervals([row.difference for row in table.rows], places), color=INK, fmt="D")
        right.axvline(0, color=FAINT, linewidth=1)
        right.set(xlabel="difference in reward (95% interval)", title="after − before")
        for axes in (left, right):
            axes.grid(visible=False, axis="y")

    overall = table.overall
    alt = (
        f"Mean reward per subset before and after with 95% intervals; over all {overall.n} prompts "
        f"{overall.before.mean:.3f} before and {overall.after.mean:.3f} after."
    )
    return render("rewards", alt, 2.9, draw)


def agreement_plot(figures: RunFigures) -> Plot:
    """Over the steps: agreement, Kendall's tau, accuracy of both rankers where known, rounds per step."""
    known = len(figures.ranking_accuracy) > 0

    def draw(figure: Figure) -> None:
        rows, columns = (2, 2) if known else (1, 3)
        panels = iter(figure.subplots(rows, columns).flat)
        _agreement(next(panels), figures.agreement)
        _tau(next(panels), figures.ranking_agreement)
        if known:
            _accuracy(next(panels), figures.ranking_accuracy)
        _rounds(next(panels), figures.agreement)
        for axes in figure.axes[-columns:]:
            axes.set_xlabel("step (one prompt each)")

    alt = "Over the steps: agreement of black box and white box, Kendall's tau, rounds per step."
    return render("agreement", alt, 4.4 if known else 2.5, draw)


def loss_plot(losses: pd.DataFrame) -> Plot:
    """Over optimizer steps: ranking loss, SFT loss and gradient norm, each as a mean with its 10-90% band.

    A baseline with a loss of its own shows that in their place.
    """
    parts = [("rank_loss", "ranking loss", "L_rank, nats"), ("sft_loss", "SFT loss", "L_sft, nats per token")]
    own = [("loss", "loss", "as its method defines it")]
    panels = [
        *(parts if losses["rank_loss"].notna().any() else own),
        ("gradient_norm", "gradient", "norm before clipping"),
    ]
    lowest = None if losses["loss"].min() < 0 else 0

    def draw(figure: Figure) -> None:
        for axes, (column, title, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            _band(axes, losses["optimizer_step"], losses[column])
            axes.set(title=title, ylabel=label, xlabel="optimizer step", ylim=(lowest, None))

    titles = ", ".join(title for _, title, _ in panels)
    alt = f"Over optimizer steps: {titles}; mean and 10 to 90 percent band."
    return render("losses", alt, 2.5, draw)


def _intervals(values: Sequence[Interval], places: np.ndarray) -> dict[str, object]:
    """Arguments of `Axes.errorbar`; a lone prompt has no interval and gets no bar."""
    means = np.array([value.mean for value in values])
    reach = np.array([[value.mean - value.low, value.high - value.mean] for value in values]).T
    return {"x": means, "y": places, "xerr": np.nan_to_num(reach), "markersize": 4.5, "capsize": 2}


def _agreement(axes: Axes, frame: pd.DataFrame) -> None:
    _two_lines(axes, frame, ("agreement", "all rounds"), ("first_round_agreement", "first rounds"))
    axes.set(title="agreement", ylabel="length / candidates", ylim=(0, 1.03))


def _tau(axes: Axes, frame: pd.DataFrame) -> None:
    _two_lines(axes, frame, ("kendall_tau", "all rounds"), ("first_round_kendall_tau", "first rounds"))
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.set(title="black box against white box", ylabel="Kendall's tau (0: chance)", ylim=(-1.05, 1.05))


def _accuracy(axes: Axes, frame: pd.DataFrame) -> None:
    _two_lines(axes, frame, ("white_box_accuracy", "white box"), ("black_box_accuracy", "black box"))
    axes.axhline(0.5, color=FAINT, linewidth=1)
    axes.set(title="ranking accuracy", ylabel="pairs in true order (0.5: chance)", ylim=(0, 1.03))


def _rounds(axes: Axes, frame: pd.DataFrame) -> None:
    steps = _middle(frame)
    axes.plot(steps, frame["rounds_per_step"], color=INK, marker=_marker(steps), markersize=3)
    axes.set(title="effort", ylabel="rounds per step", ylim=(0, None))


def _two_lines(axes: Axes, frame: pd.DataFrame, dashed: tuple[str, str], full: tuple[str, str]) -> None:
    """Two columns of the frame over its steps; each pair is (column, label)."""
    steps = _middle(frame)
    for (column, label), colour, style in ((dashed, BEFORE, "--"), (full, AFTER, "-")):
        axes.plot(steps, frame[column], style, color=colour, marker=_marker(steps), markersize=3, label=label)
    axes.legend(loc="lower right", fontsize=8)


def _band(axes: Axes, steps: pd.Series, values: pd.Series) -> None:
    width = max(1, -(-(int(steps.max()) + 1) // LOSS_BINS))
    bins = values.groupby(steps // width)
    mean = bins.mean()
    places = pd.Series((mean.index.to_numpy() + 0.5) * width)
    if width > 1:
        low, high = bins.quantile(0.1), bins.quantile(0.9)
        axes.fill_between(places, low, high, color=BEFORE, alpha=0.2, linewidth=0)
    axes.plot(places, mean, color=BEFORE, linewidth=1.2, marker=_marker(places), markersize=3)


def _middle(frame: pd.DataFrame) -> pd.Series:
    return (frame["first_step"] + frame["last_step"]) / 2


def _marker(points: pd.Series) -> str:
    """A lone point draws no line, so few points get a mark each."""
    return "o" if len(points) <= 12 else ""
