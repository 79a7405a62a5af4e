"""Open a graph in ONNX Runtime with the session options that its artifact records."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.core.errors import ModelError, ResourceError
from compress.inference.batches import Forward

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from compress.results import RuntimeHints

VECTOR = "sentence_embedding"  # the output of an embedder, as its servers know it
STATES = "last_hidden_state"  # its other one, which sentence-transformers pools
FULL_PRECISION = {"use_tf32": "0"}  # a float32 graph computes in float32, as PyTorch does; for speed there is float16
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
EXTERNAL_DATA = b"\n\x08location"  # precedes, in a serialized tensor, the name of the file that holds its data


def without_lingering_threads(hints: RuntimeHints) -> RuntimeHints:
    """Return the hints of a session that is timed alternately with others in one process.

    Threads spin within a run, as in production, and stop when it ends. By default they spin for a while longer, on the
    cores of the session that is timed next: on two cores, with two threads, OpenVINO looked up to a third slower than it is.
    """
    return {**hints, "session_config": {**hints.get("session_config", {}), "session.force_spinning_stop": "1"}}


def open_session(graph: Path | bytes, threads: int | None, device: str, hints: RuntimeHints) -> InferenceSession:
    """Open a session with the `optimization`, `session_config`, `provider_options` and `disabled_optimizers` of `hints`.

    Args:
        graph: a file, or a serialized model.
        threads: of one inference; by default ONNX Runtime's choice.
        device: `cpu`, `cuda` or `tensorrt`.
        hints: of the artifact. `disabled_optimizers` applies to CPUs only, where it was measured.

    Raises:
        ModelError: the graph cannot be opened, or has weights outside its folder.
        ResourceError: the device's execution provider is unavailable; there is no silent fallback.
    """
    import onnxruntime

    provider = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise ResourceError(
            f"--device {device}: this ONNX Runtime has no {provider}",
            "use --device cpu, or install onnxruntime-gpu on a machine with a GPU",
        )
    if isinstance(graph, Path):
        refuse_linked_weights(graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    for key, value in hints.get("session_config", {}).items():
        options.add_session_config_entry(key, value)
    if hints.get("optimization") == "basic":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    names: list[str] = [provider, *([PROVIDERS["cuda"]] if device == "tensorrt" else [])]
    provider_options = {PROVIDERS["cuda"]: FULL_PRECISION, **hints.get("provider_options", {})}
    try:
        session = onnxruntime.InferenceSession(
            str(graph) if isinstance(graph, Path) else graph,
            options,
            providers=[(name, provider_options[name]) if name in provider_options else name for name in names],
            disabled_optimizers=(hints.get("disabled_optimizers") or None) if device == "cpu" else None,
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{graph if isinstance(graph, Path) else 'the graph'} cannot be opened: {str(error).splitlines()[0]}") from error
    _check_provider(session, provider)
    return session


def _check_provider(session: InferenceSession, provider: str) -> None:
    """Refuse a session that fell back to another execution provider."""
    opened = session.get_providers()[0]
    if opened != provider:
        raise ResourceError(
            f"ONNX Runtime fell back from {provider} to {opened}: its libraries cannot be loaded",
            "put the TensorRT libraries (libnvinfer) on LD_LIBRARY_PATH, or use --device cuda"
            if provider == PROVIDERS["tensorrt"]
            else "put the libraries of CUDA and cuDNN on LD_LIBRARY_PATH",
        )


def run_arrays(session: InferenceSession, names: Sequence[str], batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the named outputs of a session for a batch, which may have more arrays than the session has inputs."""
    outputs = _run(session, list(names), {entry.name: batch[entry.name] for entry in session.get_inputs()})
    return [np.asarray(output) for output in outputs]


def _run(session: InferenceSession, names: list[str], inputs: dict[str, np.ndarray]) -> list[Any]:
    """Run a session.

    Raises:
        ModelError: the graph fails, as a damaged one does that could be opened.
    """
    try:
        return list(session.run(names, inputs))
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"the graph does not run: {str(error).splitlines()[0][:300]}") from error


def session_forward(session: InferenceSession) -> Forward:
    """Return a function from a padded batch of (batch, length) int64 arrays to float32 logits; see `OnnxModel.logits`."""
    names = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]
    spans = outputs == ["start_logits", "end_logits"]
    first = next((name for name in ("logits", VECTOR) if name in outputs), outputs[0])

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        logits: Any = _run(session, outputs if spans else [first], {name: batch[name] for name in names})
        return np.stack(logits, axis=-1) if spans else logits[0]

    return forward


def refuse_linked_weights(graph: Path) -> None:
    """Refuse a graph whose external data may be a hard link; ONNX Runtime and onnx refuse `..`, absolute paths and symbolic links.

    Raises:
        ModelError: the graph has external data, and a file in its folder or below is a hard link.
    """
    if not graph.stat().st_size:
        return  # cannot be mapped; opening it reports the error
    with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        if contents.find(EXTERNAL_DATA) == -1:
            return
    linked = [path.relative_to(graph.parent) for path in graph.parent.rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    if linked:
        raise ModelError(f"External data of {graph}: {linked[0]} is a hard link to a file that may lie elsewhere", "copy the file instead")
