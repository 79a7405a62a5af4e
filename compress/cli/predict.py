"""`compress predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import click

from compress.cli.options import SectionCommand, option
from compress.core import console
from compress.core.errors import UsageError
from compress.core.outputs import check_output_file, unwritable
from compress.data.input_spec import POOLINGS
from compress.settings.base import CHECK, HARDWARE, INPUT

if TYPE_CHECKING:
    import numpy as np

    from compress.inference.artifact import OneInput
    from compress.inference.decoding import Output, TaggedWord

CHUNK = 256
DIGITS = 9  # significant ones of the numbers of a vector: they tell all numbers of float32 apart
LINE_ENDS = {ord("\n"): " ", ord("\r"): " "}  # of a text or a label, which must stay on its line


@click.command("predict", cls=SectionCommand, short_help="Label, tag, answer, encode or score texts with a model.")
@click.argument("model")
@click.argument("texts", nargs=-1)
@option("--query", section=INPUT, metavar="TEXT", help="Score each text as an answer to this query: by a reranker, or by cosine.")
@option("--pooling", section=INPUT, type=click.Choice(POOLINGS), help="Open an encoder as an embedder whose folder names no pooling.")
@option(
    "-o",
    "--output",
    section=INPUT,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the vectors to FILE.npy, or with --beir the candidates to FILE.run.",
)
@option("--beir", section=INPUT, metavar="DIR|REPO", help="Search a corpus in BEIR's layout with its queries; -o gets a TREC run file.")
@option("--pair", section=INPUT, is_flag=True, help="Read text pairs: two arguments, or two tab-separated columns on stdin.")
@option("--device", section=HARDWARE, type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to compute.")
@option("--check/--no-check", section=HARDWARE, default=True, show_default=True, help=CHECK)
def predict_command(
    model: str,
    texts: tuple[str, ...],
    query: str | None,
    pooling: str | None,
    output: str | None,
    beir: str | None,
    pair: bool,
    device: str,
    check: bool,
) -> None:
    """Label, tag, answer, encode or score texts with a model.

    Texts are arguments, or the lines of stdin. MODEL is an ONNX artifact (fast) or a checkpoint. Prints one line per text:
    label, score and text, separated by tabs; or labels, a value, tagged words or an answer, depending on the task. An embedder prints
    JSON lines with text and vector, or the cosine of two texts. A model that compares mentions (coreference) takes JSON objects with
    text, pronoun, a, b and their offsets, and prints A, B or neither.

    \b
    Examples:
      compress predict int8 "Shares fell after the forecast was cut"
      cat lines.txt | compress predict int8
      compress predict int8 --pair "He bought a car." "He owns a car."
      compress predict reader --pair "Who wrote it?" "The book, written by Ada Lovelace, sold well."
      cat lines.txt | compress predict embedder -o vectors.npy
      compress predict embedder --beir cranfield -o candidates.run
      compress predict reranker --query "who wrote it?" "A book by Ada Lovelace." "A film of 1932."
    """
    _check_options(texts, query, output, beir, pair)
    if beir is not None:
        _search(model, beir, Path(str(output)), device, pooling, check)
        return
    from compress.inference.predictor import open_predictor

    single = query is None and not pair
    predict = open_predictor(model, device, pooling, query_first=query is not None, single=single, check=check)
    collected, vectors, has_results = [], [], False
    for chunk in _chunks(_inputs(texts, pair)):
        has_results = True
        rows: list[OneInput] = [(query, text) if query is not None else _split(text) if pair else text for text in chunk]
        for text, prediction in zip(chunk, predict(rows), strict=True):
            if query is not None or output:
                _check_kind(prediction, "value" if query is not None else "vector", "--query" if query is not None else "-o")
            if output:
                vectors.append(prediction.vector)  # pyright: ignore[reportAttributeAccessIssue] (checked above)
            elif console.is_json():
                collected.append({**_given(text, prediction), **as_document(prediction)})
            else:
                print(_printed(text, prediction).translate(LINE_ENDS), flush=True)
    if not has_results:
        what = "texts" if query is None else "passages for --query"
        raise UsageError(f"no {what} were given", "give them as arguments, or one per line on stdin")
    if output:
        _write_vectors(Path(output), vectors)
        console.result({"output": output, "n": len(vectors)}, lambda: print(f"wrote {output}: {len(vectors)} vectors"))
    else:
        console.result({"predictions": collected}, lambda: None)


def _inputs(texts: tuple[str, ...], pair: bool) -> Iterable[str]:
    """Return the arguments, a pair as one line, or else the lines of stdin."""
    if not texts:
        return (line.rstrip("\r\n") for line in _stdin())
    return ["\t".join(texts)] if pair else texts


def _check_options(texts: tuple[str, ...], query: str | None, output: str | None, beir: str | None, pair: bool) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: they do not, or the output file has another ending.
    """
    if beir is not None and (texts or query is not None or pair):
        raise UsageError("--beir takes no texts, --query or --pair", "its queries and documents are those of the data set")
    if beir is not None and not (output or "").endswith(".run"):
        raise UsageError("--beir writes the candidates of the queries to a run file", "name it: -o candidates.run")
    if pair and texts and len(texts) != 2:
        raise UsageError(f"--pair takes two texts, not {len(texts)}")
    if query is not None and pair:
        raise UsageError("--query and --pair do not go together", "with --query every text is the second one of a pair")
    if output and beir is None and (query is not None or pair):
        raise UsageError(f"-o {output}: --query and --pair give scores, and -o takes vectors", "leave -o out: scores are printed")
    if output and beir is None and not output.endswith(".npy"):
        raise UsageError(f"-o {output}: vectors are written to a file that ends with .npy")
    if output:
        check_output_file(Path(output))


