"""The report's charts: rows and documents in, plotly figures out. plotly is imported when a chart is drawn."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.report import CELL, Document, Run, cell_of, first_cell, has_own_lengths, is_interval, metric_of
from compress.report.formatting import length_of, scaled
from compress.report.scatter import scatter
from compress.report.style import (
    INK,
    LEGEND,
    LETTER,
    MUTED,
    PALETTE,
    accuracy_bounds,
    bars_figure,
    colors,
    empty_figure,
    log_ticks,
    padded,
    short,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_LABELLED_BARS = 24  # beyond this the numbers on top of bars run into each other


def draw(run: Run, rows: Sequence[Document]) -> dict[str, str]:
    """Return the charts that the run has data for, each a `<div>` by its name, in the order of the page.

    plotly.js itself is inlined in the first one only.
    """
    metric, benches = metric_of(run), run.measured("bench")
    p90 = {name: (entry.get("latency_ms") or {}).get("p90") for name, entry in first_cell(run).items()}
    points = scatter(rows, p90, metric)
    results = benches[-1]["results"] if benches else []
    steps = waterfall_of(benches[-1]) if benches else None
    kept, before = layer_shapes(run)
    points_on_the_way = curve_of(run)
    figures = {
        "scatter": points,
        "accuracies": accuracies(rows, metric) if points is None else None,
        "speedups": speedups(rows),
        "sizes": sizes(rows),
        "waterfall": waterfall(steps, rows) if steps else None,
        "lengths": lengths(results, rows),
        "latencies": latencies(results, rows),
        "curve": curve(points_on_the_way, metric) if points_on_the_way else None,
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
    same = before is not None and _drawn(before) == _drawn(kept)
    if kept and (before is None or same) and len(set(_drawn(kept))) == 1:
        return [], None
    return kept, None if same else before


def _drawn(layers: Sequence[Document]) -> list[tuple[Any, Any]]:
    """Return what is drawn of layers: heads and neurons, not the ranks of what is factorized."""
    return [(layer.get("heads"), layer.get("ffn")) for layer in layers]


def _shapes_on_the_way(run: Run, name: str) -> list[list[Document]]:
    """Return the shapes that a stage's ancestors started from or made, the oldest first, then its own."""
    wanted, found = {name}, []
    for ancestor, stage in reversed(run.stages.items()):
        if ancestor in wanted:
            wanted |= set(stage.get("inputs") or {})
            found += [stage[key] for key in ("layers", "layers_before") if stage.get(key)]
    return found[::-1]


def curve_of(run: Run) -> list[Document]:
    """Return the models on the way of the last pruning: two at least, each with its speedup and its score."""
    for stage in reversed(run.stages.values()):
        points = [point for point in stage.get("curve") or [] if point.get("score") is not None and point.get("predicted_speedup")]
        if len(points) > 1:
            return points
    return []


def curve(points: Sequence[Document], metric: str) -> go.Figure:
    """Draw a pruning's score on validation over its speedup: what was predicted on the way, what was measured at the end."""
    figure = empty_figure(height=300)
    ends = [point for point in points if point.get("measured_speedup")]
    figure.add_scatter(
        x=[point["predicted_speedup"] for point in points],
        y=[100 * point["score"] for point in points],
        mode="lines+markers",
        line={"color": PALETTE[0], "width": 1.5},
        marker={"size": 7},
        name="on the way, predicted",
        hovertemplate="%{x:.2f}×, %{y:.2f}",
    )
    figure.add_scatter(
        x=[point["measured_speedup"] for point in ends],
        y=[100 * point["score"] for point in ends],
        mode="markers",
        marker={"size": 12, "symbol": "diamond", "color": PALETTE[1]},
        name="written, measured",
        hovertemplate="%{x:.2f}×, %{y:.2f}",
    )
    figure.update_layout(showlegend=True, legend=LEGEND)
    figure.update_xaxes(title_text="speedup over the model before pruning")
    figure.update_yaxes(title_text=f"validation {html.escape(scaled(metric))}")
    return figure


