"""The page's building blocks: tables, figures, folds. All texts are escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

OPEN_ROWS = 24  # longer tables are folded
TableCell = str | tuple[str, str]  # a tuple's second text is written small, below the first


def html_table(columns: Sequence[str], rows: Sequence[Sequence[TableCell]], text: Sequence[int] = (), kind: str = "") -> str:
    """Return a table.

    Args:
        columns: the head.
        rows: the cells.
        text: columns that are left-aligned, like the first one, and may wrap.
        kind: a CSS class; its cells carry the column names, for screens that stack the cells of a row.
    """

    def attribute(position: int, head: bool = False) -> str:
        label = f' data-label="{escape(columns[position])}"' if kind and not head else ""
        return (' class="text"' if position in text else "") + label

    head = "".join(f'<th scope="col"{attribute(position, head=True)}>{escape(column)}</th>' for position, column in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(f'<td{attribute(position)}>{_cell_html(cell)}</td>' for position, cell in enumerate(row))}</tr>\n" for row in rows
    )
    name = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{name}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'


def _cell_html(cell: TableCell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return escape(cell[0]) + (f"<small>{escape(cell[1])}</small>" if cell[1] else "")


def without_empty(columns: Sequence[str], rows: Sequence[Sequence[TableCell]]) -> tuple[list[str], list[list[TableCell]]]:
    """Drop the columns that have a dash in every row."""
    used = [position for position in range(len(columns)) if any(row[position] not in {"–", ("–", "")} for row in rows)]
    return [columns[position] for position in used], [[row[position] for position in used] for row in rows]


def fact_table(facts: dict[str, str]) -> str:
    """Return a table of two columns without a head."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>\n" for name, value in facts.items())
    return f'<table class="pairs"><tbody>\n{body}</tbody></table>'


def figure(chart: str | None, caption: str, wide: bool = False) -> str:
    """Return a chart with its caption, or an empty text if there is no chart."""
    if not chart:
        return ""
    return f'<figure><div class="{"wide" if wide else "chart"}">{chart}</div><figcaption>{escape(caption)}</figcaption></figure>'


def folded(content: str, count: int, label: str, limit: int = OPEN_ROWS) -> str:
    """Fold a table of more than `limit` rows."""
    return content if count <= limit else f"<details><summary>{escape(label)}</summary>{content}</details>"


def note(text: str) -> str:
    """Return a note in small print, or an empty text."""
    return f'<p class="note">{escape(text)}</p>' if text else ""
