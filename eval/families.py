"""Run every verb on a tiny random model of every family, and print the table of docs/families.md.

    python eval/families.py                     # all families
    python eval/families.py modernbert          # some; --only prune runs the ways whose names begin so

A way that writes a checkpoint passes if the checkpoint, loaded again, and its ONNX graph compute the same logits within 1e-4; one
that writes a graph, if it loads and predicts. Exit code 1 if a way fails.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import compress
from compress.core.errors import UsageError
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.inference.predictor import open_predictor
from compress.models.family import FAMILIES
from compress.models.sharing import owners_of
from tests import tiny

TOLERANCE = 1e-4
FAST: dict[str, Any] = {"epochs": 1, "batch_size": 16, "precision": "fp32", "device": "cpu"}
CALIBRATION: dict[str, Any] = {"calib_samples": 40, "device": "cpu"}


class Bench:
    """The tiny models, tasks and outputs of one family."""

    def __init__(self, folder: Path, family: str, task: dict[str, Any], texts: dict[str, Any]) -> None:
        self.folder, self.family, self.task, self.texts = folder, family, task, texts
        self.model = tiny.write_checkpoint(folder / "model", family)
        pair = ("roberta", "camembert") if family in tiny.ANGLED else ("bert", "distilbert")  # with the same tokenizer
        other = pair[1] if family == pair[0] else pair[0]
        self.other = tiny.write_checkpoint(folder / "other", other, seed=1)
        self.count = 0

    def output(self) -> Path:
        """Return a new path."""
        self.count += 1
        return self.folder / f"out{self.count}"

    def prune(self, method: Any, **target: Any) -> Path:
        """Prune by a method."""
        target = target or {"target_flops": 0.7 if method == "hidden" else 0.5}
        refits = {"refit_epochs": 1} if method in ("obs", "fisher") else {}
        calibration = CALIBRATION if method not in ("magnitude", "random") else {}
        return written(compress.prune(self.model, self.task, self.output(), method=method, **refits, **calibration, **target))

    def distill(self, student: Any, **settings: Any) -> Path:
        """Distill the model into a student."""
        return written(compress.distill(self.model, student, self.task, self.output(), **{**FAST, **settings}))

    def graph(self) -> Path:
        """Export the model."""
        return written(compress.export(self.model, self.output(), self.task))

    def quantize(self, method: Any) -> Path:
        """Quantize by a method."""
        calibration: dict[str, Any] = {"calib_samples": 40} if method in ("auto", "static", "smooth") else {}
        return written(compress.quantize(self.model, self.task, self.output(), method=method, **calibration))

    def embedder(self) -> Path:
        """Prune an embedder of this family without labels."""
        source = tiny.write_embedder(self.output(), self.family)
        return written(compress.prune(source, self.texts, self.output(), target_flops=0.5, refit_epochs=1, **CALIBRATION))

    def head(self, target: str) -> Path:
        """Write a model with another head."""
        return tiny.write_checkpoint(self.output(), self.family, target=target)


def written(result: Any) -> Path:
    """Return the folder that a verb wrote."""
    return Path(result["output"])


def measured(result: Any) -> Path:
    """Check that a measurement has results."""
    assert len(result["results"]) == 2  # noqa: S101
    return Path()


def other_student(bench: Bench) -> Path:
    """Distill a model of another family into this one."""
    return written(compress.distill(bench.other, bench.model, bench.task, bench.output(), **FAST))


WAYS: dict[str, Callable[[Bench], Path]] = {
    "heads: class": lambda bench: bench.head("class"),
    "heads: labels": lambda bench: bench.head("labels"),
    "heads: value": lambda bench: bench.head("value"),
    "heads: tags": lambda bench: bench.head("tags"),
    "heads: span": lambda bench: bench.head("span"),
    "heads: vector": lambda bench: tiny.write_embedder(bench.output(), bench.family),
    **{
        f"finetune: {mode}": lambda bench, mode=mode: written(
            compress.finetune(bench.model, bench.task, bench.output(), mode=mode, **FAST)  # pyright: ignore[reportArgumentType]
        )
        for mode in ("full", "frozen", "lora", "adapter")
    },
    **{
        f"prune: {method}": lambda bench, method=method: bench.prune(method)
        for method in ("obs", "fisher", "taylor", "magnitude", "random", "layers", "hidden")
    },
    "prune: uniform": lambda bench: bench.prune("obs", target_flops=0.5, uniform=True),
    "prune: sparse": lambda bench: written(compress.prune(bench.model, bench.task, bench.output(), method="sparse", **CALIBRATION)),
    "prune: vocab": lambda bench: written(compress.prune(bench.model, bench.task, bench.output(), method="vocab")),
    "prune: embedder": lambda bench: bench.embedder(),
    "distill: layers": lambda bench: bench.distill("layers=2"),
    "distill: narrower": lambda bench: bench.distill("layers=2,hidden=16,heads=2,ffn=32"),
    "distill: every layer": lambda bench: bench.distill("layers=2", method=["logits", "hidden", "relations"]),
    "distill: theseus": lambda bench: bench.distill("layers=2", method=["theseus"], init="layers"),
    "distill: to another family": lambda bench: bench.distill(bench.other),
    "distill: from another family": other_student,
    "distill: to a BiLSTM": lambda bench: bench.distill("lstm=8"),
    "factorize": lambda bench: written(
        compress.factorize(bench.model, bench.task, bench.output(), target_flops=0.7, embedding_rank=4, **CALIBRATION)
    ),
    "share": lambda bench: written(compress.share(bench.model, bench.task, bench.output(), groups="1-2")),
    "export": Bench.graph,
    **{
        f"quantize: {method}": lambda bench, method=method: bench.quantize(method)
        for method in ("dynamic", "static", "smooth", "int4", "fp16", "auto")
    },
    "eval": lambda bench: measured(compress.evaluate([bench.model, bench.graph()], bench.task)),
    "bench": lambda bench: measured(compress.bench([bench.model, bench.graph()], seconds=0.05, seq_len=[8], batch_size=[1])),
}


def checked(folder: Path, family: str) -> str:
    """Return what is wrong with what a verb wrote; empty if nothing is."""
    if folder == Path():
        return ""
    if (folder / "model.onnx").is_file():
        return "" if open_predictor(folder)(["the red dog"]) and (folder / "README.md").is_file() else "no prediction or no card"
    model = compress.load_model(folder)
    if FAMILIES.get(model.config.model_type, FAMILIES["bert"]).grouped and not owners_of(model):
        return "its layers share no weights any more"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    owner = str(config["model_type"])
    data = tiny.encoded(owner if owner in FAMILIES else family)
    data = data.take(range(6))
    data = _within(data, int(config["vocab_size"]))
    forward = session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", {}))
    largest = 0.0
    for positions in (range(6), [0]):
        batch = data.batch(positions)
        expected, logits, mask = torch_forward(model)(batch), forward(batch), batch["attention_mask"].astype(bool)
        gap = np.abs(expected - logits)
        largest = max(largest, float((gap[mask] if gap.ndim == 3 else gap).max()))
    return "" if largest <= TOLERANCE else f"differs by {largest:.1e}"


def _within(data: Any, vocab_size: int) -> Any:
    """Return examples whose tokens a smaller vocabulary has: what they are does not matter here."""
    for ids in data.input_ids:
        ids[ids >= vocab_size] = vocab_size - 1
    return data


def run_way(way: str, bench: Bench) -> str:
    """Run one way; returns its cell of the table."""
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            wrong = checked(WAYS[way](bench), bench.family)
    except UsageError as error:
        return f"refused: {error.message}"
    except Exception as error:
        return f"**{type(error).__name__}: {str(error)[:200]}**"
    return "yes" if not wrong else f"**{wrong}**"


def main() -> int:
    """Run all ways on all families, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--only", default="", help="run the ways whose names begin so")
    options = parser.parse_args()
    ways = [way for way in WAYS if way.startswith(options.only)]
    cells: dict[str, dict[str, str]] = {}
    for family in options.families:
        with tempfile.TemporaryDirectory() as folder:
            task, texts = tiny.write_task(Path(folder) / "task"), tiny.write_texts(Path(folder) / "texts")
            bench = Bench(Path(folder), family, task, texts)
            cells[family] = {}
            for way in ways:
                cells[family][way] = run_way(way, bench)
                print(f"{family:15s} {way:30s} {cells[family][way]}", file=sys.stderr, flush=True)
    print(f"| | {' | '.join(f'`{family}`' for family in options.families)} |\n|---|{'---|' * len(options.families)}")
    for way in ways:
        print(f"| {way} | {' | '.join(cells[family][way] for family in options.families)} |")
    return int(any(cell.startswith("**") for row in cells.values() for cell in row.values()))


if __name__ == "__main__":
    sys.exit(main())
