"""Shared parts of the charts: colours, fonts, empty figures, axes. plotly is imported when a chart is drawn."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.entries import is_interval
from compress.report.run_folder import Document

if TYPE_CHECKING:
    import plotly.graph_objects as go

PALETTE = (
    "#2f6db3", "#d9662b", "#2f9467", "#8f5bb0", "#b98a1c", "#3fa3c4",
    "#c24d78", "#6f7d33", "#8a6552", "#4a4fa3", "#cf8f6a", "#5d6b7a",
)  # fmt: skip
INK, MUTED, GRID = "#1f2730", "#6a7480", "#e6e9ed"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LETTER = 7.2  # pixels, on average
LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def empty_figure(height: int, **layout: object) -> go.Figure:
    """Return a figure without data, in the page's style."""
    import plotly.graph_objects as go

    # No zooming: on a phone, a finger on the chart must scroll the page.
    axis = {
        "fixedrange": True,
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "title": {"font": {"size": 12, "color": MUTED}, "standoff": 10},
    }
    style = {
        "template": "none",
        "margin": {"l": 64, "r": 16, "t": 16, "b": 44},
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": False,
        "showlegend": False,
        "xaxis": axis,
        "yaxis": axis,
    }
    return go.Figure(layout=style | {"height": height} | layout)  # at once: every update of a figure checks all of it again


def bars_figure(points: Sequence[Document]) -> go.Figure:
    """Return an empty chart with one line per model, the first one on top."""
    figure = empty_figure(height=90 + 38 * len(points), bargap=0.35)
    ticks = list(range(len(points)))
    # The axis holds positions, not names: two long names may be shortened to the same text.
    figure.update_yaxes(
        tickvals=ticks,
        ticktext=[short(row["model"], 24) for row in points],
        range=[len(points) - 0.5, -0.5],
        showgrid=False,
        ticklabelstandoff=6,
    )
    return figure


def short(name: str, limit: int = 28) -> str:
    """Shorten a name in its middle and escape it for plotly's markup."""
    cut = name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-(limit // 2) :]}"
    return html.escape(cut)


def colors(rows: Sequence[Document]) -> dict[str, str]:
    """Return each model's colour, the same in every chart."""
    return {row["model"]: PALETTE[position % len(PALETTE)] for position, row in enumerate(rows)}


def accuracy_bounds(row: Document) -> tuple[float, float]:
    """Return a row's 95 % interval in points; of width 0 if there is none."""
    low, high = row["ci95"] if is_interval(row["ci95"]) else (row["accuracy"], row["accuracy"])
    return 100 * min(low, row["accuracy"]), 100 * max(high, row["accuracy"])


def padded_range(low: float, high: float, share: float) -> list[float]:
    """Widen a range by a share of itself on both sides; a range of width 0 gets a small one."""
    pad = max(share * (high - low), 0.1)
    return [low - pad, high + pad]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round values for a logarithmic axis, at least three if the range allows it."""
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(n / 10 for n in range(10, 100, 2))):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [value for power in powers for step in steps if low <= (value := float(f"{step * 10.0**power:.3g}")) <= high]
        if len(ticks) >= 4:
            break
    return ticks[:: max(1, len(ticks) // 8)]
