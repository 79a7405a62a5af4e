"""Open a graph in the runtime that serves it: ONNX Runtime with its session options, OpenVINO, or each where it is faster.

What `compress.json` records under `runtime`, all of it optional:

    {"disabled_optimizers": ["SkipLayerNormFusion"], "optimization": "basic", "session_config": {"session.…": "0"},
     "provider_options": {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}},
     "openvino": {"precision": "bf16"},
     "routes": [{"up_to": 128, "runtime": "onnxruntime"}, {"up_to": null, "runtime": "openvino"}]}

`routes` tells by the tokens of a batch (texts times length, padding included) which runtime takes it; without it ONNX Runtime
takes all. OpenVINO reads `openvino.onnx` where there is such a file beside `model.onnx`: another form of the same model, with
those of its weights that are the same bytes left in `model.onnx`.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from compress.core.errors import ModelError, ResourceError, UsageError
from compress.inference.batches import Forward
from compress.models.layout import GRAPH, OPENVINO_GRAPH, is_graph

FULL_PRECISION = {"use_tf32": "0"}  # a float32 graph computes in float32, as PyTorch does; who wants speed exports float16
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
EXTERNAL_DATA = b"\n\x08location"  # how a protobuf tensor names the file that holds its data


def recorded_runtimes(hints: Mapping[str, Any]) -> list[str]:
    """Return the runtimes that an artifact's hints send batches to, each once, those of short batches first.

    Raises:
        ModelError: routes that are malformed, or name a runtime that is not known.
    """
    return list(dict.fromkeys(runtime for _, runtime in _routes(hints)))


def only(runtime: str) -> list[dict[str, Any]]:
    """Return the routes that send everything to one runtime."""
    return [{"up_to": None, "runtime": runtime}]


def _routes(hints: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Return (most tokens, runtime) in the order of the tokens."""
    recorded = hints.get("routes") or only(ONNXRUNTIME)
    try:
        routes = [(np.inf if route["up_to"] is None else float(route["up_to"]), route["runtime"]) for route in recorded]
    except (KeyError, TypeError, ValueError):
        routes = []
    limits = [limit for limit, _ in routes]
    known = all(runtime in (ONNXRUNTIME, OPENVINO) for _, runtime in routes)
    if not routes or not known or limits[-1] != np.inf or limits != sorted(limits):
        raise ModelError(f"the artifact's manifest names runtimes in a way that is not understood: {recorded}", "export it again")
    return routes


def routed(hints: Mapping[str, Any], opened: Callable[[str], Forward]) -> Forward:
    """Return a function that hands each batch to the runtime that the hints' routes name for its number of tokens.

    Args:
        hints: an artifact's `runtime`.
        opened: from the name of a runtime to its forward function; called once for each, when its first batch comes.

    Raises:
        ModelError: malformed routes.
        ResourceError: a runtime among them is not installed.
    """
    routes, opened = _routes(hints), cache(opened)
    if any(runtime == OPENVINO for _, runtime in routes) and not has_openvino():
        raise ResourceError(
            "the artifact is to run in OpenVINO, which is not installed",
            "pip install 'bert-compress[openvino]', or open it with runtime='onnxruntime'",
        )
    if len(routes) == 1:
        return opened(routes[0][1])

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        tokens = batch["input_ids"].size
        return opened(next(runtime for limit, runtime in routes if tokens <= limit))(batch)

    return forward


