"""The report page: a run's documents in, one offline HTML text out. Whatever comes from a document is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from compress import console
from compress.report import Document, Run, interval, is_interval, metric_of, number, p_value, runtime_of, summarize, verdict
from compress.report.figures import draw, layer_shapes

LAYERS_ABREAST = 12  # columns of a table that fit on paper
OPEN_ROWS = 24  # longer tables of details are folded
Cell = str | tuple[str, str]  # a tuple's second text is written small, below the first


def page(run: Run) -> str:
    """Return the whole page."""
    template = Template(Path(__file__).with_name("template.html").read_text(encoding="utf-8"))
    rows = summarize(run)
    charts, last_bench = draw(run, rows), next(reversed(run.measured("bench")), None)
    sections = [
        header(run.manifest),
        "".join(
            f'<p class="{kind}">{escape(sentence)}</p>'
            for kind, sentence in zip(("verdict", "note", "note"), verdict(run, rows), strict=False)
        ),
        gates(run.manifest.get("gates") or []),
        overview(run, rows),
        comparison(rows, charts),
        *(accuracy(name, stage) for name, stage in run.made_by("eval").items()),
        *(latency(name, stage, charts.get("latencies", "") if stage is last_bench else "") for name, stage in run.made_by("bench").items()),
        layers_kept(run, charts),
        stages(run),
        provenance(run.manifest),
        recipe(run.recipe),
    ]
    return template.substitute(title=escape(title_of(run.manifest)), body="\n".join(section for section in sections if section))


# Tables


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], text: Sequence[int] = ()) -> str:
    """Return a table; the columns named in `text` are set to the left, like the first one, and may wrap."""

    def attribute(position: int) -> str:
        return ' class="text"' if position in text else ""

    def written(cell: Cell) -> str:
        if isinstance(cell, str):
            return escape(cell)
        return escape(cell[0]) + (f"<small>{escape(cell[1])}</small>" if cell[1] else "")

    head = "".join(f'<th scope="col"{attribute(position)}>{escape(column)}</th>' for position, column in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(f'<td{attribute(position)}>{written(cell)}</td>' for position, cell in enumerate(row))}</tr>\n" for row in rows
    )
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'


def without_empty(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> tuple[list[str], list[list[Cell]]]:
    """Drop the columns in which every row has a dash."""
    used = [position for position in range(len(columns)) if any(row[position] not in {"–", ("–", "")} for row in rows)]
    return [columns[position] for position in used], [[row[position] for position in used] for row in rows]


def pairs(facts: dict[str, str]) -> str:
    """Return a table of two columns without a head."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>\n" for name, value in facts.items())
    return f'<table class="pairs"><tbody>\n{body}</tbody></table>'


def figure(chart: str | None, caption: str, wide: bool = False) -> str:
    """Return a chart with its caption, or nothing where there is no chart."""
    if not chart:
        return ""
    return f'<figure><div class="{"wide" if wide else "chart"}">{chart}</div><figcaption>{escape(caption)}</figcaption></figure>'


# The top of the page


def title_of(manifest: Document) -> str:
    """Return the recipe's name."""
    return str(manifest.get("recipe") or "report")


def header(manifest: Document) -> str:
    """Return the title and a line that says what was run, when and where."""
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


def gates(found: Sequence[Document]) -> str:
    """Return the gates with their verdicts, or nothing where the recipe sets none."""
    items = []
    for gate in found:
        passed = bool(gate.get("passed"))
        bound = "at most" if str(gate.get("gate", "")).startswith("max") else "at least"
        text = f"gate {gate.get('gate')}: {bound} {gate.get('limit'):g}, measured {number(gate.get('measured'))} ({gate.get('where', '')})"
        items.append(f'<li class="{"passed" if passed else "missed"}"><b>{"✓ passed" if passed else "✗ missed"}</b> {escape(text)}</li>')
    return f'<ul class="gates">{"".join(items)}</ul>' if items else ""


def overview(run: Run, rows: Sequence[Document]) -> str:
    """Return the summary table."""
    if not rows:
        return ""
    columns = [
        "Model",
        "Runs on",
        f"{metric_of(run).capitalize()} × 100",
        "Change, points",
        "p",
        "p50, ms",
        "Speedup",
        "Over ONNX fp32",
        "MB",
        "Parameters",
    ]
    lines = [
        [
            (row["model"], row["verb"] or ""),
            runtime_of(row) or "–",
            (number(None if row["accuracy"] is None else 100 * row["accuracy"]), interval(row["ci95"], 1, 100)),
            (number(row["delta_points"], signed=True), interval(row["delta_ci95"], 1, signed=True)),
            p_value(row["p_value"]),
            number(row["p50_ms"]),
            _ratio(row["speedup"], row["model"]),
            _ratio(row["speedup_vs_onnx"], row["model"]),
            number(row["size_mb"], 1),
            "–" if row["params"] is None else f"{row['params'] / 1e6:.2f} M",
        ]
        for row in rows
    ]
    runs_on = (1,) if any(line[1] != "–" for line in lines) else ()
    note = '<p class="note">Small figures are 95 % intervals. A dash: not measured.</p>'
    return f"<h2>Summary</h2>\n{table(*without_empty(columns, lines), text=runs_on)}\n{note}"


