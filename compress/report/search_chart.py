"""The chart of a search: every candidate's accuracy against its latency, the front, the limit and the answer."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.formatting import metric_axis
from compress.report.scatter import pareto_front
from compress.report.style import INK, LEGEND, MUTED, PALETTE, empty_figure, log_ticks, padded_range, short
from compress.results.search import CandidateRow, SearchDocument

if TYPE_CHECKING:
    import plotly.graph_objects as go

Point = tuple[float, float, float, float]  # latency in ms, score, and its interval, in points
ANSWER, LIMIT = PALETTE[1], "#b3341f"


def search_chart(document: SearchDocument) -> go.Figure | None:
    """Draw the candidates: filled points were timed, open ones have a predicted latency; vertical bars are 95 % intervals of the drop."""
    rows = [row for row in document["candidates"] if row["score"] is not None and row["latency_ms"]]
    if not rows:
        return None
    answer = document["answer"]["model"]
    groups = {
        "predicted latency": [row for row in rows if row["speedup_ci95"] is None],
        "timed": [row for row in rows if row["speedup_ci95"] is not None and row["model"] != answer],
        "the answer": [row for row in rows if row["model"] == answer],
    }
    symbols = {"predicted latency": ("circle-open", PALETTE[0], 9), "timed": ("circle", PALETTE[0], 10), "the answer": ("star", ANSWER, 17)}
    figure = empty_figure(height=460, showlegend=True, legend=LEGEND)
    points = [_point(row, document["baseline_score"]) for row in rows]
    front = pareto_front([(x, y) for x, y, _, _ in points])
    figure.add_scatter(
        x=[x for x, _ in front], y=[y for _, y in front], mode="lines", hoverinfo="skip", name="front",
        line={"color": "#97a2ae", "width": 2, "dash": "dot", "shape": "hv"},
    )  # fmt: skip
    for name, members in groups.items():
        if members:
            _add_points(figure, name, members, document["baseline_score"], *symbols[name])
    baseline = (document["baseline_ms"], 100 * document["baseline_score"])
    figure.add_scatter(
        x=[baseline[0]], y=[baseline[1]], mode="markers+text", text=["baseline, PyTorch"], textposition="bottom center", name="baseline",
        marker={"symbol": "diamond", "size": 11, "color": INK}, textfont={"color": MUTED, "size": 12},
        hovertemplate="%{y:.2f}<br>%{x:.3g} ms",
    )  # fmt: skip
    _add_limit(figure, document)
    _scale(figure, [*points, (*baseline, baseline[1], baseline[1])], document)
    return figure


def _point(row: CandidateRow, baseline: float) -> Point:
    """Return where a candidate is drawn; the interval of its score is that of the paired difference."""
    drop = row["drop_ci95"] or [0.0, 0.0]
    return row["latency_ms"] or 0.0, 100 * (row["score"] or 0.0), 100 * baseline - drop[1], 100 * baseline - drop[0]


def _add_points(figure: go.Figure, name: str, rows: Sequence[CandidateRow], baseline: float, symbol: str, color: str, size: int) -> None:
    points = [_point(row, baseline) for row in rows]
    labelled = name != "predicted latency"
    figure.add_scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        mode="markers+text" if labelled else "markers",
        text=[short(row["candidate"]) for row in rows],
        textposition="top center",
        textfont={"color": INK, "size": 12},
        marker={"symbol": symbol, "size": size, "color": color},
        error_y={
            "array": [high - y for _, y, _, high in points],
            "arrayminus": [y - low for _, y, low, _ in points],
            "thickness": 1,
            "width": 3,
            "color": color,
        },
        name=html.escape(name),
        customdata=[html.escape(row["candidate"]) for row in rows],
        hovertemplate="%{customdata}<br>%{y:.2f}<br>%{x:.3g} ms",
    )


def _add_limit(figure: go.Figure, document: SearchDocument) -> None:
    """Draw what was asked for: the lowest score, or the longest latency."""
    drop, latency = document["limit"]["max_drop"], document["limit"]["target_latency_ms"]
    line = {"color": LIMIT, "width": 1.5, "dash": "dash"}
    if drop is not None:
        text = f"{drop:g} {'point' if drop == 1 else 'points'} lost"
        figure.add_hline(y=100 * document["baseline_score"] - drop, line=line, annotation={"text": text})
    if latency is not None:
        figure.add_vline(x=latency, line=line, annotation={"text": f"{latency:g} ms"})


def _scale(figure: go.Figure, points: Sequence[Point], document: SearchDocument) -> None:
    """Choose the axes; candidates far below the limit may fall out of the picture, the table has them."""
    x_range = padded_range(math.log10(min(x for x, *_ in points)), math.log10(max(x for x, *_ in points)), 0.1)
    ticks = log_ticks(10 ** x_range[0], 10 ** x_range[1])
    top = max(high for *_, high in points)
    bottom = max(min(low for *_, low, _ in points), 100 * document["baseline_score"] - 4 * ((document["limit"]["max_drop"] or 2.0) + 2.0))
    figure.update_xaxes(
        type="log", range=x_range, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks],
        title_text="latency p50, ms (logarithmic; left is faster)",
    )  # fmt: skip
    figure.update_yaxes(range=padded_range(bottom, top, 0.06), title_text=html.escape(metric_axis(document["metric"])))
