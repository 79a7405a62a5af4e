"""Charts with one line per model: accuracy, speedup, size."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.entries import is_interval
from compress.report.formatting import metric_axis
from compress.report.run_folder import Document
from compress.report.style import INK, LETTER, accuracy_bounds, bars_figure, colors, padded_range, short

if TYPE_CHECKING:
    import plotly.graph_objects as go


def accuracy_chart(rows: Sequence[Document], metric: str) -> go.Figure | None:
    """Draw every model's accuracy with its 95 % interval, for runs without a benchmark."""
    points = [row for row in rows if row["accuracy"] is not None]
    if len(points) < 2:
        return None
    figure, color = bars_figure(points), colors(rows)
    for position, row in enumerate(points):
        low, high = accuracy_bounds(row)
        value = 100 * row["accuracy"]
        figure.add_scatter(
            x=[value],
            y=[position],
            mode="markers",
            marker={"size": 11, "color": color[row["model"]]},
            name=html.escape(row["model"]),
            error_x={"array": [high - value], "arrayminus": [value - low], "thickness": 1.3, "width": 4},
            hovertemplate="%{x:.2f}",
        )
    low, high = zip(*(accuracy_bounds(row) for row in points), strict=True)
    title = f"{html.escape(metric_axis(metric))}, with 95 % intervals"
    figure.update_xaxes(title_text=title, range=padded_range(min(low), max(high), 0.05))
    return figure


def speedup_chart(rows: Sequence[Document]) -> go.Figure | None:
    """Draw every model's speedup over the first one with its interval."""
    points = [row for row in rows if (row["speedup"] or {}).get("ratio")]
    if len(points) < 2:
        return None
    figure, color = bars_figure(points), colors(rows)
    for position, row in enumerate(points):
        ratio, interval = row["speedup"]["ratio"], row["speedup"].get("ci95")
        low, high = interval if is_interval(interval) else (ratio, ratio)
        figure.add_bar(
            x=[ratio],
            y=[position],
            orientation="h",
            marker_color=color[row["model"]],
            name=html.escape(row["model"]),
            hovertemplate="%{x:.2f}×",
            error_x={"array": [max(0, high - ratio)], "arrayminus": [max(0, ratio - low)], "thickness": 1.3, "width": 4, "color": INK},
        )
        label = f"<b>{ratio:.2f}×</b>"
        figure.add_annotation(x=max(high, ratio), y=position, text=label, xanchor="left", xshift=8, showarrow=False, font={"size": 12})
    widest = max(row["speedup"]["ratio"] for row in points)
    # Leave room for the label of the longest bar, on half a page or on a phone.
    plot = 360 - LETTER * min(24, max(len(row["model"]) for row in points))
    figure.update_xaxes(title_text=f"speedup over {short(points[0]['speedup']['vs'])}", range=[0, widest * plot / max(60, plot - 70)])
    return figure


def size_chart(rows: Sequence[Document]) -> go.Figure | None:
    """Draw the size of every model's weights in MB."""
    points = [row for row in rows if row["size_mb"]]
    if len(points) < 2:
        return None
    figure, color = bars_figure(points), colors(rows)
    for position, row in enumerate(points):
        figure.add_bar(
            x=[row["size_mb"]],
            y=[position],
            orientation="h",
            marker_color=color[row["model"]],
            name=html.escape(row["model"]),
            text=[f"{row['size_mb']:.1f}"],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x:.1f} MB",
        )
    figure.update_xaxes(title_text="weights on disk, MB", range=[0, 1.18 * max(row["size_mb"] for row in points)])
    return figure
