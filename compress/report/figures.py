"""The report's charts: rows and documents in, plotly figures out. plotly is imported when a chart is drawn."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.report import CELL, Document, Run, cell_of, first_cell, is_interval, metric_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

PALETTE = (
    "#2f6db3", "#d9662b", "#2f9467", "#8f5bb0", "#b98a1c", "#3fa3c4",
    "#c24d78", "#6f7d33", "#8a6552", "#4a4fa3", "#cf8f6a", "#5d6b7a",
)  # fmt: skip
INK, MUTED, GRID = "#1f2730", "#6a7480", "#e6e9ed"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MAX_LABELLED_BARS = 24  # beyond this the numbers on top of bars run into each other
# Where labels of the scatter are placed, in pixels: the width of the plot on a screen of 1200 pixels, its height.
PLOT_WIDTH, PLOT_HEIGHT = 880, 350
_LETTER, _LINE = 7.2, 17


def draw(run: Run, rows: Sequence[Document]) -> dict[str, str]:
    """Return the charts that the run has data for, each a `<div>` by its name, in the order of the page.

    plotly.js itself is inlined in the first one only.
    """
    metric, benches = metric_of(run), run.measured("bench")
    p90 = {name: (entry.get("latency_ms") or {}).get("p90") for name, entry in first_cell(run).items()}
    points = scatter(rows, p90, metric)
    kept, before = layer_shapes(run)
    figures = {
        "scatter": points,
        "accuracies": accuracies(rows, metric) if points is None else None,
        "speedups": speedups(rows),
        "sizes": sizes(rows),
        "latencies": latencies(benches[-1]["results"], rows) if benches else None,
        "heads": layers(kept, before, "heads", "attention heads") if kept else None,
        "ffn": layers(kept, before, "ffn", "FFN neurons") if kept else None,
    }
    config = {"displayModeBar": False, "responsive": True, "showTips": False}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    return {
        name: figure.to_html(full_html=False, include_plotlyjs=position == 0, div_id=f"chart-{name}", config=config)
        for position, (name, figure) in enumerate(drawn.items())
    }


def layer_shapes(run: Run) -> tuple[list[Document], list[Document] | None]:
    """Return the layers of the last model that tells them, and those that it had before anything was cut.

    The latter are None where no earlier shape has as many layers: a student that took every second layer of its
    teacher cannot be drawn over it. The former are empty where there is nothing to draw: all layers are alike.
    """
    name, kept = next(((name, stage["layers"]) for name, stage in reversed(run.stages.items()) if stage.get("layers")), ("", []))
    before = next((shape for shape in _shapes_on_the_way(run, name) if len(shape) == len(kept)), None)
    if kept and before in (None, kept) and all(layer == kept[0] for layer in kept):
        return [], None
    return kept, before if before != kept else None


def _shapes_on_the_way(run: Run, name: str) -> list[list[Document]]:
    """Return the shapes that a stage's ancestors started from or made, the oldest first, then its own."""
    wanted, found = {name}, []
    for ancestor, stage in reversed(run.stages.items()):
        if ancestor in wanted:
            wanted |= set(stage.get("inputs") or {})
            found += [stage[key] for key in ("layers", "layers_before") if stage.get(key)]
    return found[::-1]


