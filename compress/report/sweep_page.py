"""The report of a sweep: one offline HTML page from its document. All texts from the document are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from compress.core import console
from compress.report.formatting import capitalized, interval_text, metric_name, number, times_100
from compress.report.page import html_page, machine_facts
from compress.report.run_folder import Document
from compress.report.scatter import scatter
from compress.report.tables import TableCell, fact_table, figure, folded, html_table, note, without_empty

BARS = "A point is the mean over the seeds. Bars go from the lowest to the highest seed, to the right from the mean to the slowest."


def sweep_page(document: Document) -> str:
    """Return the whole page."""
    sections = [
        _header(document),
        _verdict(document),
        _chart(document),
        _settings_table(document),
        _failures(document),
        _points_table(document),
        _stages_table(document),
        _machine(document["machine"]),
    ]
    return html_page(f"Sweep of {document['recipe']}", sections)


def _header(document: Document) -> str:
    grid = " × ".join(f"{path}: {', '.join(map(str, values))}" for path, values in document["grid"].items())
    facts = [
        grid,
        f"seeds {', '.join(map(str, document['seeds']))}",
        str(document["machine"].get("cpu") or ""),
        f"{document['created'][:16].replace('T', ' ')} UTC",
        f"ran for {console.duration(document['seconds'])}",
    ]
    return f'<h1>Sweep of {escape(document["recipe"])}</h1>\n<p class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p>'


def _verdict(document: Document) -> str:
    """Return what was run, in sentences."""
    points, stages = document["points"], document["stages"]
    failed = sum(point["failure"] is not None for point in points)
    missed = sum(any(not gate["passed"] for gate in point["gates"]) for point in points)
    ran = [stage for stage in stages if stage["ran"]]
    parts = [f"{len(points) - failed} of {len(points)} points are finished"]
    parts += [f"{missed} of them miss{'es' * (missed == 1)} a gate"] * bool(missed)
    uses = sum(stage["points"] for stage in stages)
    work = console.duration(sum(stage["seconds"] or 0 for stage in ran))
    others = ", the others were in the store" if len(ran) < len(stages) else ""
    shared = f"The points have {uses} stages, {len(stages)} of them different. {len(ran)} ran now ({work} of work){others}."
    return f'<p class="verdict">{escape(", ".join(parts))}.</p>\n{note(shared)}'


def setting_name(values: Document) -> str:
    """Return the values of a setting as text."""
    return ", ".join(f"{path}={value}" for path, value in values.items()) or "the recipe"


def _chart(document: Document) -> str:
    """Return accuracy against latency, if both were measured for at least two settings."""
    measured = [entry for entry in document["settings"] if entry["score"] and entry["p50_ms"]]
    rows: list[Document] = [
        {
            "model": setting_name(entry["values"]),
            "accuracy": entry["score"]["mean"],
            "ci95": [entry["score"]["min"], entry["score"]["max"]],
            "p50_ms": entry["p50_ms"]["mean"],
        }
        for entry in measured
    ]
    slowest = {row["model"]: entry["p50_ms"]["max"] for row, entry in zip(rows, measured, strict=True)}
    drawn = scatter(rows, slowest, document["metric"] or "accuracy")
    if drawn is None:
        return ""
    config = {"displayModeBar": False, "responsive": True, "showTips": False}
    return figure(drawn.to_html(full_html=False, include_plotlyjs=True, div_id="chart-scatter", config=config), BARS, wide=True)


def _settings_table(document: Document) -> str:
    """Return mean and spread over the seeds, a row for each setting."""
    paths = list(document["grid"])
    score = f"{capitalized(metric_name(document['metric'] or 'score'))} × 100"
    columns = [
        *(paths or ["Setting"]),
        "Seeds",
        score,
        "Change, points",
        "p50, ms",
        "Speedup",
        "MB",
        "Parameters",
        "Gates missed",
        "Failed",
    ]
    rows = [
        [
            *([str(entry["values"][path]) for path in paths] or ["the recipe"]),
            str(entry["finished"]),
            spread_cell(entry["score"], 2, 100),
            spread_cell(entry["delta_points"], 2, signed=True),
            spread_cell(entry["p50_ms"]),
            spread_cell(entry["speedup"]),
            spread_cell(entry["size_mb"], 1),
            spread_cell(entry["params"], 2, 1e-6, unit=" M"),
            str(entry["gates_missed"]) if entry["gates_missed"] else "–",
            str(entry["failed"]) if entry["failed"] else "–",
        ]
        for entry in document["settings"]
    ]
    small = "Means over the seeds; ± sample standard deviation; small: lowest to highest seed. Dash: not measured."
    if document["baseline"]:
        small += f" Change: against {document['baseline']}."
    return f"<h2>Mean and spread</h2>\n{html_table(*without_empty(columns, rows))}\n{note(small)}"


def spread_cell(spread: Document | None, digits: int = 2, scale: float = 1, signed: bool = False, unit: str = "") -> TableCell:
    """Return `mean ± standard deviation` with the range below it; a dash if there is no value."""
    if spread is None:
        return "–"
    text = number(round(scale * spread["mean"], digits) + 0.0, digits, signed)  # no minus sign before a rounded zero
    if spread["std"] is None:
        return text + unit
    bounds = interval_text([spread["min"], spread["max"]], digits, scale, signed) if spread["std"] else ""
    return (f"{text} ± {number(scale * spread['std'], digits)}{unit}", bounds)


def _failures(document: Document) -> str:
    failed = [point for point in document["points"] if point["failure"]]
    if not failed:
        return ""
    rows = [
        [
            setting_name(point["values"]),
            str(point["seed"]),
            point["failure"]["stage"] or "–",
            (point["failure"]["message"], point["failure"]["hint"] or ""),
            str(point["failure"]["exit_code"]),
        ]
        for point in failed
    ]
    return f"<h2>Failed points</h2>\n{html_table(['Setting', 'Seed', 'Stage', 'What failed', 'Exit code'], rows, text=(2, 3))}"


def _points_table(document: Document) -> str:
    """Return one row for each point."""
    columns = ["Setting", "Seed", "Model", "Score × 100", "Change, points", "p50, ms", "Speedup", "MB", "Gates", "Work", "Digest"]
    rows: list[Sequence[TableCell]] = [
        [
            setting_name(point["values"]),
            str(point["seed"]),
            point["model"] or "–",
            (number(times_100(point["score"])), interval_text(point["ci95"], 1, 100)),
            number(point["delta_points"], signed=True),
            number(point["p50_ms"]),
            "–" if point["speedup"] is None else f"{number(point['speedup'])}×",
            number(point["size_mb"], 1),
            _gates(point),
            console.duration(point["seconds"]),
            str(point["digest"] or "–")[:12],
        ]
        for point in document["points"]
    ]
    table = folded(html_table(*without_empty(columns, rows), text=()), len(rows), "all points")
    return f"<h2>Points</h2>\n{table}\n{note('Small numbers: 95 % intervals over examples. Each point has its own report in its folder.')}"


def _gates(point: Document) -> str:
    if not point["gates"]:
        return "–"
    missed = [gate["gate"] for gate in point["gates"] if not gate["passed"]]
    return f"✗ {', '.join(missed)}" if missed else "✓ passed"


def _stages_table(document: Document) -> str:
    """Return what the stages took, a row for each stage of the recipe."""
    rows = []
    for name in dict.fromkeys(stage["stage"] for stage in document["stages"]):
        group = [stage for stage in document["stages"] if stage["stage"] == name]
        seconds = [stage["seconds"] for stage in group if stage["seconds"] is not None]
        rows.append(
            [
                name,
                group[0]["verb"],
                str(len(group)),
                str(sum(stage["ran"] for stage in group)),
                console.duration(sum(seconds)),
                console.duration(max(seconds)) if seconds else "–",
            ]
        )
    columns = ["Stage", "Verb", "Different ones", "Ran now", "Work", "Longest"]
    return f"<h2>Stages</h2>\n{html_table(columns, rows, text=(1,))}"


def _machine(machine: Document) -> str:
    facts, versions = machine_facts(machine)
    return f"<h2>Machine</h2>\n{fact_table(facts | {'Versions': versions})}"
