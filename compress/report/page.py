"""The report page: one offline HTML text from a run's documents. All texts from documents are escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from compress.core import console
from compress.report.charts import draw_charts
from compress.report.error_section import error_section
from compress.report.formatting import capitalized, interval_text, metric_name, number, p_value, points_name, runtime_text, times_100
from compress.report.layer_shapes import layer_shapes
from compress.report.measurement_sections import accuracy_section, comparison_section, latency_section, speedup_cell, waterfall_section
from compress.report.run_folder import Document, Run
from compress.report.summary import metric_of, summarize
from compress.report.tables import TableCell, fact_table, figure, html_table, note, without_empty
from compress.report.verdict import verdict

LEGEND = "Small numbers: 95 % intervals. Dash: not measured."
LAYERS_ABREAST = 12  # columns that fit on a printed page


def page(run: Run) -> str:
    """Return the whole page."""
    rows = summarize(run)
    charts, last_bench = draw_charts(run, rows), next(reversed(run.measured("bench")), None)
    sections = [
        page_header(run.manifest),
        "".join(
            f'<p class="{kind}">{escape(sentence)}</p>'
            for kind, sentence in zip(("verdict", "note", "note"), verdict(run, rows), strict=False)
        ),
        gate_list(run.manifest.get("gates") or []),
        overview(run, rows),
        comparison_section(rows, charts),
        waterfall_section(run, rows, charts),
        *(accuracy_section(name, stage) for name, stage in run.made_by("eval").items()),
        error_section(run),
        *(latency_section(name, stage, charts if stage is last_bench else {}) for name, stage in run.made_by("bench").items()),
        layer_section(run, charts),
        stage_table(run),
        provenance_section(run.manifest),
        recipe_section(run.recipe),
    ]
    return html_page(title_of(run.manifest), sections)


def html_page(title: str, sections: Sequence[str]) -> str:
    """Return a page with a title and sections; the sections are HTML, empty ones are left out."""
    template = Template(Path(__file__).with_name("template.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body="\n".join(section for section in sections if section))


# The top of the page


def title_of(manifest: Document) -> str:
    """Return the recipe's name."""
    return str(manifest.get("recipe") or "report")


def page_header(manifest: Document) -> str:
    """Return the title, and a line with model, task, machine and time."""
    task = (manifest.get("data") or {}).get("task")
    model = (manifest.get("model") or {}).get("reference")
    seconds = manifest.get("seconds")
    machine = manifest.get("machine") or {}
    facts = [
        f"model {model}" if model else "",
        f"task {task}" if task else "",
        str(machine.get("cpu") or ""),
        f"{manifest.get('created', '')[:16].replace('T', ' ')} UTC" if manifest.get("created") else "",
        f"ran for {console.duration(seconds)}" if seconds is not None and manifest.get("stages_run") else "",
    ]
    return f'<h1>{escape(title_of(manifest))}</h1>\n<p class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p>'


def gate_list(entries: Sequence[Document]) -> str:
    """Return the gates with their verdicts, or an empty text if the recipe sets none."""
    items = []
    for gate in entries:
        passed = bool(gate.get("passed"))
        bound = "at most" if str(gate.get("gate", "")).startswith("max") else "at least"
        where = re.sub(r"\bpoints of (\w+)", lambda match: points_name(match[1]), str(gate.get("where", "")))
        text = f"gate {gate.get('gate')}: {bound} {gate.get('limit'):g}, measured {number(gate.get('measured'))} ({where})"
        items.append(f'<li class="{"passed" if passed else "missed"}"><b>{"✓ passed" if passed else "✗ missed"}</b> {escape(text)}</li>')
    return f'<ul class="gates">{"".join(items)}</ul>' if items else ""


def overview(run: Run, rows: Sequence[Document]) -> str:
    """Return the summary table."""
    if not rows:
        return ""
    columns = [
        "Model",
        "Runs on",
        f"{capitalized(metric_name(metric_of(run)))} × 100",
        "Change, points",
        "p",
        "p50, ms",
        "Speedup",
        "vs ONNX fp32",
        "MB",
        "Parameters",
    ]
    lines = [
        [
            (row["model"], row["verb"] or ""),
            runtime_text(row) or "–",
            (number(times_100(row["accuracy"])), interval_text(row["ci95"], 1, 100)),
            (number(row["delta_points"], signed=True), interval_text(row["delta_ci95"], 1, signed=True)),
            p_value(row["p_value"]),
            number(row["p50_ms"]),
            speedup_cell(row["speedup"], row["model"]),
            speedup_cell(row["speedup_vs_onnx"], row["model"]),
            number(row["size_mb"], 1),
            "–" if row["params"] is None else f"{row['params'] / 1e6:.2f} M",
        ]
        for row in rows
    ]
    runs_on = (1,) if any(line[1] != "–" for line in lines) else ()
    return f"<h2>Summary</h2>\n{html_table(*without_empty(columns, lines), text=runs_on)}\n{note(LEGEND)}"


