"""`compress report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from compress.core import console


@click.command("report", short_help="Write a run's HTML report again and print its table.")
@click.argument("run", type=click.Path())
def report_command(run: str) -> None:
    """Write a run's HTML report again and print its table.

    RUN is the folder of 'compress run'.

    \b
    Example:
      compress report runs/demo
    """
    from compress import report

    folder = Path(run)
    with report.of_any_run(folder):
        path = report.write(folder)
        document = {"output": str(path), "metrics": {row["model"]: row for row in report.summary(folder)}}
        console.result(document, lambda: show_summary(folder))


def show_summary(folder: Path) -> None:
    """Print the run's table, its gates, and the paths of report and model."""
    from compress import report
    from compress.core import files

    rows = report.summary(folder)
    if rows:
        columns = ["model", "runtime", "accuracy", "against the first", "p50 ms", "MB", "vs PyTorch fp32", "vs ONNX fp32"]
        console.table(columns, [_row(row) for row in rows])
    for gate in files.read_json(folder / "manifest.json")["gates"]:
        verdict = "passed" if gate["passed"] else "MISSED"
        print(f"gate {gate['gate']} {gate['limit']:g}: {verdict}, {gate['measured']:.2f} ({gate['where']})")
    if (folder / "model").is_dir():
        print(f"model:  {folder / 'model'}")
    print(f"report: {folder / 'report.html'}")


def _row(row: dict[str, Any]) -> list[str]:
    from compress.cli.bench import ratio_with_interval
    from compress.report.formatting import p_value

    def number(key: str, digits: int) -> str:
        return "-" if row[key] is None else f"{row[key]:.{digits}f}"

    accuracy = "-"
    if row["accuracy"] is not None:
        accuracy = f"{100 * row['accuracy']:.2f}"
        if row["ci95"]:
            accuracy += f" [{100 * row['ci95'][0]:.1f}, {100 * row['ci95'][1]:.1f}]"
    delta = "-"
    if row["delta_points"] is not None:
        delta = f"{row['delta_points']:+.2f}" + (f" (p {p_value(row['p_value'])})" if row["p_value"] is not None else "")
    runtime = "-" if row["runtime"] is None else f"{row['runtime']} {row['precision']}"
    return [
        row["model"],
        runtime,
        accuracy,
        delta,
        number("p50_ms", 2),
        number("size_mb", 1),
        ratio_with_interval(row["speedup"]),
        ratio_with_interval(row["speedup_vs_onnx"]),
    ]