def _search(model: str, beir: str, output: Path, device: str, pooling: str | None, check: bool) -> None:
    """Write the candidates of the queries of a data set."""
    from compress.inference.retriever import write_candidates

    queries, candidates = write_candidates(model, beir, output, device, pooling, check)
    document = {"output": str(output), "queries": queries, "candidates": candidates}
    console.result(document, lambda: print(f"wrote {output}: {candidates} candidates of {queries} queries"))


def _check_kind(prediction: Output, field: str, option: str) -> None:
    """Refuse a model whose predictions have no `field`.

    Raises:
        UsageError: it is a classifier, for example.
    """
    if not hasattr(prediction, field):
        needed = "a reranker or an embedder, which score pairs" if field == "value" else "an embedder, whose predictions are vectors"
        raise UsageError(f"{option} needs {needed}, and this model does something else", f"leave {option} out, or give another model")


def _write_vectors(path: Path, vectors: list[np.ndarray]) -> None:
    """Write vectors, (n, size) float32, as a NumPy file.

    Raises:
        UsageError: the file cannot be written.
    """
    import numpy as np

    from compress.core import files

    try:
        with files.atomic_file(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.stack(vectors))
    except OSError as error:
        raise unwritable(path, error) from error


def _printed(text: str, prediction: Output) -> str:
    """Return the line of a text and its prediction."""
    if is_tagged(prediction):
        return as_line(prediction)
    if hasattr(prediction, "vector"):
        return json.dumps({"text": text, **as_document(prediction)}, ensure_ascii=False)
    return f"{as_line(prediction)}\t{text}"


def _given(text: str, prediction: Output) -> dict[str, object]:
    """Return the input of a prediction as JSON: its text, or the object that names a text, its pronoun and two names."""
    from compress.inference.decoding import Antecedent

    return json.loads(text) if isinstance(prediction, Antecedent) else {"text": text}


def is_tagged(prediction: object) -> TypeGuard[list[TaggedWord]]:
    """Return whether a prediction is a list of tagged words, whose line holds the text already."""
    return isinstance(prediction, list) and bool(prediction) and hasattr(prediction[0], "word")


def as_document(prediction: Output) -> dict[str, object]:
    """Return a prediction as JSON: its fields, or the list of its labels or words."""
    if not isinstance(prediction, list):
        document = asdict(prediction)
        if "vector" in document:
            return {"vector": [float(f"{number:.{DIGITS}g}") for number in document["vector"].tolist()]}
        return {"answer": document.pop("text"), **document} if "text" in document else document
    return {"words" if is_tagged(prediction) else "labels": [asdict(entry) for entry in prediction]}


def as_line(prediction: Output) -> str:
    """Return a prediction as one line: `label<tab>score`, `value`, `word/tag …`, `label:score …`, `answer<tab>score`.

    Of a mention pair `A<tab>score<tab>name`.
    """
    from compress.inference.decoding import Antecedent, Prediction, Value, Vector

    if is_tagged(prediction):
        return " ".join(f"{entry.word}/{entry.label}" for entry in prediction)
    if isinstance(prediction, list):
        return " ".join(f"{entry.label}:{entry.score:.4f}" for entry in prediction) or "(none)"
    if isinstance(prediction, Value):
        return f"{prediction.value:.4f}"
    if isinstance(prediction, Vector):
        return json.dumps(as_document(prediction))
    if isinstance(prediction, Antecedent):
        return f"{prediction.label}\t{prediction.score:.4f}\t{prediction.name}"
    answer = prediction.label if isinstance(prediction, Prediction) else prediction.text or "(no answer)"
    return f"{answer}\t{prediction.score:.4f}"


def _stdin() -> Iterator[str]:
    if sys.stdin.isatty():
        console.info("reading texts from the terminal, one per line; end with Ctrl-D")
    sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="\n")  # type: ignore[union-attr]
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
        raise UsageError(f"--pair: a line has no tab between its two texts: {line[:60]!r}", "give two columns, separated by a tab")
    return first, second
