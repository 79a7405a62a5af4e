"""The section about errors: scores per class, and the examples on which the delivered and the first model disagree."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TypeGuard

from compress.report.formatting import number, times_100
from compress.report.run_folder import Document, Run
from compress.report.tables import TableCell, folded, html_table, note

SHOWN = 30  # examples
OPEN = 8  # more examples are folded
TEXT = 200  # characters of a text
UPRIGHT = 8  # column names of a larger confusion matrix are rotated


def error_section(run: Run) -> str:
    """Return the section; empty if the last evaluation recorded neither classes nor disagreements."""
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
    """Return the table of precision, recall and F1, one row per label."""
    if not classes:
        return ""
    lines: list[list[TableCell]] = [
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
    """Return the confusion matrix, shaded by the share of the row: blue if correct, orange if wrong."""
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
    caption = note("Rows: true label. Columns: predicted label. Shade: share of the row.")
    return (
        f'<h3>Confusion</h3>\n{caption}\n<div class="scroll"><table class="confusion{turned}">\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>"
    )


def _shade(share: float, right: bool) -> str:
    if not share:
        return ' class="none"'
    color = "47, 109, 179" if right else "217, 102, 43"
    return f' style="background: rgba({color}, {0.08 + 0.5 * share**0.5:.2f})"'


def disagreement_table(examples: Sequence[Document], first: str, name: str, stage: Document) -> str:
    """Return the table of examples on which the first and the delivered model disagree, with the count of who is right."""
    differing = [entry for entry in examples if {first, name} <= set(entry.get("predictions") or {}) and _differ(entry, first, name)]
    if not differing:
        return ""
    values = [
        abs(entry["predictions"][first] - entry["predictions"][name]) for entry in differing if _is_value(entry["predictions"][first])
    ]
    if len(values) == len(differing):
        differing = [entry for _, entry in sorted(zip(values, differing, strict=True), key=lambda pair: -pair[0])]
        summary = f"Largest differences between {first} and {name} first."
    else:
        summary = f"{first} and {name} disagree on {len(differing)} of {stage.get('n')} examples: {_who_is_right(differing, first, name)}."
    shown, tagged = differing[:SHOWN], all(_has_tags(entry) for entry in differing)
    summary += f" The first {SHOWN} are shown." if len(differing) > SHOWN else ""
    summary += " Only the words whose tags differ are listed." if tagged else ""
    lines = [_line(entry, first, name, tagged) for entry in shown]
    columns = ["Row", "Text", "True label", first, name]
    parts = [html_table(columns, part, text=(1, 2, 3, 4), kind="examples") for part in (lines[:OPEN], lines[OPEN:]) if part]
    rest = folded(parts[1], len(lines), f"{len(lines) - OPEN} more", OPEN) if len(parts) > 1 else ""
    return f"<h3>Where {escape(first)} and {escape(name)} disagree</h3>\n{note(summary)}\n{parts[0]}{rest}"


def _is_value(prediction: object) -> TypeGuard[int | float]:
    return isinstance(prediction, int | float)


def _differ(entry: Document, first: str, name: str) -> bool:
    one, other = entry["predictions"][first], entry["predictions"][name]
    if isinstance(one, str) and isinstance(other, str) and isinstance(entry.get("expected"), list):  # spans, as SQuAD compares them
        from compress.data.squad import normalize_answer

        return normalize_answer(one) != normalize_answer(other)
    return one != other


def _who_is_right(examples: Sequence[Document], first: str, name: str) -> str:
    wrong = [set(entry.get("wrong") or []) & {first, name} for entry in examples]
    counts = {f"only {first} is right on": wrong.count({name}), f"only {name} on": wrong.count({first})}
    neither = wrong.count({first, name})
    both = len(examples) - sum(counts.values()) - neither  # two different spans may both be correct
    parts = [f"{text} {count}" for text, count in counts.items()] + [f"neither on {neither}"]
    return ", ".join(parts + ([f"both on {both}"] if both else []))


def _has_tags(entry: Document) -> bool:
    """Return whether the predictions are one tag per word: lists as long as the sentence."""
    sides = [entry.get("expected"), *entry["predictions"].values()]
    return isinstance(entry.get("text"), str) and all(isinstance(side, list) and len(side) == len(_words(entry)) for side in sides)


def _words(entry: Document) -> list[str]:
    return str(entry["text"]).split(" ")


def _line(entry: Document, first: str, name: str, tagged: bool) -> list[TableCell]:
    expected, wrong = entry.get("expected"), entry.get("wrong") or []
    sides = [expected, entry["predictions"][first], entry["predictions"][name]]
    if tagged:
        differing = [place for place, (one, other) in enumerate(zip(sides[1], sides[2], strict=True)) if one != other]
        texts = [" ".join(f"{_words(entry)[place]}/{side[place] or '–'}" for place in differing) for side in sides]
    else:
        texts = [_formatted(side) for side in sides]
        texts[0] = "no answer" if expected == [] and isinstance(sides[1], str) else texts[0]
    marks = ["wrong" if model in wrong else "right" for model in (first, name)]
    predictions: list[TableCell] = [
        (cut(text), f"{'✗' if mark == 'wrong' else '✓'} {mark}") for text, mark in zip(texts[1:], marks, strict=True)
    ]
    return [str(entry.get("row", "–")), excerpt(entry.get("text"), expected), cut(texts[0]), *predictions]


def _formatted(side: object) -> str:
    """Format a true label or a prediction: a label, labels, a number, or one of several texts."""
    if isinstance(side, list):
        return ", ".join(dict.fromkeys(str(item) for item in side)) or "none"
    if side is None:
        return "–"
    return number(side) if _is_value(side) else str(side) or "no answer"


def cut(text: str, limit: int = TEXT) -> str:
    """Cut a text at `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def excerpt(text: object, expected: object) -> str:
    """Cut a text or a text pair; the second text (a context) may start later, shortly before the true answer."""
    if not isinstance(text, list):
        return cut(str(text))
    first, second = cut(str(text[0]), TEXT // 2), " ".join(str(part) for part in text[1:])
    answer = str(expected[0]) if isinstance(expected, list) and expected else ""
    room = TEXT - len(first) - 3
    start = second.find(answer) if answer else 0
    if len(second) > room and start > room // 2:
        second = "…" + second[max(0, min(start - room // 3, len(second) - room + 1)) :]
    return f"{first} | {cut(second, room)}"
