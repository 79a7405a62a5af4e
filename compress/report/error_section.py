"""The section about errors: the delivered model class by class, and where it differs from the first model."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from compress.report.formatting import number, times_100
from compress.report.run_folder import Document, Run
from compress.report.tables import Cell, folded, html_table, note

SHOWN = 30  # examples
OPEN = 8  # examples beyond this are folded
TEXT = 200  # characters of a text
UPRIGHT = 8  # columns of a confusion matrix beyond this have their names turned


def error_section(run: Run) -> str:
    """Return the section, or nothing where the last evaluation recorded neither classes nor disagreements."""
    stage = next(reversed(run.measured("eval")), None)
    if stage is None:
        return ""
    results = {entry["model"]: entry for entry in stage["results"]}
    first = stage["results"][0]["model"]
    name = run.delivered if run.delivered and run.delivered in results else stage["results"][-1]["model"]
    classes, counts = results[name].get("per_class") or [], results[name].get("confusion") or []
    parts = [class_table(classes), confusion_table(classes, counts), disagreement_table(run.disagreements, first, name, stage)]
    return f"<h2>Errors: {escape(name)}</h2>\n" + "\n".join(part for part in parts if part) if any(parts) else ""


def class_table(classes: Sequence[Document]) -> str:
    """Return the table of precision, recall and F1, a line a label."""
    if not classes:
        return ""
    lines: list[list[Cell]] = [
        [
            str(entry.get("label")),
            *(number(times_100(entry.get(key)), 1) for key in ("precision", "recall", "f1")),
            str(entry.get("n", "–")),
        ]
        for entry in classes
    ]
    columns = ["Label", "Precision × 100", "Recall × 100", "F1 × 100", "n"]
    return folded(html_table(columns, lines), len(lines), f"precision, recall and F1 of all {len(lines)} labels")


def confusion_table(classes: Sequence[Document], counts: Sequence[Sequence[int]]) -> str:
    """Return the confusion matrix, shaded by the share of its line: blue where right, orange where wrong."""
    if not counts or len(counts) != len(classes):
        return ""
    names = [str(entry.get("label")) for entry in classes]
    turned = " turned" if len(names) > UPRIGHT else ""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    body = ""
    for row, (name, line) in enumerate(zip(names, counts, strict=True)):
        total = sum(line)
        cells = "".join(
            f"<td{_shade(count / total if total else 0, right=row == column)}>{count}</td>" for column, count in enumerate(line)
        )
        body += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>\n'
    meant = note("Lines: the true label. Columns: what the model said. Shades: the share of the line.")
    return (
        f'<h3>Confusion</h3>\n{meant}\n<div class="scroll"><table class="confusion{turned}">\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>"
    )


def _shade(share: float, right: bool) -> str:
    if not share:
        return ' class="none"'
    color = "47, 109, 179" if right else "217, 102, 43"
    return f' style="background: rgba({color}, {0.08 + 0.5 * share**0.5:.2f})"'


def disagreement_table(examples: Sequence[Document], first: str, name: str, stage: Document) -> str:
    """Return the table of examples on which the first and the delivered model disagree, with the count of who is right."""
    found = [entry for entry in examples if {first, name} <= set(entry.get("answers") or {}) and _differ(entry, first, name)]
    if not found:
        return ""
    values = [abs(entry["answers"][first] - entry["answers"][name]) for entry in found if _is_value(entry["answers"][first])]
    if len(values) == len(found):
        found = [entry for _, entry in sorted(zip(values, found, strict=True), key=lambda pair: -pair[0])]
        told = f"The largest differences first, between {first} and {name}."
    else:
        told = f"{first} and {name} disagree on {len(found)} of {stage.get('n')} examples: {_who_is_right(found, first, name)}."
    shown, tagged = found[:SHOWN], all(_has_tags(entry) for entry in found)
    told += f" {SHOWN} of them are shown." if len(found) > SHOWN else ""
    told += " Only the words whose tags differ are given." if tagged else ""
    lines = [_line(entry, first, name, tagged) for entry in shown]
    columns = ["Row", "Text", "Gold", first, name]
    parts = [html_table(columns, part, text=(1, 2, 3, 4), kind="examples") for part in (lines[:OPEN], lines[OPEN:]) if part]
    rest = folded(parts[1], len(lines), f"{len(lines) - OPEN} more", OPEN) if len(parts) > 1 else ""
    return f"<h3>Where {escape(first)} and {escape(name)} disagree</h3>\n{note(told)}\n{parts[0]}{rest}"


def _is_value(answer: Any) -> bool:
    return isinstance(answer, int | float)


def _differ(entry: Document, first: str, name: str) -> bool:
    one, other = entry["answers"][first], entry["answers"][name]
    if isinstance(one, str) and isinstance(other, str) and isinstance(entry.get("gold"), list):  # spans, as SQuAD compares them
        from compress.data.squad import normalize_answer

        return normalize_answer(one) != normalize_answer(other)
    return one != other


def _who_is_right(found: Sequence[Document], first: str, name: str) -> str:
    wrong = [set(entry.get("wrong") or []) & {first, name} for entry in found]
    counts = {f"only {first} is right on": wrong.count({name}), f"only {name} on": wrong.count({first})}
    neither = wrong.count({first, name})
    both = len(found) - sum(counts.values()) - neither  # two spans may both be among the gold's
    told = [f"{words} {count}" for words, count in counts.items()] + [f"neither on {neither}"]
    return ", ".join(told + ([f"both on {both}"] if both else []))


def _has_tags(entry: Document) -> bool:
    """Tell whether the answers are a tag a word, which a list as long as the sentence shows."""
    sides = [entry.get("gold"), *entry["answers"].values()]
    return isinstance(entry.get("text"), str) and all(isinstance(side, list) and len(side) == len(_words(entry)) for side in sides)


def _words(entry: Document) -> list[str]:
    return str(entry["text"]).split(" ")


def _line(entry: Document, first: str, name: str, tagged: bool) -> list[Cell]:
    gold, wrong = entry.get("gold"), entry.get("wrong") or []
    sides = [gold, entry["answers"][first], entry["answers"][name]]
    if tagged:
        picked = [place for place, (one, other) in enumerate(zip(sides[1], sides[2], strict=True)) if one != other]
        told = [" ".join(f"{_words(entry)[place]}/{side[place] or '–'}" for place in picked) for side in sides]
    else:
        told = [_answer(side) for side in sides]
        told[0] = "no answer" if gold == [] and isinstance(sides[1], str) else told[0]
    marks = ["wrong" if model in wrong else "right" for model in (first, name)]
    answers: list[Cell] = [(cut(text), f"{'✗' if mark == 'wrong' else '✓'} {mark}") for text, mark in zip(told[1:], marks, strict=True)]
    return [str(entry.get("row", "–")), excerpt(entry.get("text"), gold), cut(told[0]), *answers]


def _answer(side: Any) -> str:
    """Write a gold or an answer: a label, labels, a number, or one of several texts."""
    if isinstance(side, list):
        return ", ".join(dict.fromkeys(str(item) for item in side)) or "none"
    if side is None:
        return "–"
    return number(side) if _is_value(side) else str(side) or "no answer"


def cut(text: str, limit: int = TEXT) -> str:
    """Cut a text at `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def excerpt(text: Any, gold: Any) -> str:
    """Cut a text, or a pair of them, of which the second (a context) may begin later, before the gold's own words."""
    if not isinstance(text, list):
        return cut(str(text))
    first, second = cut(str(text[0]), TEXT // 2), " ".join(str(part) for part in text[1:])
    sought = str(gold[0]) if isinstance(gold, list) and gold else ""
    room = TEXT - len(first) - 3
    start = second.find(sought) if sought else 0
    if len(second) > room and start > room // 2:
        second = "…" + second[max(0, min(start - room // 3, len(second) - room + 1)) :]
    return f"{first} | {cut(second, room)}"
