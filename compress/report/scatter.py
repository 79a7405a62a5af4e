"""The chart of the trade-off: accuracy against latency, with intervals, names and the best trade-offs."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.formatting import metric_axis, metric_name
from compress.report.run_folder import Document
from compress.report.style import INK, LETTER, MUTED, accuracy_bounds, colors, empty_figure, log_ticks, padded_range, short

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Size of the plot in pixels, for placing labels, on a screen of 1200 pixels.
PLOT_WIDTH, PLOT_HEIGHT = 880, 350
_LINE = 17


def scatter(rows: Sequence[Document], p90_ms: dict[str, float | None], metric: str) -> go.Figure | None:
    """Draw accuracy against latency: vertical bars are 95 % intervals, horizontal bars go from p50 to p90."""
    points = [row for row in rows if row["accuracy"] is not None and row["p50_ms"]]
    if len(points) < 2:
        return None
    x = [row["p50_ms"] for row in points]
    y = [100 * row["accuracy"] for row in points]
    right = [max(x_i, p90_ms.get(row["model"]) or x_i) for x_i, row in zip(x, points, strict=True)]
    low, high = zip(*(accuracy_bounds(row) for row in points), strict=True)
    x_range, y_range = padded_range(math.log10(min(x)), math.log10(max(right)), 0.12), padded_range(min(low), max(high), 0.08)
    figure = empty_figure(height=PLOT_HEIGHT + 90)
    front = pareto_front(list(zip(x, y, strict=True)))
    figure.add_scatter(
        x=[x_i for x_i, _ in front],
        y=[y_i for _, y_i in front],
        mode="lines",
        hoverinfo="skip",
        line={"color": "#97a2ae", "width": 2, "dash": "dot", "shape": "hv"},
        name="Pareto front",
    )
    color = colors(rows)
    for position, row in enumerate(points):
        bars = {"thickness": 1.3, "width": 4, "color": color[row["model"]]}
        figure.add_scatter(
            x=[x[position]],
            y=[y[position]],
            mode="markers",
            marker={"size": 11, "color": color[row["model"]]},
            name=html.escape(row["model"]),
            error_x={"array": [right[position] - x[position]], "arrayminus": [0], **bars},
            error_y={"array": [high[position] - y[position]], "arrayminus": [y[position] - low[position]], **bars},
            hovertemplate=f"%{{y:.2f}} {html.escape(metric_name(metric))}<br>%{{x:.3g}} ms",
        )
    label_points(figure, [row["model"] for row in points], x, y, right, list(zip(low, high, strict=True)), x_range, y_range)
    ticks = log_ticks(10 ** x_range[0], 10 ** x_range[1])
    figure.update_xaxes(
        type="log",
        range=x_range,
        title_text="latency p50, ms (logarithmic; left is faster)",
        tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
    )
    figure.update_yaxes(range=y_range, title_text=html.escape(metric_axis(metric)))
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (latency, accuracy) points that no other point beats in both, fastest first."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels


def label_points(
    figure: go.Figure, names: list[str], x: list[float], y: list[float], right: list[float], y_bars: list[tuple[float, float]],
    x_range: list[float], y_range: list[float], level: float | None = None,
) -> None:  # fmt: skip
    """Write each model's name next to its point, with a thin line to the point if the nearest places are taken.

    Args:
        figure: with a plot of `PLOT_WIDTH` x `PLOT_HEIGHT` pixels.
        names: of the points; an empty one is not written, but its point keeps its place.
        x: of the points; the axis is logarithmic.
        y: of the points.
        right: where the horizontal bar of each point ends.
        y_bars: from where to where the vertical bar of each point goes.
        x_range: of the axis, in powers of ten.
        y_range: of the axis.
        level: of a horizontal line that names should not cross.
    """

    def across(value: float) -> float:
        return PLOT_WIDTH * (math.log10(value) - x_range[0]) / (x_range[1] - x_range[0])

    def up(value: float) -> float:
        return PLOT_HEIGHT * (value - y_range[0]) / (y_range[1] - y_range[0])

    taken: list[Box] = [] if level is None else [(0.0, up(level) - 4, PLOT_WIDTH, up(level) + 4)]
    for x_i, y_i, right_i, (low, high) in zip(x, y, right, y_bars, strict=True):
        taken += [(across(x_i) - 7, up(y_i) - 7, across(x_i) + 7, up(y_i) + 7), (across(x_i) - 3, up(low), across(x_i) + 3, up(high))]
        taken.append((across(x_i), up(y_i) - 3, across(right_i), up(y_i) + 3))
    texts = [short(name) for name in names]
    for text, x_i, y_i in zip(texts, x, y, strict=True):
        if not text:
            continue
        width = LETTER * len(html.unescape(text))
        side, rise, box = _free_place(across(x_i), up(y_i), width, taken)
        taken.append(box)
        figure.add_annotation(
            x=math.log10(x_i),
            y=y_i,
            text=text,
            ax=9 * side,
            ay=-rise,
            xanchor="left" if side > 0 else "right",
            yanchor="middle",
            showarrow=True,
            arrowhead=0,
            arrowwidth=0.8,
            arrowcolor=MUTED if abs(rise) > 20 else "rgba(0,0,0,0)",
            font={"size": 13, "color": INK},
        )


def _free_place(x: float, y: float, width: float, taken: list[Box]) -> tuple[int, int, Box]:
    """Return the side (1: right, -1: left), the rise in pixels and the box of the place that overlaps least."""
    places = []
    for distance in (13, 32, 52, 72, 92, 112):
        for rise in (distance, -distance):
            for side in (1, -1):
                left = x + 9 if side > 0 else x - 9 - width
                box = (left, y + rise - _LINE / 2, left + width, y + rise + _LINE / 2)
                outside = max(0.0, -box[0]) + max(0.0, box[2] - PLOT_WIDTH) + max(0.0, -box[1]) + max(0.0, box[3] - PLOT_HEIGHT)
                places.append((sum(_overlap(box, other) for other in taken) + 20 * outside + distance / 10, side, rise, box))
    _, side, rise, box = min(places, key=lambda place: place[0])
    return side, rise, box


def _overlap(one: Box, other: Box) -> float:
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
