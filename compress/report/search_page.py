"""The report of a search: one offline HTML page. All texts from documents are escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from compress.core import console, files
from compress.report.formatting import capitalized, metric_name, number, p_value
from compress.report.page import provenance_section
from compress.report.search_chart import search_chart
from compress.report.tables import TableCell, figure, html_table, note
from compress.results.search import CandidateRow, SearchDocument

REPORT = "report.html"


def write_search_report(document: SearchDocument, output: Path) -> Path:
    """Write `report.html` into the folder of a search, atomically; returns its path."""
    template = Template((Path(__file__).parent / "template.html").read_text(encoding="utf-8"))
    sections = [_header(document), _verdict(document), _chart(document), _tradeoffs(document), _candidates(document), _log(document)]
    sections.append(provenance_section({"machine": document["machine"], "data": {"task": document["task"]}}))
    title = f"{document['task']}: {document['objective']}"
    path = output / REPORT
    files.write_text(path, template.substitute(title=escape(title), body="\n".join(section for section in sections if section)))
    return path


def _header(document: SearchDocument) -> str:
    serving = document["serving"]
    facts = [
        f"task {document['task']}",
        f"batch {serving['batch_size']}, {serving['seq_len']} tokens, threads {serving['threads']}",
        str(document["machine"].get("cpu") or ""),
        f"{console.duration(document['spent_seconds'])} of {console.duration(document['budget_seconds'])}",
        f"{console.duration(document['reused_seconds'])} reused" if document["reused_seconds"] else "",
    ]
    return (
        f'<h1>{escape(capitalized(document["objective"]))}</h1>\n<p class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p>'
    )


def _verdict(document: SearchDocument) -> str:
    answer, judged = document["answer"], document["verdict"]
    ratio = document["speedup"]["ratio"]
    kept = "" if document["kept"] else "Nothing keeps the limit; the nearest is "
    text = f"{kept}{answer['candidate']}: {ratio:.1f} times as fast as the baseline in PyTorch fp32"
    lines = [f'<p class="verdict">{escape(text[:1].upper() + text[1:])}</p>']
    if judged is not None:
        low, high = judged["drop_ci95"]
        lost = judged["drop_points"] > -0.005  # else gained, with the interval turned round
        low, high = (low, high) if lost else (-high, -low)
        lines.append(
            f"<p>{escape(capitalized(metric_name(document['metric'])))} on {judged['split']} (n = {judged['n']:,}): "
            f"{100 * judged['score']:.2f}, baseline {100 * judged['baseline']:.2f}; {number(abs(judged['drop_points']))} points "
            f"{'lost' if lost else 'gained'} [{low:+.1f}, {high:+.1f}], p = {escape(p_value(judged['p_value']))}.</p>"
        )
        lines.append(note(_chosen(judged["choices"], judged["validation_drop_points"], judged["flattery_points"])))
    return "\n".join(lines)


def _chosen(choices: int, points: float, flattery: float) -> str:
    """Return what validation said, and how far to believe it."""
    said = f"{number(points, signed=True)} points lost"
    if choices < 2:
        return f"Validation said {said}. It was the only candidate that was measured, so nothing was chosen."
    return (
        f"Validation, on which it was chosen among {choices} candidates, said {said}. "
        f"The choice of the best of as many equal models flatters by up to {flattery:.2f} points."
    )


def _chart(document: SearchDocument) -> str:
    drawn = search_chart(document)
    if drawn is None:
        return ""
    config = {"displayModeBar": False, "responsive": True, "showTips": False}
    text = drawn.to_html(full_html=False, include_plotlyjs=True, div_id="chart-search", config=config)
    caption = "Scores on validation; bars: 95 % intervals of the difference to the baseline. Open circles: latency predicted, not timed."
    return figure(text, caption, wide=True)


def _tradeoffs(document: SearchDocument) -> str:
    if not document["tradeoffs"]:
        return ""
    unit = "ms" if document["limit"]["max_drop"] is None else "points"
    lines: list[list[TableCell]] = [
        [f"{entry['limit']:g} {unit}", entry["candidate"], f"{entry['speedup']:.1f}×", number(entry["drop_points"], signed=True)]
        for entry in document["tradeoffs"]
    ]
    return f"<h2>With another limit</h2>\n{html_table(['Limit', 'Best that was tried', 'Speedup', 'Points lost'], lines, text=(1,))}"


def _candidates(document: SearchDocument) -> str:
    columns = [
        "Candidate",
        f"{capitalized(metric_name(document['metric']))} × 100",
        "Points lost",
        "ms",
        "Speedup",
        "MB",
        "Took",
        "Verdict",
    ]
    lines = [_candidate_row(row) for row in document["candidates"]]
    return f"<h2>Candidates</h2>\n{html_table(columns, lines, text=(7,))}\n{note('Small numbers: 95 % intervals.')}"


def _candidate_row(row: CandidateRow) -> list[TableCell]:
    drop, speed = row["drop_ci95"], row["speedup_ci95"]
    return [
        (row["candidate"], row["model"]),
        "–" if row["score"] is None else f"{100 * row['score']:.2f}",
        ("–", "") if row["drop_points"] is None or drop is None else (f"{row['drop_points']:+.2f}", f"{drop[0]:+.1f} to {drop[1]:+.1f}"),
        number(row["latency_ms"]),
        ("–", "") if row["speedup"] is None else (f"{row['speedup']:.1f}×", f"{speed[0]:.1f} to {speed[1]:.1f}" if speed else "predicted"),
        number(row["size_mb"], 1),
        console.duration(row["seconds"]) if row["seconds"] else "–",
        (row["verdict"], row["why"]),
    ]


def _log(document: SearchDocument) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in document["log"])
    return f"<h2>How it was found</h2>\n<ul>{items}</ul>"
