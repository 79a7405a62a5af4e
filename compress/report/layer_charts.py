"""Charts of pruning: heads and FFN neurons per layer, and accuracy against speedup."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.formatting import metric_axis
from compress.report.run_folder import Document
from compress.report.style import INK, LEGEND, PALETTE, empty_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go


def curve_chart(points: Sequence[Document], metric: str) -> go.Figure:
    """Draw the validation score of pruned models against their speedup: predicted for the steps, measured at the targets."""
    figure = empty_figure(height=300)
    ends = [point for point in points if point.get("measured_speedup")]
    figure.add_scatter(
        x=[point["predicted_speedup"] for point in points],
        y=[100 * point["score"] for point in points],
        mode="lines+markers",
        line={"color": PALETTE[0], "width": 1.5},
        marker={"size": 7},
        name="steps, predicted",
        hovertemplate="%{x:.2f}×, %{y:.2f}",
    )
    figure.add_scatter(
        x=[point["measured_speedup"] for point in ends],
        y=[100 * point["score"] for point in ends],
        mode="markers",
        marker={"size": 12, "symbol": "diamond", "color": PALETTE[1]},
        name="targets, measured",
        hovertemplate="%{x:.2f}×, %{y:.2f}",
    )
    figure.update_layout(showlegend=True, legend=LEGEND)
    figure.update_xaxes(title_text="speedup over the model before pruning")
    figure.update_yaxes(title_text=f"validation {html.escape(metric_axis(metric))}")
    return figure


def layer_chart(kept: Sequence[Document], before: Sequence[Document] | None, key: str, unit: str) -> go.Figure:
    """Draw how many heads or FFN neurons, or what share of the tokens (`key`) each layer keeps, in front of how many it had."""
    numbers = list(range(1, len(kept) + 1))
    figure = empty_figure(height=260, barmode="overlay")
    if before is not None:
        figure.add_bar(x=numbers, y=[layer[key] for layer in before], marker_color="#dfe4ea", name="before", hovertemplate="%{y} before")
    figure.add_bar(
        x=numbers,
        y=[layer.get(key, 1) for layer in kept],
        marker_color=PALETTE[0],
        name="kept",
        hovertemplate="%{y} kept",
        width=0.55,
        text=[layer.get(key, 1) for layer in kept] if len(kept) <= 12 else None,
        textposition="outside",
        textfont={"size": 11, "color": INK},
        cliponaxis=False,
    )
    figure.update_xaxes(title_text="layer", dtick=1 if len(kept) <= 12 else 2, showgrid=False)
    figure.update_yaxes(title_text=unit, rangemode="tozero")
    return figure
