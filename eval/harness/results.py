"""Write results for people: one table a task, and what is needed to read it."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
NOTE = (
    "Accuracy with its 95 % interval and the p value of the paired test against the first row; p50 of the latency in "
    "milliseconds, in brackets the speedup over the first row with its 95 % interval (the median of round-by-round "
    "ratios). bB sS tT: B texts of S tokens on T threads. How this was measured: [protocol.md](protocol.md)."
)


def page(document: Document) -> str:
    """Return the Markdown page of a suite's results (`run.py` describes the document)."""
    suite, machine = document["suite"], document["machine"]
    lines = ["# Results", "", "Made by `eval/run.py`; do not edit.", ""]
    if document["quick"]:
        lines += ["**A quick run: it shows that everything runs. Its numbers are no results.**", ""]
    described = f" ({suite['description']})" if suite["description"] else ""
    system = f"{machine['system']}, Python {machine['python']}, compress {machine['compress']}, governor {machine['governor'] or 'unknown'}"
    lines += [
        NOTE,
        "",
        f"- Suite `{suite['name']}`{described}, {document['created']}, {document['seconds'] / 60:.0f} minutes",
        f"- {machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instruction_sets'])}), {machine['memory_gib']} GiB",
        f"- {system}",
    ]
    for table in document["tables"]:
        lines += ["", f"## {table['model']}, {table['task']}", "", *task_table(table)]
    return "\n".join([*lines, "", "## Versions", "", *versions(document["tables"]), ""])


def task_table(table: Document) -> list[str]:
    """Return the lines of one task's table, slower and failed candidates among them."""
    rows = table["candidates"]
    first = rows[0]
    cells = [(cell["threads"], cell["batch_size"], cell["seq_len"]) for cell in first.get("cells", [])]
    heads = [f"b{batch} s{length} t{threads}" for threads, batch, length in cells]
    metric = table["main_metric"]
    lines = [f"{metric} on {first['split']}, n = {first['n']}; {_rounds(first)} rounds a cell.", ""]
    lines += [_line(["candidate", f"{metric} (p)", "MB", *heads]), _line(["---", "--:", "--:", *["--:"] * len(heads)])]
    for row in rows:
        if "reason" in row:
            lines.append(_line([row["name"], f"not measured: {_plain(row['reason'])}", *[""] * (len(heads) + 1)]))
        else:
            timed = {(cell["threads"], cell["batch_size"], cell["seq_len"]): cell for cell in row["cells"]}
            lines.append(_line([row["name"], _accuracy(row, metric), f"{row['size_mb']:.1f}", *[_latency(timed[cell]) for cell in cells]]))
    controls = {(cell["threads"], cell["batch_size"], cell["seq_len"]): cell for cell in table["control"]}
    lines.append(_line(["A/A control", "", "", *[_latency(controls[cell]) if cell in controls else "" for cell in cells]]))
    return lines


def versions(tables: list[Document]) -> list[str]:
    """Return the versions that matter, one line a tool; the JSON has those of every package."""
    shown = ("torch", "transformers", "onnxruntime", "onnx", "optimum", "optimum-onnx", "openvino", "nncf", "numpy")
    lines: dict[str, str] = {}
    for row in (row for table in tables for row in table["candidates"] if "versions" in row):
        versions = {name.lower(): version for name, version in row["versions"].items()}
        listed = ", ".join(f"{name} {versions[name]}" for name in ("python", *shown) if name in versions)
        lines.setdefault(row["peer"], f"- {row['peer']}: {listed}")
    return list(lines.values())


def _accuracy(row: Document, metric: str) -> str:
    low, high = row["ci95"][metric]
    text = f"{100 * row['metrics'][metric]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    if "vs_first" not in row:
        return text
    p_value = row["vs_first"]["p_value"]
    return f"{text} ({'<0.01' if p_value < 0.01 else f'{p_value:.2f}'})"


def _latency(cell: Document) -> str:
    low, high = cell["speedup"]["ci95"]
    return f"{cell['latency_ms']['p50']:.2f} ({cell['speedup']['ratio']:.2f}x [{low:.2f}, {high:.2f}])"


def _rounds(row: Document) -> str:
    counts = [cell["rounds"] for cell in row.get("cells", [])] or [0]
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:200]


def _line(values: list[str]) -> str:
    return f"| {' | '.join(values)} |"