def _ratio(speedup: Document | None, model: str) -> Cell:
    if not speedup or speedup.get("ratio") is None:
        return "–"
    if speedup.get("vs") == model:
        return ("1", "the baseline")
    return (f"{number(speedup['ratio'])}×", interval(speedup.get("ci95")))


# The charts, and the tables that hold the same figures for who cannot see them


def comparison(rows: Sequence[Document], charts: dict[str, str]) -> str:
    """Return the charts that compare models."""
    undrawn = [row["model"] for row in rows if row["accuracy"] is None or row["p50_ms"] is None]
    caption = "Up and down: 95 % interval of the metric. Across: from the median to the 90th percentile. Dotted: the best trade-offs."
    caption += f" Not drawn, for want of a metric or a latency: {', '.join(undrawn)}." if undrawn else ""
    step = "; step: over the model in the line above" if len(rows) > 2 else ""
    beside = figure(charts.get("speedups"), f"Speedup in the first cell of the benchmark, with its 95 % interval{step}.")
    beside += figure(charts.get("sizes"), "The weights alone, without tokenizer and config.")
    parts = [
        figure(charts.get("scatter"), caption, wide=True),
        figure(charts.get("accuracies"), "Overlapping intervals do not mean equal models: the change in the table is paired, and finer."),
        f'<div class="columns">{beside}</div>' if beside else "",
    ]
    title = "Accuracy against latency" if parts[0] else "Comparison"
    return f'<section class="charts"><h2>{title}</h2>\n{"".join(parts)}</section>' if any(parts) else ""


def folded(content: str, count: int, label: str) -> str:
    """Fold a long table."""
    return content if count <= OPEN_ROWS else f"<details><summary>{escape(label)}</summary>{content}</details>"


def accuracy(name: str, stage: Document) -> str:
    """Return the table of one evaluation: every metric, and the paired comparison with the first model."""
    results = stage.get("results") or []
    if not results:
        return ""
    metrics, first = list(results[0].get("metrics") or {}), results[0]["model"]
    columns = ["Model", *(f"{metric.replace('_', ' ').capitalize()} × 100" for metric in metrics)]
    compared = any(entry.get("vs_first") for entry in results)
    lines: list[list[Cell]] = []
    for entry in results:
        scores, bounds, against = entry.get("metrics") or {}, entry.get("ci95") or {}, entry.get("vs_first") or {}
        line: list[Cell] = [entry["model"]]
        line += [(number(_times_100(scores.get(metric))), interval(bounds.get(metric), 1, 100)) for metric in metrics]
        if compared:
            line += [
                number(_times_100(against.get("delta")), signed=True),
                interval(against.get("ci95"), 2, 100, signed=True) or "–",
                p_value(against.get("p_value")),
            ]
        lines.append(line)
    columns += ["Change, points", "95 % interval", "p"] if compared else []
    note = f"{stage.get('task')}, split {stage.get('split')}, n = {stage.get('n')}."
    if compared:
        metric = str(stage.get("main_metric")).replace("_", " ")
        note += f" Changes of {metric} against {first}, on the very same examples; an interval that holds zero shows no difference."
    return f'<h2>Accuracy: {escape(name)}</h2>\n<p class="note">{escape(note)}</p>\n{table(columns, lines)}'


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def latency(name: str, stage: Document, chart: str) -> str:
    """Return the chart and the table of one benchmark, with what its A/A control says."""
    results = stage.get("results") or []
    if not results:
        return ""
    columns = [
        "Model",
        "Threads",
        "Batch",
        "Length",
        "p50, ms",
        "p90",
        "p99",
        "Mean",
        "Per second",
        "Peak MB",
        "Speedup",
        "Over ONNX fp32",
        "Rounds",
    ]
    lines: list[list[Cell]] = []
    for entry in results:
        times = entry.get("latency_ms") or {}
        line: list[Cell] = [entry["model"], *(str(entry.get(key, "–")) for key in ("threads", "batch_size", "seq_len"))]
        line += [number(times.get(key)) for key in ("p50", "p90", "p99", "mean")]
        line += [number(entry.get("throughput_per_s"), 1), number(entry.get("peak_rss_mb"), 0)]
        line += [_ratio(entry.get(key), entry["model"]) for key in ("speedup", "speedup_vs_onnx")]
        lines.append([*line, str(entry.get("rounds", "–"))])
    note = control(stage.get("control") or [], results[0]["model"])
    return "\n".join(
        [
            f"<h2>Latency: {escape(name)}</h2>",
            f'<p class="note">{escape(note)}</p>' if note else "",
            figure(chart, "Median latency in every cell; shorter is faster.", wide=True),
            folded(table(*without_empty(columns, lines)), len(lines), f"all {len(lines)} measurements"),
        ]
    )