def short(name: str, limit: int = 28) -> str:
    """Cut a name in its middle, where two long names differ least, and escape it for plotly's markup."""
    cut = name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-(limit // 2) :]}"
    return html.escape(cut)


def colors(rows: Sequence[Document]) -> dict[str, str]:
    """Return each model's colour, the same in every chart."""
    return {row["model"]: PALETTE[position % len(PALETTE)] for position, row in enumerate(rows)}


def scatter(rows: Sequence[Document], p90_ms: dict[str, float | None], metric: str) -> go.Figure | None:
    """Draw accuracy against latency: bars up and down are 95 % intervals, bars across go from p50 to p90."""
    points = [row for row in rows if row["accuracy"] is not None and row["p50_ms"]]
    if len(points) < 2:
        return None
    x = [row["p50_ms"] for row in points]
    y = [100 * row["accuracy"] for row in points]
    right = [max(x_i, p90_ms.get(row["model"]) or x_i) for x_i, row in zip(x, points, strict=True)]
    low, high = zip(*(_bounds(row) for row in points), strict=True)
    x_range, y_range = _padded(math.log10(min(x)), math.log10(max(right)), 0.12), _padded(min(low), max(high), 0.08)
    figure = _figure(height=PLOT_HEIGHT + 90)
    front = [
        (x_i, y_i) for x_i, y_i in sorted(zip(x, y, strict=True)) if all(y_j < y_i for x_j, y_j in zip(x, y, strict=True) if x_j < x_i)
    ]
    figure.add_scatter(
        x=[x_i for x_i, _ in front],
        y=[y_i for _, y_i in front],
        mode="lines",
        hoverinfo="skip",
        line={"color": "#b9c1ca", "width": 1.5, "dash": "dot", "shape": "hv"},
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
            hovertemplate=f"%{{y:.2f}} {html.escape(metric)}<br>%{{x:.3g}} ms",
        )
    _label_points(figure, [row["model"] for row in points], x, y, right, list(zip(low, high, strict=True)), x_range, y_range)
    ticks = log_ticks(10 ** x_range[0], 10 ** x_range[1])
    figure.update_xaxes(
        type="log",
        range=x_range,
        title_text="latency p50, ms (logarithmic; left is faster)",
        tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
    )
    figure.update_yaxes(range=y_range, title_text=f"{html.escape(metric)} (× 100)")
    return figure


def _bounds(row: Document) -> tuple[float, float]:
    low, high = row["ci95"] if is_interval(row["ci95"]) else (row["accuracy"], row["accuracy"])
    return 100 * min(low, row["accuracy"]), 100 * max(high, row["accuracy"])


def _padded(low: float, high: float, share: float) -> list[float]:
    """Widen a range by a share of itself on both sides; a range of no width gets some."""
    pad = max(share * (high - low), 0.1)
    return [low - pad, high + pad]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round values for a logarithmic axis, at least three where the range allows."""
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(n / 10 for n in range(10, 100, 2))):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [value for power in powers for step in steps if low <= (value := float(f"{step * 10.0**power:.3g}")) <= high]
        if len(ticks) >= 4:
            break
    return ticks[:: max(1, len(ticks) // 8)]


Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels


def _label_points(
    figure: go.Figure, names: list[str], x: list[float], y: list[float], right: list[float], y_bars: list[tuple[float, float]],
    x_range: list[float], y_range: list[float],
) -> None:  # fmt: skip
    """Write each model's name beside its point, with a thin line to it where the nearest places are taken."""

    def across(value: float) -> float:
        return PLOT_WIDTH * (math.log10(value) - x_range[0]) / (x_range[1] - x_range[0])

    def up(value: float) -> float:
        return PLOT_HEIGHT * (value - y_range[0]) / (y_range[1] - y_range[0])

    taken: list[Box] = []
    for x_i, y_i, right_i, (low, high) in zip(x, y, right, y_bars, strict=True):
        taken += [(across(x_i) - 7, up(y_i) - 7, across(x_i) + 7, up(y_i) + 7), (across(x_i) - 3, up(low), across(x_i) + 3, up(high))]
        taken.append((across(x_i), up(y_i) - 3, across(right_i), up(y_i) + 3))
    texts = [short(name) for name in names]
    for text, x_i, y_i in zip(texts, x, y, strict=True):
        width = _LETTER * len(html.unescape(text))
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


def accuracies(rows: Sequence[Document], metric: str) -> go.Figure | None:
    """Draw every model's accuracy with its 95 % interval, for runs without latencies."""
    points = [row for row in rows if row["accuracy"] is not None]
    if len(points) < 2:
        return None
    figure, color = _bars_figure(points), colors(rows)
    for position, row in enumerate(points):
        low, high = _bounds(row)
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
    low, high = zip(*(_bounds(row) for row in points), strict=True)
    title = f"{html.escape(metric)} (× 100), with 95 % intervals"
    figure.update_xaxes(title_text=title, range=_padded(min(low), max(high), 0.05))
    return figure


def speedups(rows: Sequence[Document]) -> go.Figure | None:
    """Draw every model's speedup over the first one with its interval, and its factor over the model above it."""
    points = [row for row in rows if (row["speedup"] or {}).get("ratio")]
    if len(points) < 2:
        return None
    figure, color = _bars_figure(points), colors(rows)
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
        step = ratio / points[position - 1]["speedup"]["ratio"] if position > 1 else None
        told = f"<b>{ratio:.2f}×</b>" + (f" <span style='color:{MUTED}'>step {step:.2f}×</span>" if step else "")
        figure.add_annotation(x=max(high, ratio), y=position, text=told, xanchor="left", xshift=8, showarrow=False, font={"size": 12})
    widest = max(row["speedup"]["ratio"] for row in points)
    # The text behind the longest bar needs its pixels of what the names leave of half a page, or of a phone.
    plot = 360 - _LETTER * min(24, max(len(row["model"]) for row in points))
    figure.update_xaxes(
        title_text=f"speedup over {short(points[0]['speedup']['vs'])}", range=[0, widest * min(2.2, plot / max(1, plot - 145))]
    )
    return figure


def sizes(rows: Sequence[Document]) -> go.Figure | None:
    """Draw the megabytes of every model's weights."""
    points = [row for row in rows if row["size_mb"]]
    if len(points) < 2:
        return None
    figure, color = _bars_figure(points), colors(rows)
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


def latencies(results: Sequence[Document], rows: Sequence[Document]) -> go.Figure | None:
    """Draw the p50 of every model in every cell of a benchmark, where there are several cells."""
    cells = list(dict.fromkeys(cell_of(entry) for entry in results))
    if len(cells) < 2:
        return None
    names, color = list(dict.fromkeys(entry["model"] for entry in results)), colors(rows)
    figure = _figure(height=420, barmode="group", showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    p50 = {(entry["model"], cell_of(entry)): (entry.get("latency_ms") or {}).get("p50") for entry in results}
    labelled = len(names) * len(cells) <= MAX_LABELLED_BARS
    for name in names:
        values = [p50.get((name, cell)) for cell in cells]
        figure.add_bar(
            x=list(range(len(cells))),
            y=values,
            name=short(name),
            marker_color=color.get(name, MUTED),
            hovertemplate="%{y:.2f} ms",
            text=["" if value is None else f"{value:#.3g}".rstrip(".") for value in values] if labelled else None,
            textposition="outside",
            textangle=0,
            cliponaxis=False,
        )
    figure.update_xaxes(tickvals=list(range(len(cells))), ticktext=cell_names(cells), showgrid=False)
    figure.update_yaxes(title_text="latency p50, ms", rangemode="tozero")
    return figure


def cell_names(cells: Sequence[tuple[Any, ...]]) -> list[str]:
    """Name the cells of a benchmark by what differs between them: `32 tokens`, `batch 8, 128 tokens`."""
    words = {"threads": "threads {}", "batch_size": "batch {}", "seq_len": "{} tokens"}
    told = [key for position, key in enumerate(CELL) if len({cell[position] for cell in cells}) > 1] or ["seq_len"]
    return [", ".join(words[key].format(cell[CELL.index(key)]) for key in told) for cell in cells]


def layers(kept: Sequence[Document], before: Sequence[Document] | None, key: str, unit: str) -> go.Figure:
    """Draw how many heads or FFN neurons (`key`) each layer keeps, over how many it had."""
    numbers = list(range(1, len(kept) + 1))
    figure = _figure(height=260, barmode="overlay")
    if before is not None:
        figure.add_bar(x=numbers, y=[layer[key] for layer in before], marker_color="#dfe4ea", name="before", hovertemplate="%{y} before")
    figure.add_bar(
        x=numbers,
        y=[layer[key] for layer in kept],
        marker_color=PALETTE[0],
        name="kept",
        hovertemplate="%{y} kept",
        width=0.55,
        text=[layer[key] for layer in kept] if len(kept) <= 12 else None,
        textposition="outside",
        textfont={"size": 11, "color": INK},
        cliponaxis=False,
    )
    figure.update_xaxes(title_text="layer", dtick=1 if len(kept) <= 12 else 2, showgrid=False)
    figure.update_yaxes(title_text=unit, rangemode="tozero")
    return figure


def _figure(height: int, **layout: Any) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 16, "t": 16, "b": 44},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
        **{"showlegend": False, **layout},
    )
    # Zooming is off: on a phone a finger on the chart must scroll the page.
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(fixedrange=True, gridcolor=GRID, zeroline=False, automargin=True, title_font={"size": 12, "color": MUTED}, title_standoff=10)
    return figure


def _bars_figure(points: Sequence[Document]) -> go.Figure:
    """Return an empty chart with one line a model, the first at the top."""
    figure = _figure(height=90 + 38 * len(points), bargap=0.35)
    ticks = list(range(len(points)))
    # Positions, not names, are the axis: two long names may be cut to the same text.
    figure.update_yaxes(
        tickvals=ticks,
        ticktext=[short(row["model"], 24) for row in points],
        range=[len(points) - 0.5, -0.5],
        showgrid=False,
        ticklabelstandoff=6,
    )
    return figure