def beside_others(hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hints of a session that is timed in turns with others in one process.

    Its threads wait by spinning within a run, as in production, and stop when it ends. By default they go on for a while, on the
    cores of whatever is timed next: on two cores, with two threads, OpenVINO looked up to a third slower than it is.
    """
    return {**hints, "session_config": {**hints.get("session_config", {}), "session.force_spinning_stop": "1"}}


def open_session(graph: Path | bytes, threads: int | None, device: str, hints: dict[str, Any]) -> Any:
    """Open an `onnxruntime.InferenceSession` with `hints`: `optimization`, `session_config` and `provider_options`.

    `disabled_optimizers` holds on CPUs alone, where they were measured.

    Raises:
        ModelError: the graph cannot be opened, or keeps weights outside its folder.
        ResourceError: the device's execution provider is not there.
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
    wanted: list[str] = [provider, *([PROVIDERS["cuda"]] if device == "tensorrt" else [])]
    given = {PROVIDERS["cuda"]: FULL_PRECISION, **hints.get("provider_options", {})}
    try:
        session = onnxruntime.InferenceSession(
            str(graph) if isinstance(graph, Path) else graph,
            options,
            providers=[(name, given[name]) if name in given else name for name in wanted],
            disabled_optimizers=(hints.get("disabled_optimizers") or None) if device == "cpu" else None,
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{graph if isinstance(graph, Path) else 'the graph'} cannot be opened: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != provider:
        raise ResourceError(
            f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}: its libraries cannot be loaded",
            "put the TensorRT libraries (libnvinfer) on LD_LIBRARY_PATH, or use --device cuda"
            if device == "tensorrt"
            else "put the libraries of CUDA and cuDNN on LD_LIBRARY_PATH",
        )
    return session


def refuse_linked_weights(graph: Path) -> None:
    """Refuse external data beside a graph that is a hard link: ONNX Runtime and onnx refuse `..`, absolute paths and symlinks.

    Raises:
        ModelError: a hard link beside a graph that has external data.
    """
    if not graph.stat().st_size:
        return  # nothing to map; opening it will tell
    with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        if contents.find(EXTERNAL_DATA) == -1:
            return
    linked = [path.name for path in graph.parent.iterdir() if path.is_file() and path.stat().st_nlink > 1]
    if linked:
        raise ModelError(f"External data of {graph}: {linked[0]} is a hard link to a file that may lie elsewhere", "copy the file instead")


def _refuse_other_files(graph: Path) -> None:
    """Refuse weights of OpenVINO's graph that are in another file than `model.onnx`.

    Raises:
        ModelError: they are.
    """
    contents, place = graph.read_bytes(), 0
    expected = b"\x12" + bytes([len(GRAPH)]) + GRAPH.encode()
    while (place := contents.find(EXTERNAL_DATA, place)) >= 0:
        place += len(EXTERNAL_DATA)
        if not contents.startswith(expected, place):
            raise ModelError(f"{graph} has weights in another file than {GRAPH}", "make the artifact again: compress quantize")


def session_forward(session: Any) -> Forward:
    """Return a function from a padded batch of (batch, length) int64 arrays to float32 logits; see `OnnxModel.logits`."""
    names = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]
    if outputs == ["start_logits", "end_logits"]:
        return lambda batch: np.stack(session.run(outputs, {name: batch[name] for name in names}), axis=-1)
    return lambda batch: session.run(["logits"], {name: batch[name] for name in names})[0]


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def openvino_forward(folder: Path, precision: str = "fp32", device: str = "cpu", threads: int | None = None) -> Forward:
    """Open an ONNX artifact in OpenVINO on the CPU; several threads may call the function at a time.

    Args:
        folder: the artifact.
        precision: in which floats are computed, `fp32` or `bf16`.
        device: only `cpu`.
        threads: of one inference; by default what OpenVINO chooses.

    Raises:
        ResourceError: OpenVINO is not installed.
        UsageError: a GPU was asked for, or a checkpoint was given.
        ModelError: OpenVINO cannot read the graph.
    """
    if device != "cpu":
        raise UsageError("OpenVINO runs here on the CPU only", "use --device cpu")
    if not is_graph(folder):
        raise UsageError(f"{folder} is a checkpoint, and OpenVINO takes ONNX artifacts", "export it first: compress export MODEL -o DIR")
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ResourceError("OpenVINO is not installed", "pip install 'bert-compress[openvino]'") from error
    own = (folder / OPENVINO_GRAPH).is_file()
    if own:
        _refuse_other_files(folder / OPENVINO_GRAPH)
    else:
        refuse_linked_weights(folder / GRAPH)
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    if threads:
        hints["INFERENCE_NUM_THREADS"] = threads
    graph = folder / (OPENVINO_GRAPH if own else GRAPH)
    try:
        core = openvino.Core()
        with _unlinked(graph) if own else nullcontext(graph) as path:
            compiled = core.compile_model(core.read_model(str(path)), "CPU", hints)
    except OSError as error:
        raise ResourceError(f"{graph} cannot be copied to where OpenVINO reads it: {error.strerror}", "make room in $TMPDIR") from error
    except Exception as error:  # OpenVINO's exceptions share no base class
        raise ModelError(f"{graph} cannot be opened in OpenVINO: {(str(error).strip().splitlines() or ['?'])[-1]}") from error
    names = [next(iter(entry.get_names())) for entry in compiled.inputs]
    local = threading.local()  # a request serves one batch at a time

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        found = list(local.request.infer({name: batch[name] for name in names}).values())
        return found[0] if len(found) == 1 else np.stack(found, axis=-1)

    return forward


@contextmanager
def _unlinked(graph: Path) -> Iterator[Path]:
    """Give a graph whose weights are in `model.onnx` beside it, both as files: of symbolic links OpenVINO takes no weights.

    The copies are gone when the graph is compiled; what was mapped of them stays.
    """
    weights = graph.parent / GRAPH
    if not (graph.is_symlink() or weights.is_symlink()):  # as they are in the hub's cache
        yield graph
        return
    with tempfile.TemporaryDirectory() as scratch:
        for path in (graph, weights):
            shutil.copyfile(path, Path(scratch) / path.name)
        yield Path(scratch) / graph.name
