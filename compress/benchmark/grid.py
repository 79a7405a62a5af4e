"""What is timed: the candidates (a model in a runtime), and the grid of threads, batch sizes and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.core import artifacts, console
from compress.core.errors import UsageError
from compress.inference.routes import ONNXRUNTIME, OPENVINO, recorded_runtimes
from compress.models.config import max_tokens, read_config
from compress.models.layout import OPENVINO_GRAPH, is_graph
from compress.results.graphs import RuntimeHints
from compress.results.measurements import CellDocument
from compress.settings import BenchSettings

PYTORCH = "pytorch"


@dataclass(frozen=True)
class Candidate:
    """A model in the benchmark, and how it is run."""

    name: str
    folder: Path
    runtime: str
    precision: str
    vocab_size: int
    pooling: str | None = None  # of an embedder whose folder names none


@dataclass(frozen=True)
class Cell:
    """One combination of threads, texts per batch and tokens per text (None: the lengths of the task's texts)."""

    threads: int
    batch_size: int
    seq_len: int | None

    @property
    def title(self) -> str:
        """A title for progress bars."""
        length = "the task's lengths" if self.seq_len is None else f"length {self.seq_len}"
        return f"threads {self.threads}, batch {self.batch_size}, {length}"

    def as_json(self, tokens: int) -> CellDocument:
        """Return the cell as results record it.

        Args:
            tokens: the (mean) length of its texts.
        """
        lengths = "task" if self.seq_len is None else "fixed"
        return {"threads": self.threads, "batch_size": self.batch_size, "seq_len": tokens, "lengths": lengths}


def candidates_of(name: str, folder: Path, settings: BenchSettings, pooling: str | None = None) -> list[Candidate]:
    """Return a model once for every requested runtime that can run it.

    `auto` is PyTorch for a checkpoint, and for an artifact what it records: ONNX Runtime unless it was tuned for others.

    Raises:
        UsageError: no requested runtime can run it.
    """
    vocab_size, graph = read_config(folder)["vocab_size"], is_graph(folder)
    manifest = artifacts.read_manifest(folder) or {}
    hints: RuntimeHints = manifest.get("runtime", {}) if settings.device == "cpu" else {}
    default = "+".join(sorted(recorded_runtimes(hints))) if graph else PYTORCH
    runtimes = _usable_runtimes(name, graph, default, settings)
    recorded = manifest.get("precision", "fp32") if graph else "fp32"
    if OPENVINO in settings.runtime and not (folder / OPENVINO_GRAPH).is_file() and manifest.get("method") == "dynamic":
        console.warn(f"{name}: OpenVINO runs dynamically quantized graphs several times slower than ONNX Runtime")
    candidates = []
    for runtime in runtimes:
        converts = runtime == PYTORCH or (runtime == OPENVINO and recorded == "fp32")
        precision = settings.precision if converts else recorded
        if runtime == default == OPENVINO and OPENVINO not in settings.runtime and recorded == "fp32":
            precision = hints.get("openvino", {}).get("precision", recorded)
        title = name if runtime == runtimes[0] else f"{name} ({runtime})"
        candidates.append(Candidate(title, folder, runtime, precision, vocab_size, pooling))
    return candidates


def _usable_runtimes(name: str, graph: bool, default: str, settings: BenchSettings) -> list[str]:
    """Return the requested runtimes that can run a model, each once; `auto` is `default`.

    Raises:
        UsageError: there are none.
    """
    supported = {ONNXRUNTIME, OPENVINO, default} if graph else {PYTORCH}
    requested = [default if runtime == "auto" else runtime for runtime in settings.runtime]
    usable = [runtime for runtime in dict.fromkeys(requested) if runtime in supported]
    if not usable:
        kind = "an ONNX artifact" if graph else "a checkpoint"
        raise UsageError(f"{name} is {kind}, which {', '.join(requested)} does not run", f"add --runtime {default}, or --runtime auto")
    return usable


def grid_cells(candidates: Sequence[Candidate], settings: BenchSettings) -> list[Cell]:
    """Return threads x batch sizes x lengths, the task's own lengths last; lengths that are too long are cut, with a warning."""
    longest = min(max_tokens(read_config(candidate.folder)) for candidate in candidates)
    if max(settings.seq_len) > longest:
        console.warn(f"lengths above {longest}, the shortest limit of these models, are timed at {longest}")
    lengths: list[int | None] = list(dict.fromkeys(min(length, longest) for length in settings.seq_len))
    if settings.task_lengths:
        lengths.append(None)
    return [Cell(threads, batch, length) for threads in settings.threads for batch in settings.batch_size for length in lengths]