def layer_section(run: Run, charts: dict[str, str]) -> str:
    """Return the charts and the table of heads and FFN neurons, if a model was pruned."""
    kept, before = layer_shapes(run)
    if not kept:
        return ""
    had = before or [{}] * len(kept)

    def cell(layer: Document, old: Document, key: str) -> TableCell:
        return (str(layer.get(key)), f"of {old[key]}" if key in old else "")

    tables = ""
    for start in range(0, len(kept), LAYERS_ABREAST):
        part = range(start, min(start + LAYERS_ABREAST, len(kept)))
        lines = [
            [label, *(cell(kept[layer], had[layer], key) for layer in part)] for key, label in (("heads", "Heads"), ("ffn", "FFN neurons"))
        ]
        tables += html_table(["Layer", *(str(layer + 1) for layer in part)], lines)
    grey = "; grey: before pruning" if before else ""
    drawn = figure(charts.get("heads"), f"Attention heads kept in each layer{grey}.")
    drawn += figure(charts.get("ffn"), f"FFN neurons kept in each layer{grey}.")
    drawn += figure(charts.get("tokens"), "Share of a text's tokens that is left after each layer's attention.")
    way = figure(charts.get("curve"), "Intermediate models of pruning, on validation, before recovery.")
    return f'<h2>Layers after pruning</h2>\n<div class="columns">{drawn}</div>\n{tables}\n{way}'


# How it was made


def stage_table(run: Run) -> str:
    """Return the table of the stages."""
    lines = [
        [
            name,
            stage.get("verb", "–"),
            ", ".join(stage.get("inputs") or {}) or "–",
            stage_outcome(stage) or "–",
            console.duration(stage["seconds"]) if stage.get("seconds") is not None else "–",
            str(stage.get("digest") or "–")[:12],
        ]
        for name, stage in run.stages.items()
    ]
    return f"<h2>Stages</h2>\n{html_table(['Stage', 'Verb', 'From', 'Outcome', 'Took', 'Digest'], lines, text=(1, 2, 3))}"


def stage_outcome(stage: Document) -> str:
    """Return a stage's result in a few words."""
    parts = []
    verification, validation = stage.get("verification") or {}, (stage.get("metrics") or {}).get("validation") or {}
    if verification.get("max_abs") is not None:
        parts.append(f"logits within {verification['max_abs']:.2g} of {verification.get('against')}")
    score = next((key for key in validation if key not in {"n", "before", "float", "drop_points"}), None)
    if score and validation[score] is not None:
        before = validation.get("before", validation.get("float"))
        parts.append(
            f"validation {metric_name(score)} {number(100 * validation[score])}" + (f" (before: {number(100 * before)})" if before else "")
        )
    if stage.get("measured_speedup"):
        parts.append(f"measured {number(stage['measured_speedup'])}× faster")
    if stage.get("results"):
        parts.append(f"{len({entry['model'] for entry in stage['results']})} models")
    return "; ".join(parts)


def provenance_section(manifest: Document) -> str:
    """Return the facts about machine, code, data and model."""
    model, data = (manifest.get(key) or {} for key in ("model", "data"))
    facts, versions = machine_facts(manifest.get("machine") or {})
    seeds = manifest.get("seeds") or {}
    same = len(set(seeds.values())) == 1
    origin = {
        "Recipe": title_of(manifest),
        "Written": manifest.get("created"),
        "Git commit": manifest.get("git_commit") or "unknown (an installed package, or no commit yet)",
        "Model": model.get("reference"),
        "Model's digest": model.get("digest"),
        "Task": data.get("task"),
        "Data's fingerprint": data.get("fingerprint"),
        "Seeds": f"{next(iter(seeds.values()))} in every stage" if same else ", ".join(f"{name} {seed}" for name, seed in seeds.items()),
    }
    origin["Versions"] = versions
    sections = (("Machine", facts), ("Origin", origin))
    tables_of = {title: {name: str(value) for name, value in rows.items() if value} for title, rows in sections}
    tables = "".join(f"<div><h3>{title}</h3>\n{fact_table(rows)}</div>\n" for title, rows in tables_of.items() if rows)
    return f'<h2>Provenance</h2>\n<div class="columns">{tables}</div>'


def machine_facts(machine: Document) -> tuple[dict[str, str], str]:
    """Return the facts about a machine under their names, and the versions of its libraries as one text."""
    names = {"cpu": "Processor", "instruction_sets": "Instruction sets", "cores": "Cores", "governor": "Frequency governor",
             "memory_gib": "Memory, GiB", "system": "System"}  # fmt: skip
    facts = {
        word: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, word in names.items()
        if (value := machine.get(key))
    }
    return facts, ", ".join(f"{name} {value}" for name, value in machine.items() if name not in names)


def recipe_section(text: str) -> str:
    """Return the resolved recipe, folded."""
    if not text:
        return ""
    return f"<h2>Recipe</h2>\n<details><summary>with all defaults</summary><pre>{escape(text)}</pre></details>"
