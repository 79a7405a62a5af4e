"""Draw accuracy against latency of all candidates in eval/RESULTS.md: `python eval/picture.py`.

Writes docs/images/accuracy-latency.svg, which the README shows. The SVG brings its own background and follows the reader's
light or dark colour scheme.
"""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "eval" / "RESULTS.md"
PICTURE = ROOT / "docs" / "images" / "accuracy-latency.svg"
CELL = "b1 s32 t1"  # one text of 32 tokens on one thread

WIDTH = 920
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 58, 56  # margins in pixels
LINE = 17  # height of a label in pixels
SCALE = 34  # pixels of a point of accuracy
TICKS = (0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100)
CHARACTER = 6.3  # mean width of a label's character in pixels

NAMES = {  # names in the table that are clear only next to its other rows
    "compress int8-tuned": "compress int8, tuned",
    "compress 3x-int8-tuned": "compress pruned 3x, int8, tuned",
    "ONNX Runtime quantize_dynamic, its defaults": "ONNX Runtime quantize_dynamic",
}
STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; } .ours { fill: #0969da; } .ours-name { fill: #0969da; font-weight: 600; }
  .background { fill: #ffffff; } .grid { stroke: #d1d9e0; } .axis { stroke: #59636e; } .peer { fill: #818b98; }
  .interval { stroke-opacity: 0.35; stroke-width: 2; } line.ours { stroke: #0969da; } line.peer { stroke: #818b98; }
  .leader { stroke: #afb8c1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .ours, .ours-name { fill: #58a6ff; } .background { fill: #0d1117; } .grid { stroke: #2a313c; }
    .axis { stroke: #9198a1; } .peer { fill: #9198a1; } line.ours { stroke: #58a6ff; } line.peer { stroke: #9198a1; }
    .leader { stroke: #555e6a; }
  }
"""


@dataclass(frozen=True)
class Candidate:
    """One row of the table: accuracy and its interval in points, latency in milliseconds."""

    name: str
    accuracy: float
    low: float
    high: float
    latency: float

    @property
    def kind(self) -> str:
        """Return the style class: ours or a peer's."""
        return "ours" if self.name.startswith("compress ") else "peer"


def candidates(results: str, cell: str = CELL) -> list[Candidate]:
    """Return the rows of the first table of a results page, without the A/A control.

    Raises:
        ValueError: the page has no table with this cell.
    """
    rows = [[field.strip() for field in line.strip("| \n").split(" | ")] for line in results.splitlines() if line.startswith("| ")]
    header = next((row for row in rows if row[0] == "candidate" and cell in row), None)
    if header is None:
        raise ValueError(f"there is no table with a column {cell!r}")
    column = header.index(cell)
    result = []
    for row in rows[rows.index(header) + 1 :]:
        numbers = re.match(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", row[1]) if len(row) > column else None
        latency = re.match(r"[\d.]+", row[column]) if numbers else None
        if numbers and latency:
            accuracy, low, high = map(float, numbers.groups())
            result.append(Candidate(NAMES.get(row[0], row[0]), accuracy, low, high, float(latency[0])))
    return result


def draw(points: list[Candidate]) -> str:
    """Return the picture as an SVG document."""
    x_low, x_high = math.log(min(p.latency for p in points) / 1.25), math.log(max(p.latency for p in points) * 1.25)
    x = {p: LEFT + (math.log(p.latency) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT) for p in points}
    rows = {kind: label_rows({p: x[p] for p in points if p.kind == kind}) for kind in ("ours", "peer")}
    above, below = (LINE * (1 + max(row.values(), default=0)) for row in rows.values())
    low, high = min(p.low for p in points), max(p.high for p in points)
    height = TOP + above + SCALE * (high - low) + below + BOTTOM
    bottom, right = height - BOTTOM, WIDTH - RIGHT

    def y(accuracy: float) -> float:
        return TOP + above + SCALE * (high - accuracy)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img">',
        "<title>Accuracy against latency of compress and other tools</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="background" width="{WIDTH}" height="{height:.0f}" rx="6"/>',
        f'<text class="title" x="{LEFT}" y="26">MiniLM on SST-2: accuracy against latency (left is faster, up is more accurate)</text>',
        f'<text x="{LEFT}" y="45">one text of 32 tokens, one thread; vertical bars are 95 % intervals of the accuracy</text>',
    ]
    for tick in [tick for tick in TICKS if x_low < math.log(tick) < x_high]:
        place = LEFT + (math.log(tick) - x_low) / (x_high - x_low) * (right - LEFT)
        parts.append(f'<line class="grid" x1="{place:.1f}" y1="{TOP}" x2="{place:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<text x="{place:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in range(math.ceil(low), math.floor(high) + 1):
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y(tick):.1f}" x2="{right}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    parts += [
        f'<line class="axis" x1="{LEFT}" y1="{bottom:.1f}" x2="{right}" y2="{bottom:.1f}"/>',
        f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{bottom:.1f}"/>',
        f'<text x="{(LEFT + right) / 2:.0f}" y="{height - 14:.0f}" text-anchor="middle">median latency, ms (logarithmic)</text>',
        f'<text transform="translate(20 {(y(low) + y(high)) / 2:.0f}) rotate(-90)" text-anchor="middle">accuracy on validation, %</text>',
    ]
    for p in points:
        row = rows[p.kind][p]
        level = y(high) - LINE * row if p.kind == "ours" else y(low) + LINE * (row + 1) - 4  # baseline of the name
        end = level + 4 if p.kind == "ours" else level - 13
        parts.append(f'<line class="leader" x1="{x[p]:.1f}" y1="{y(p.accuracy):.1f}" x2="{x[p]:.1f}" y2="{end:.1f}"/>')
        parts.append(f'<line class="interval {p.kind}" x1="{x[p]:.1f}" y1="{y(p.low):.1f}" x2="{x[p]:.1f}" y2="{y(p.high):.1f}"/>')
        anchor, shift = ("end", 4) if span(p, x[p])[0] < x[p] else ("start", -4)
        parts.append(
            f'<text class="{p.kind}-name" x="{x[p] + shift:.1f}" y="{level:.1f}" text-anchor="{anchor}">{html.escape(p.name)}</text>'
        )
    parts += [f'<circle class="{p.kind}" cx="{x[p]:.1f}" cy="{y(p.accuracy):.1f}" r="5"/>' for p in points]
    return "\n".join([*parts, "</svg>", ""])


def span(p: Candidate, x: float) -> tuple[float, float]:
    """Return where the name of a point at x begins and ends: left of x, or right of it where there is no room on the left."""
    width = len(p.name) * CHARACTER + 10
    return (x - width, x) if x - width > LEFT else (x, x + width)


def label_rows(x: dict[Candidate, float]) -> dict[Candidate, int]:
    """Return the row of each name, counted from the points outwards.

    A name stands next to its point's vertical leader line, so it must lie farther out than the names whose leaders it covers.
    """
    rows: dict[Candidate, int] = {}
    for p in sorted(x, key=lambda p: x[p]):
        start = span(p, x[p])[0]
        rows[p] = 1 + max((rows[other] for other in rows if span(other, x[other])[1] > start), default=-1)
    return rows


def main() -> None:
    """Write the picture."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(candidates(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
