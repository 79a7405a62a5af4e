"""All charts that a run has data for, as HTML. plotly is imported when a chart is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report.bar_charts import accuracy_chart, size_chart, speedup_chart
from compress.report.latency_charts import latency_chart, length_chart
from compress.report.layer_charts import curve_chart, layer_chart
from compress.report.layer_shapes import curve_of, layer_shapes
from compress.report.run_folder import Document, Run
from compress.report.scatter import scatter
from compress.report.summary import first_cell, metric_of
from compress.report.waterfall import waterfall_chart, waterfall_of


def draw_charts(run: Run, rows: Sequence[Document]) -> dict[str, str]:
    """Return the charts that the run has data for: `<div>` elements by name, in the order of the page.

    plotly.js is inlined in the first one only.
    """
    metric, benches = metric_of(run), run.measured("bench")
    p90 = {name: (entry.get("latency_ms") or {}).get("p90") for name, entry in first_cell(run).items()}
    points = scatter(rows, p90, metric)
    results = benches[-1]["results"] if benches else []
    steps = waterfall_of(benches[-1]) if benches else None
    kept, before = layer_shapes(run)
    steps_of_pruning = curve_of(run)
    figures = {
        "scatter": points,
        "accuracies": accuracy_chart(rows, metric) if points is None else None,
        "speedups": speedup_chart(rows),
        "sizes": size_chart(rows),
        "waterfall": waterfall_chart(steps, rows) if steps else None,
        "lengths": length_chart(results, rows),
        "latencies": latency_chart(results, rows),
        "curve": curve_chart(steps_of_pruning, metric) if steps_of_pruning else None,
        "heads": layer_chart(kept, before, "heads", "attention heads") if kept else None,
        "ffn": layer_chart(kept, before, "ffn", "FFN neurons") if kept else None,
        "tokens": layer_chart(kept, None, "tokens", "share of tokens") if any("tokens" in layer for layer in kept) else None,
    }
    config = {"displayModeBar": False, "responsive": True, "showTips": False}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    return {
        name: figure.to_html(full_html=False, include_plotlyjs=position == 0, div_id=f"chart-{name}", config=config)
        for position, (name, figure) in enumerate(drawn.items())
    }
