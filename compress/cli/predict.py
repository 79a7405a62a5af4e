"""`compress predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import click

from compress.core import console
from compress.core.errors import UsageError

CHUNK = 256


@click.command("predict", short_help="Label, tag or answer texts with a model.")
@click.argument("model")
@click.argument("texts", nargs=-1)
@click.option("--pair", is_flag=True, help="The texts are a pair: two arguments, or two columns split by a tab on stdin.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute.")
def command(model: str, texts: tuple[str, ...], pair: bool, device: str) -> None:
    """Label, tag or answer texts with a model.

    Texts are arguments, or the lines of stdin. MODEL is an ONNX artifact (fast) or a checkpoint. One line a text comes
    out: label, score, text; for several labels, values, tagged words or answers what stands in their place.

    \b
    Examples:
      compress predict int8 "Shares fell after the forecast was cut"
      cat lines.txt | compress predict int8
      compress predict int8 --pair "He bought a car." "He owns a car."
      compress predict reader --pair "Who wrote it?" "The book, written by Ada Lovelace, sold well."
    """
    from compress.inference.predictor import open_predictor

    predict = open_predictor(model, device)
    if texts:
        inputs: Iterable[str] = ["\t".join(texts)] if pair else texts
        if pair and len(texts) != 2:
            raise UsageError(f"--pair takes two texts, not {len(texts)}")
    else:
        inputs = (line.rstrip("\n") for line in _stdin())
    collected = []
    for chunk in _chunks(inputs):
        rows = [_split(text) if pair else text for text in chunk]
        for text, found in zip(chunk, predict(rows), strict=True):
            if console.is_json():
                collected.append({"text": text, **as_document(found)})
            else:
                print(f"{as_line(found)}\t{text}" if not isinstance(found, list) or not is_tagged(found) else as_line(found), flush=True)
    console.result({"predictions": collected}, lambda: None)


def is_tagged(found: Any) -> bool:
    """Tell tagged words, whose line holds the text already, from several labels."""
    return bool(found) and hasattr(found[0], "word")


def as_document(found: Any) -> dict[str, Any]:
    """Write an answer as JSON: its fields, or the list of its labels or words."""
    if not isinstance(found, list):
        document = asdict(found)
        return {"answer": document.pop("text"), **document} if "text" in document else document
    return {"words" if is_tagged(found) else "labels": [asdict(entry) for entry in found]}


def as_line(found: Any) -> str:
    """Write an answer as one line: `label<tab>score`, `value`, `word/tag …`, `label:score …`, `answer<tab>score`."""
    if isinstance(found, list):
        if is_tagged(found):
            return " ".join(f"{entry.word}/{entry.label}" for entry in found)
        return " ".join(f"{entry.label}:{entry.score:.4f}" for entry in found) or "(none)"
    if hasattr(found, "value"):
        return f"{found.value:.4f}"
    return f"{found.label if hasattr(found, 'label') else found.text or '(no answer)'}\t{found.score:.4f}"


def _stdin() -> Iterator[str]:
    if sys.stdin.isatty():
        console.info("reading texts from the terminal, one a line; end with Ctrl-D")
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    return iter(sys.stdin)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield up to 256 texts at a time; a terminal's lines are answered one by one."""
    limit = 1 if sys.stdin.isatty() else CHUNK
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) >= limit:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _split(line: str) -> tuple[str, str]:
    first, tab, second = line.partition("\t")
    if not tab:
        raise UsageError(f"--pair: a line has no tab between its two texts: {line[:60]!r}")
    return first, second
