"""Charts of latency: over the length of the input, and in every cell of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.entries import CELL, CellKey, cell_of, has_own_lengths
from compress.report.formatting import length_text
from compress.report.run_folder import Document
from compress.report.style import LEGEND, MUTED, colors, empty_figure, log_ticks, padded_range, short

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_LABELLED_BARS = 24  # with more, the numbers above the bars overlap


def length_chart(results: Sequence[Document], rows: Sequence[Document]) -> go.Figure | None:
    """Draw each model's p50 over the length of the input, for the first number of threads and batch size with several lengths."""
    fixed = [
        entry for entry in results if not has_own_lengths(entry) and (entry.get("latency_ms") or {}).get("p50") and entry.get("seq_len")
    ]
    groups: dict[CellKey, list[Document]] = {}
    for entry in fixed:
        groups.setdefault(cell_of(entry)[:2], []).append(entry)
    group = next((entries for entries in groups.values() if len({entry["seq_len"] for entry in entries}) > 1), [])
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
    ends = padded_range(math.log10(min(p50)), math.log10(max(p50)), 0.08)
    ticks = log_ticks(10 ** ends[0], 10 ** ends[1])
    figure.update_xaxes(
        type="log", range=padded_range(math.log10(tokens[0]), math.log10(tokens[-1]), 0.06), title_text="length, tokens (logarithmic)",
        tickvals=tokens, ticktext=[str(length) for length in tokens],
    )  # fmt: skip
    figure.update_yaxes(
        type="log", range=ends, title_text="latency p50, ms (logarithmic)", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks]
    )
    return figure


def latency_chart(results: Sequence[Document], rows: Sequence[Document]) -> go.Figure | None:
    """Draw the p50 of every model in every cell; None if there is one cell, or if `length_chart` shows them all."""
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


def cell_names(cells: Sequence[CellKey]) -> list[str]:
    """Name the cells of a benchmark by what differs between them: `32 tokens`, `batch 8, 128 tokens`."""
    words = {"threads": "threads {}", "batch_size": "batch {}", "seq_len": "{}"}
    lengths = [(*cell[:2], cell[2:]) for cell in cells]  # the task's own length differs from the same fixed length
    varying = [key for position, key in enumerate(CELL) if len({cell[position] for cell in lengths}) > 1] or ["seq_len"]

    def value(cell: CellKey, key: str) -> str:
        if key != "seq_len":
            return str(cell[CELL.index(key)])
        return length_text({"seq_len": cell[2], "lengths": "task"}) if cell[-1] else f"{cell[2]} tokens"

    return [", ".join(words[key].format(value(cell, key)) for key in varying) for cell in cells]