def accuracies(rows: Sequence[Document], metric: str) -> go.Figure | None:
    """Draw every model's accuracy with its 95 % interval, for runs without latencies."""
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
    title = f"{html.escape(scaled(metric))}, with 95 % intervals"
    figure.update_xaxes(title_text=title, range=padded(min(low), max(high), 0.05))
    return figure


def speedups(rows: Sequence[Document]) -> go.Figure | None:
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
        told = f"<b>{ratio:.2f}×</b>"
        figure.add_annotation(x=max(high, ratio), y=position, text=told, xanchor="left", xshift=8, showarrow=False, font={"size": 12})
    widest = max(row["speedup"]["ratio"] for row in points)
    # The text behind the longest bar needs its pixels of what the names leave of half a page, or of a phone.
    plot = 360 - LETTER * min(24, max(len(row["model"]) for row in points))
    figure.update_xaxes(title_text=f"speedup over {short(points[0]['speedup']['vs'])}", range=[0, widest * plot / max(60, plot - 70)])
    return figure


def sizes(rows: Sequence[Document]) -> go.Figure | None:
    """Draw the megabytes of every model's weights."""
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


def waterfall_of(stage: Document) -> Document | None:
    """Return the first cell's split of the speedup into factors, where a benchmark has one that is whole."""
    for entry in stage.get("waterfall") or []:
        parts = [*(entry.get("steps") or []), entry.get("total") or {}]
        return entry if len(parts) > 1 and all((part.get("ratio") or 0) > 0 for part in parts) else None
    return None


def waterfall(found: Document, rows: Sequence[Document]) -> go.Figure:
    """Draw the steps of a speedup, each from where the one before ends, on a logarithmic axis: lengths add up to the total."""
    steps, total, color = found["steps"], found["total"], colors(rows)
    figure = empty_figure(height=100 + 52 * (len(steps) + 1), bargap=0.42)
    reached, ends = 0.0, [0.0]
    names = [
        f"{html.escape(step['what'])}<br><span style='color:{MUTED}'>{short(step['from'], 16)} → {short(step['to'], 16)}</span>"
        for step in steps
    ]
    bars = [(step, color.get(step["to"], MUTED)) for step in steps] + [(total, INK)]
    for position, (part, shade) in enumerate(bars):
        start = 0.0 if part is total else reached
        reached = start + math.log10(part["ratio"])
        bounds = part.get("ci95")
        low, high = (start + math.log10(bound) for bound in bounds) if is_interval(bounds) and min(bounds) > 0 else (reached, reached)
        ends += [reached, low, high]
        figure.add_bar(
            x=[reached - start],
            base=[start],
            y=[position],
            orientation="h",
            marker_color=shade,
            hovertemplate=f"{part['ratio']:.2f}×<extra></extra>",
            error_x={"array": [max(0, high - reached)], "arrayminus": [max(0, reached - low)], "thickness": 1.3, "width": 4, "color": INK},
        )
        told = f"<b>{part['ratio']:.2f}×</b>"
        right = max(start, reached, high)
        figure.add_annotation(x=right, y=position, text=told, xanchor="left", xshift=8, showarrow=False, font={"size": 12})
        if part is not total:
            figure.add_shape(type="line", x0=reached, x1=reached, y0=position + 0.29, y1=position + 0.71, line={"color": MUTED, "width": 1})
    low, high = min(ends), max(ends)
    figure.update_yaxes(
        tickvals=list(range(len(bars))),
        ticktext=[*names, "<b>total</b>"],
        range=[len(bars) - 0.5, -0.5],
        showgrid=False,
        ticklabelstandoff=6,
    )
    reach = max(high - low, 0.05)
    ticks = log_ticks(10 ** (low - 0.001), 10 ** (high + 0.1 * reach))
    figure.update_xaxes(
        title_text=f"times as fast as {short(steps[0]['from'])} (logarithmic)",
        tickvals=[math.log10(tick) for tick in ticks],
        ticktext=[f"{tick:g}×" for tick in ticks],
        range=[low - 0.01 * reach, high + 0.38 * reach],
    )
    return figure


