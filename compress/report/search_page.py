"""The report of a search: one offline HTML page. All texts from documents are escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from compress.core import console, files
from compress.report.formatting import capitalized, metric_name, number
from compress.report.page import provenance_section
from compress.report.search_chart import search_chart
from compress.report.search_words import verdict_sentences
from compress.report.tables import TableCell, figure, html_table, note
from compress.results.search import CandidateRow, SearchDocument

REPORT = "report.html"
ABOUT = "Small numbers: 95 % intervals. At most: not exceeded with a probability of 90 %, by what was measured and expected."


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
        first, *others = (f"{capitalized(line)}." for line in verdict_sentences(judged, document["metric"], document["limit"]))
        lines += [f"<p>{escape(first)}</p>", *map(note, others)]
    return "\n".join(lines)


def _chart(document: SearchDocument) -> str:
    drawn = search_chart(document)
    if drawn is None:
        return ""
    config = {"displayModeBar": False, "responsive": True, "showTips": False}
    text = drawn.to_html(full_html=False, include_plotlyjs=True, div_id="chart-search", config=config)
    caption = (
        "Scores on validation, on which the answer was chosen; bars: 95 % intervals of the difference to the baseline. Open circles have "
        "no final form: their latency is predicted, and their intervals are in the table."
    )
    return figure(text, caption, wide=True)


def _tradeoffs(document: SearchDocument) -> str:
    """Return the table of what a little more or less would bring, next to what was asked for."""
    if not document["tradeoffs"]:
        return ""
    drop, latency = document["limit"]["max_drop"], document["limit"]["target_latency_ms"]
    unit, asked = ("ms", latency or 0.0) if drop is None else ("points", drop)
    timed = {row["candidate"] for row in document["candidates"] if row["speedup_ci95"] is not None}
    answer = document["answer"]
    entries = [(entry["limit"], entry["candidate"], entry["speedup"], entry["drop_points"]) for entry in document["tradeoffs"]]
    entries.append((asked, answer["candidate"], document["speedup"]["ratio"], answer["drop_points"] or 0.0))
    lines: list[list[TableCell]] = [
        [
            (f"{limit:g} {unit}", "asked for" if limit == asked else ""),
            (name, "" if name in timed else "not in its final form yet"),
            (f"{speedup:.1f}×", "" if name in timed else "predicted"),
            number(points, signed=True),
        ]
        for limit, name, speedup, points in sorted(entries)
    ]
    little = "A little more or less" if drop is None else "Half a point more or less"
    table = html_table(["Limit", "Best that was tried", "Speedup", "Points lost on validation"], lines, text=(1,))
    return f"<h2>{little}</h2>\n{table}"


def _candidates(document: SearchDocument) -> str:
    columns = [
        "Candidate",
        f"{capitalized(metric_name(document['metric']))} × 100",
        "Points lost",
        "At most",
        "ms",
        "Speedup",
        "MB",
        "Took",
        "Verdict",
    ]
    lines = [_candidate_row(row) for row in document["candidates"]]
    return f"<h2>Candidates</h2>\n{html_table(columns, lines, text=(8,))}\n{note(ABOUT)}"


def _candidate_row(row: CandidateRow) -> list[TableCell]:
    drop, speed = row["drop_ci95"], row["speedup_ci95"]
    return [
        (row["candidate"], row["model"]),
        "–" if row["score"] is None else f"{100 * row['score']:.2f}",
        ("–", "") if row["drop_points"] is None or drop is None else (f"{row['drop_points']:+.2f}", f"{drop[0]:+.1f} to {drop[1]:+.1f}"),
        number(row["corrected_points"], signed=True),
        number(row["latency_ms"]),
        ("–", "") if row["speedup"] is None else (f"{row['speedup']:.1f}×", f"{speed[0]:.1f} to {speed[1]:.1f}" if speed else "predicted"),
        number(row["size_mb"], 1),
        console.duration(row["seconds"]) if row["seconds"] else "–",
        (row["verdict"], row["why"]),
    ]


def _log(document: SearchDocument) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in document["log"])
    return f"<h2>How it was found</h2>\n<ul>{items}</ul>"