def control(found: Sequence[Document], model: str) -> str:
    """Say what the same model, timed against itself, shows of the machine's noise."""
    intervals = [entry["ci95"] for entry in found if is_interval(entry.get("ci95"))]
    if not intervals:
        return ""
    floor = 100 * max(abs(bound - 1) for bounds in intervals for bound in bounds)
    ratios = ", ".join(number(entry.get("ratio"), 3) for entry in found)
    told = f"A/A control: {model} timed against itself gave a ratio of {ratios}. Differences below {floor:.1f} % are noise on this machine."
    quiet = all(low <= 1 <= high for low, high in intervals)
    return (
        told if quiet else f"{told} A ratio of 1 lies outside an interval: the machine was not quiet, so read small differences with care."
    )


def layers_kept(run: Run, charts: dict[str, str]) -> str:
    """Return the charts and the table of heads and FFN neurons, where a model was cut."""
    kept, before = layer_shapes(run)
    if not kept:
        return ""
    had = before or [{}] * len(kept)

    def cell(layer: Document, old: Document, key: str) -> Cell:
        return (str(layer.get(key)), f"of {old[key]}" if key in old else "")

    tables = ""
    for start in range(0, len(kept), LAYERS_ABREAST):
        part = range(start, min(start + LAYERS_ABREAST, len(kept)))
        lines = [
            [word, *(cell(kept[layer], had[layer], key) for layer in part)] for key, word in (("heads", "Heads"), ("ffn", "FFN neurons"))
        ]
        tables += table(["Layer", *(str(layer + 1) for layer in part)], lines)
    grey = "; grey: before" if before else ""
    drawn = figure(charts.get("heads"), f"Attention heads kept in each layer{grey}.")
    drawn += figure(charts.get("ffn"), f"FFN neurons kept in each layer{grey}.")
    return f'<h2>What is left of each layer</h2>\n<div class="columns">{drawn}</div>\n{tables}'


# How it was made


def stages(run: Run) -> str:
    """Return the table of the stages."""
    lines = [
        [
            name,
            stage.get("verb", "–"),
            ", ".join(stage.get("inputs") or {}) or "–",
            outcome(stage) or "–",
            console.duration(stage["seconds"]) if stage.get("seconds") is not None else "–",
            str(stage.get("digest") or "–")[:12],
        ]
        for name, stage in run.stages.items()
    ]
    return f"<h2>Stages</h2>\n{table(['Stage', 'Verb', 'From', 'Outcome', 'Took', 'Digest'], lines, text=(1, 2, 3))}"


def outcome(stage: Document) -> str:
    """Say in a few words what came out of a stage."""
    told = []
    verification, validation = stage.get("verification") or {}, (stage.get("metrics") or {}).get("validation") or {}
    if verification.get("max_abs") is not None:
        told.append(f"logits within {verification['max_abs']:.2g} of {verification.get('against')}")
    score = next((key for key in validation if key not in {"n", "before", "float", "drop_points"}), None)
    if score and validation[score] is not None:
        before = validation.get("before", validation.get("float"))
        told.append(
            f"validation {score.replace('_', ' ')} {number(100 * validation[score])}"
            + (f" (before: {number(100 * before)})" if before else "")
        )
    if stage.get("measured_speedup"):
        told.append(f"measured {number(stage['measured_speedup'])}× faster")
    if stage.get("results"):
        told.append(f"{len({entry['model'] for entry in stage['results']})} models")
    return "; ".join(told)


def provenance(manifest: Document) -> str:
    """Return the facts about machine, code, data and model."""
    machine, model, data = (manifest.get(key) or {} for key in ("machine", "model", "data"))
    names = {"cpu": "Processor", "instruction_sets": "Instruction sets", "cores": "Cores", "governor": "Frequency governor",
             "memory_gib": "Memory, GiB", "system": "System"}  # fmt: skip
    seeds = manifest.get("seeds") or {}
    same = len(set(seeds.values())) == 1
    origin = {
        "Recipe": title_of(manifest),
        "Written": manifest.get("created"),
        "Git commit": manifest.get("git_commit") or "none: an installed package, or no commit yet",
        "Model": model.get("reference"),
        "Model's digest": model.get("digest"),
        "Task": data.get("task"),
        "Data's fingerprint": data.get("fingerprint"),
        "Seeds": f"{next(iter(seeds.values()))} in every stage" if same else ", ".join(f"{name} {seed}" for name, seed in seeds.items()),
    }
    facts = {
        word: ", ".join(map(str, value)) if isinstance(value, list) else value for key, word in names.items() if (value := machine.get(key))
    }
    origin["Versions"] = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in names)
    told = {title: {name: str(value) for name, value in rows.items() if value} for title, rows in (("Machine", facts), ("Origin", origin))}
    tables = "".join(f"<div><h3>{title}</h3>\n{pairs(rows)}</div>\n" for title, rows in told.items() if rows)
    return f'<h2>Provenance</h2>\n<div class="columns">{tables}</div>'


def recipe(text: str) -> str:
    """Return the resolved recipe, folded."""
    if not text:
        return ""
    return f"<h2>Recipe</h2>\n<details><summary>every default written out</summary><pre>{escape(text)}</pre></details>"
