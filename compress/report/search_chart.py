"""The chart of a search: every candidate's accuracy against its latency, the front, the limit and the answer."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.formatting import metric_axis
from compress.report.scatter import PLOT_HEIGHT, label_points, pareto_front
from compress.report.style import INK, LEGEND, PALETTE, empty_figure, log_ticks, padded_range
from compress.results.search import CandidateRow, SearchDocument

if TYPE_CHECKING:
    import plotly.graph_objects as go

ChartPoint = tuple[float, float, float, float]  # latency in ms, score, and its interval, in points
ANSWER, LIMIT, FRONT = PALETTE[1], "#b3341f", "#97a2ae"
PALE = "#a9bfd8"
BASELINE = "baseline, PyTorch"
LOOKS = {  # of each group: symbol, colour, size, whether its intervals are drawn: many models of one size have the same place
    "pruned only": ("circle-open", PALE, 7, False),
    "trained, latency predicted": ("circle-open", PALETTE[0], 9, False),
    "timed": ("circle", PALETTE[0], 10, True),
    "the answer": ("star", ANSWER, 17, True),
}


def search_chart(document: SearchDocument) -> go.Figure | None:
    """Draw the candidates: filled points were timed, with 95 % intervals of the drop; open ones have a predicted latency."""
    rows = [row for row in document["candidates"] if row["score"] is not None and row["latency_ms"]]
    if not rows:
        return None
    figure = empty_figure(height=PLOT_HEIGHT + 110, showlegend=True, legend=LEGEND)
    baseline = (document["baseline_ms"], 100 * document["baseline_score"])
    groups: dict[str, list[CandidateRow]] = {name: [] for name in LOOKS}
    for row in rows:
        groups[_group(row, document["answer"]["model"])].append(row)
    timed = [_point(row, document["baseline_score"]) for row in groups["timed"] + groups["the answer"]]
    front = pareto_front([*((x, y) for x, y, _, _ in timed), baseline])
    figure.add_scatter(
        x=[x for x, _ in front], y=[y for _, y in front], mode="lines", hoverinfo="skip", name="front of what was timed",
        line={"color": FRONT, "width": 2, "dash": "dot", "shape": "hv"},
    )  # fmt: skip
    for name, members in groups.items():
        if members:
            _add_points(figure, name, members, document["baseline_score"])
    figure.add_scatter(
        x=[baseline[0]], y=[baseline[1]], mode="markers", name="baseline", marker={"symbol": "diamond", "size": 11, "color": INK},
        hovertemplate="%{y:.2f}<br>%{x:.3g} ms",
    )  # fmt: skip
    _add_limit(figure, document)
    points = [_point(row, document["baseline_score"]) for row in rows]
    x_range, y_range = _scale(figure, [*points, (*baseline, baseline[1], baseline[1])], document)
    bars = [(low, high) if row["speedup_ci95"] else (y, y) for row, (_, y, low, high) in zip(rows, points, strict=True)]
    x, y, drop = (
        [*(point[0] for point in points), baseline[0]],
        [*(point[1] for point in points), baseline[1]],
        document["limit"]["max_drop"],
    )
    level = None if drop is None else baseline[1] - drop
    label_points(figure, [*_labels(rows), BASELINE], x, y, x, [*bars, (baseline[1], baseline[1])], x_range, y_range, level)
    return figure


def _group(row: CandidateRow, answer: str) -> str:
    if row["model"] == answer:
        return "the answer"
    if row["speedup_ci95"] is not None:
        return "timed"
    return "trained, latency predicted" if row["seconds"] else "pruned only"


def _labels(rows: Sequence[CandidateRow]) -> list[str]:
    """Return the label of each candidate: its name if it was timed; else of all of one predicted latency the best has their size's."""
    best: dict[float, CandidateRow] = {}
    for row in rows:
        latency = row["latency_ms"] or 0.0
        if row["speedup_ci95"] is None and (latency not in best or (row["score"] or 0.0) > (best[latency]["score"] or 0.0)):
            best[latency] = row
    shown = {id(row) for row in best.values()}
    sizes = [row["candidate"].partition(",")[0].partition(" trained")[0] for row in rows]
    return [
        row["candidate"] if row["speedup_ci95"] is not None else size if id(row) in shown else ""
        for row, size in zip(rows, sizes, strict=True)
    ]


def _point(row: CandidateRow, baseline: float) -> ChartPoint:
    """Return where a candidate is drawn; the interval of its score is that of the paired difference."""
    drop = row["drop_ci95"] or [0.0, 0.0]
    return row["latency_ms"] or 0.0, 100 * (row["score"] or 0.0), 100 * baseline - drop[1], 100 * baseline - drop[0]


def _add_points(figure: go.Figure, name: str, rows: Sequence[CandidateRow], baseline: float) -> None:
    points = [_point(row, baseline) for row in rows]
    symbol, color, size, has_bars = LOOKS[name]
    bars = {"array": [high - y for _, y, _, high in points], "arrayminus": [y - low for _, y, low, _ in points]}
    figure.add_scatter(
        x=[point[0] for point in points],
        y=[point[1] for point in points],
        mode="markers",
        marker={"symbol": symbol, "size": size, "color": color},
        error_y={**bars, "thickness": 1.3, "width": 4, "color": color} if has_bars else None,
        name=html.escape(name),
        customdata=[[html.escape(row["candidate"]), low, high] for row, (_, _, low, high) in zip(rows, points, strict=True)],
        hovertemplate="%{customdata[0]}<br>%{y:.2f} [%{customdata[1]:.1f}, %{customdata[2]:.1f}]<br>%{x:.3g} ms",
    )


def _add_limit(figure: go.Figure, document: SearchDocument) -> None:
    """Draw what was asked for: the lowest score, or the longest latency."""
    drop, latency = document["limit"]["max_drop"], document["limit"]["target_latency_ms"]
    line = {"color": LIMIT, "width": 1.5, "dash": "dash"}
    font = {"color": LIMIT, "size": 12}
    if drop is not None:
        text = f"the limit: {drop:g} {'point' if drop == 1 else 'points'} lost"
        y = 100 * document["baseline_score"] - drop
        figure.add_hline(y=y, line=line, annotation={"text": text, "font": font}, annotation_position="bottom left")
    if latency is not None:
        figure.add_vline(x=latency, line=line)
        figure.add_annotation(  # on a logarithmic axis a line is placed by its value, and a text by the logarithm
            x=math.log10(latency), y=0, yref="paper", text=f"the limit: {latency:g} ms", font=font, showarrow=False,
            xanchor="left", yanchor="bottom",
        )  # fmt: skip


def _scale(figure: go.Figure, points: Sequence[ChartPoint], document: SearchDocument) -> tuple[list[float], list[float]]:
    """Choose the axes, and return their ranges; candidates far below the limit may fall out of the picture, the table has them."""
    x_range = padded_range(math.log10(min(x for x, *_ in points)), math.log10(max(x for x, *_ in points)), 0.1)
    ticks = log_ticks(10 ** x_range[0], 10 ** x_range[1])
    top = max(high for *_, high in points)
    bottom = max(min(low for *_, low, _ in points), 100 * document["baseline_score"] - 4 * ((document["limit"]["max_drop"] or 2.0) + 2.0))
    y_range = padded_range(bottom, top, 0.06)
    figure.update_xaxes(
        type="log", range=x_range, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks],
        title_text="latency p50, ms (logarithmic; left is faster)",
    )  # fmt: skip
    figure.update_yaxes(range=y_range, title_text=html.escape(metric_axis(document["metric"])))
    return x_range, y_range
