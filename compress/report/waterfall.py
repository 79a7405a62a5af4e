"""The chart of a speedup's factors."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.entries import is_interval
from compress.report.run_folder import Document
from compress.report.style import INK, MUTED, colors, empty_figure, log_ticks, short

if TYPE_CHECKING:
    import plotly.graph_objects as go


def waterfall_of(stage: Document) -> Document | None:
    """Return the factors of the speedup in the first cell; None if the benchmark lacks them, or one of their ratios."""
    for entry in stage.get("waterfall") or []:
        parts = [*(entry.get("steps") or []), entry.get("total") or {}]
        return entry if len(parts) > 1 and all((part.get("ratio") or 0) > 0 for part in parts) else None
    return None


def waterfall_chart(entry: Document, rows: Sequence[Document]) -> go.Figure:
    """Draw the factors of a speedup, each starting where the previous one ends; on the logarithmic axis they add up to the total."""
    steps, total, color = entry["steps"], entry["total"], colors(rows)
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
        label = f"<b>{part['ratio']:.2f}×</b>"
        right = max(start, reached, high)
        figure.add_annotation(x=right, y=position, text=label, xanchor="left", xshift=8, showarrow=False, font={"size": 12})
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
