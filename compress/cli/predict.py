"""`compress predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeGuard

import click

from compress.cli.options import SectionCommand, option
from compress.core import console
from compress.core.errors import UsageError
from compress.settings.base import HARDWARE, INPUT

if TYPE_CHECKING:
    from compress.inference.decoding import Output, TaggedWord

CHUNK = 256


@click.command("predict", cls=SectionCommand, short_help="Label, tag or answer texts with a model.")
@click.argument("model")
@click.argument("texts", nargs=-1)
@option("--pair", section=INPUT, is_flag=True, help="Read text pairs: two arguments, or two tab-separated columns on stdin.")
@option("--device", section=HARDWARE, type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute.")
def command(model: str, texts: tuple[str, ...], pair: bool, device: str) -> None:
    """Label, tag or answer texts with a model.

    Texts are arguments, or the lines of stdin. MODEL is an ONNX artifact (fast) or a checkpoint. Prints one line per text:
    label, score and text, separated by tabs; or labels, a value, tagged words or an answer, depending on the task.

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
    collected, found = [], False
    for chunk in _chunks(inputs):
        found = True
        rows = [_split(text) if pair else text for text in chunk]
        for text, prediction in zip(chunk, predict(rows), strict=True):
            if console.is_json():
                collected.append({"text": text, **as_document(prediction)})
            else:
                print(as_line(prediction) if is_tagged(prediction) else f"{as_line(prediction)}\t{text}", flush=True)
    if not found:
        raise UsageError("no texts were given", "give them as arguments, or one per line on stdin")
    console.result({"predictions": collected}, lambda: None)


def is_tagged(prediction: object) -> TypeGuard[list[TaggedWord]]:
    """Return whether a prediction is a list of tagged words, whose line holds the text already."""
    return isinstance(prediction, list) and bool(prediction) and hasattr(prediction[0], "word")


def as_document(prediction: Output) -> dict[str, object]:
    """Return a prediction as JSON: its fields, or the list of its labels or words."""
    if not isinstance(prediction, list):
        document = asdict(prediction)
        return {"answer": document.pop("text"), **document} if "text" in document else document
    return {"words" if is_tagged(prediction) else "labels": [asdict(entry) for entry in prediction]}


def as_line(prediction: Output) -> str:
    """Return a prediction as one line: `label<tab>score`, `value`, `word/tag …`, `label:score …`, `answer<tab>score`."""
    from compress.inference.decoding import Prediction, Value

    if is_tagged(prediction):
        return " ".join(f"{entry.word}/{entry.label}" for entry in prediction)
    if isinstance(prediction, list):
        return " ".join(f"{entry.label}:{entry.score:.4f}" for entry in prediction) or "(none)"
    if isinstance(prediction, Value):
        return f"{prediction.value:.4f}"
    answer = prediction.label if isinstance(prediction, Prediction) else prediction.text or "(no answer)"
    return f"{answer}\t{prediction.score:.4f}"


def _stdin() -> Iterator[str]:
    if sys.stdin.isatty():
        console.info("reading texts from the terminal, one per line; end with Ctrl-D")
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    return iter(sys.stdin)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield up to 256 texts at a time; from a terminal one at a time."""
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