def lengths(results: Sequence[Document], rows: Sequence[Document]) -> go.Figure | None:
    """Draw each model's p50 over the length of the input, at the first threads and batch size with several lengths."""
    fixed = [
        entry for entry in results if not has_own_lengths(entry) and (entry.get("latency_ms") or {}).get("p50") and entry.get("seq_len")
    ]
    groups: dict[tuple[Any, ...], list[Document]] = {}
    for entry in fixed:
        groups.setdefault(cell_of(entry)[:2], []).append(entry)
    group = next((found for found in groups.values() if len({entry["seq_len"] for entry in found}) > 1), [])
    if not group:
        return None
    figure, color = empty_figure(height=400, showlegend=True, legend=LEGEND), colors(rows)
    for name in dict.fromkeys(entry["model"] for entry in group):
        line = sorted((entry["seq_len"], entry["latency_ms"]["p50"]) for entry in group if entry["model"] == name)
        figure.add_scatter(
            x=[length for length, _ in line],
            y=[p50 for _, p50 in line],
            mode="lines+markers",
            name=short(name),
            line={"color": color.get(name, MUTED), "width": 2},
            marker={"size": 8},
            hovertemplate="%{y:.2f} ms",
        )
    tokens, p50 = sorted({entry["seq_len"] for entry in group}), [entry["latency_ms"]["p50"] for entry in group]
    ends = padded(math.log10(min(p50)), math.log10(max(p50)), 0.08)
    ticks = log_ticks(10 ** ends[0], 10 ** ends[1])
    figure.update_xaxes(
        type="log", range=padded(math.log10(tokens[0]), math.log10(tokens[-1]), 0.06), title_text="length, tokens (logarithmic)",
        tickvals=tokens, ticktext=[str(length) for length in tokens],
    )  # fmt: skip
    figure.update_yaxes(
        type="log", range=ends, title_text="latency p50, ms (logarithmic)", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
    )
    return figure


def latencies(results: Sequence[Document], rows: Sequence[Document]) -> go.Figure | None:
    """Draw the p50 of every model in every cell of a benchmark, where there are several that lines over lengths do not show."""
    cells = list(dict.fromkeys(cell_of(entry) for entry in results))
    lined = len({cell[:2] for cell in cells}) == 1 and len({cell for cell in cells if not cell[-1]}) > 1
    if len(cells) < 2 or lined:
        return None
    names, color = list(dict.fromkeys(entry["model"] for entry in results)), colors(rows)
    figure = empty_figure(height=420, barmode="group", showlegend=True, legend=LEGEND)
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
    words = {"threads": "threads {}", "batch_size": "batch {}", "seq_len": "{}"}
    lengths = [(*cell[:2], cell[2:]) for cell in cells]  # a length of its own differs from the same length fixed
    told = [key for position, key in enumerate(CELL) if len({cell[position] for cell in lengths}) > 1] or ["seq_len"]

    def value(cell: tuple[Any, ...], key: str) -> str:
        if key != "seq_len":
            return str(cell[CELL.index(key)])
        return length_of({"seq_len": cell[2], "lengths": "task"}) if cell[-1] else f"{cell[2]} tokens"

    return [", ".join(words[key].format(value(cell, key)) for key in told) for cell in cells]


def layers(kept: Sequence[Document], before: Sequence[Document] | None, key: str, unit: str) -> go.Figure:
    """Draw how many heads or FFN neurons (`key`) each layer keeps, over how many it had."""
    numbers = list(range(1, len(kept) + 1))
    figure = empty_figure(height=260, barmode="overlay")
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
