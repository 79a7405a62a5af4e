"""Open an ONNX artifact in OpenVINO.

OpenVINO reads `openvino.onnx` if that file exists next to `model.onnx`: another variant of the same model, which refers to
`model.onnx` for the weights that both have in common.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.core.errors import ModelError, ResourceError, UsageError
from compress.core.scratch import folder as scratch_folder
from compress.inference.batches import Forward
from compress.inference.onnx_session import EXTERNAL_DATA, VECTOR, refuse_linked_weights
from compress.models.layout import GRAPH, OPENVINO_GRAPH, graph_file, is_graph

if TYPE_CHECKING:
    from openvino import CompiledModel  # pyright: ignore[reportMissingImports]


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def openvino_forward(folder: Path, precision: str = "fp32", device: str = "cpu", threads: int | None = None, streams: int = 1) -> Forward:
    """Open an ONNX artifact in OpenVINO on the CPU and return its forward function, which several threads may call.

    Args:
        folder: the artifact.
        precision: of float computations, `fp32` or `bf16`.
        device: `cpu` only.
        threads: of one inference; by default OpenVINO's choice.
        streams: batches that several threads may compute at the same time.

    Raises:
        ResourceError: OpenVINO is not installed, or there is no space for a temporary copy.
        UsageError: a GPU, or a checkpoint instead of an artifact.
        ModelError: OpenVINO cannot read the graph.
    """
    if device != "cpu":
        raise UsageError("OpenVINO runs here on the CPU only", "use --device cpu")
    return request_forward(compiled_graph(folder, precision, threads, streams))


def compiled_graph(folder: Path, precision: str = "fp32", threads: int | None = None, streams: int = 1) -> CompiledModel:
    """Compile the graph that OpenVINO reads of an artifact; arguments and errors as for `openvino_forward`."""
    if not is_graph(folder):
        raise UsageError(f"{folder} is a checkpoint, and OpenVINO takes ONNX artifacts", "export it first: compress export MODEL -o DIR")
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ResourceError("OpenVINO is not installed", "pip install 'bert-compress[openvino]'") from error
    separate = (folder / OPENVINO_GRAPH).is_file()
    graph = folder / OPENVINO_GRAPH if separate else graph_file(folder)
    if separate:
        _refuse_other_files(graph)
    else:
        refuse_linked_weights(graph)
    options: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads * streams
    if streams > 1:
        options["NUM_STREAMS"] = streams
    try:
        core = openvino.Core()
        with _without_links(graph) if separate else nullcontext(graph) as path:
            model = core.read_model(str(path))
            vectors = [entry for entry in model.outputs if VECTOR in entry.get_names()]
            if vectors:  # nothing reads the tokens' vectors, so that they need not be copied
                model = openvino.Model([entry.get_node() for entry in vectors], model.get_parameters(), "vectors")  # pyright: ignore[reportGeneralTypeIssues]
            return core.compile_model(model, "CPU", options)
    except OSError as error:
        raise ResourceError(f"{graph} cannot be copied to where OpenVINO reads it: {error.strerror}", "make room in $TMPDIR") from error
    except Exception as error:  # OpenVINO's exceptions share no base class
        raise ModelError(f"{graph} cannot be opened in OpenVINO: {(str(error).strip().splitlines() or ['?'])[-1]}") from error


def request_forward(compiled: CompiledModel) -> Forward:
    """Return the forward function of a compiled model, with an inference request for each thread that calls it.

    Inputs are copied into tensors that stay with the request while their shape stays: passed as a dictionary they cost a quarter of a
    millisecond more. Outputs are copied once, here, for the request overwrites its own.
    """
    from openvino import Tensor  # pyright: ignore[reportMissingImports]

    names = [next(iter(entry.get_names())) for entry in compiled.inputs]
    local = threading.local()  # a request serves one batch at a time

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        if not hasattr(local, "request"):
            local.request, local.shape = compiled.create_infer_request(), None
        request, shape = local.request, batch["input_ids"].shape
        if local.shape != shape:
            local.shape, local.inputs = shape, [np.empty(shape, dtype=np.int64) for _ in names]
            for number, array in enumerate(local.inputs):
                request.set_input_tensor(number, Tensor(array, shared_memory=True))
        for name, array in zip(names, local.inputs, strict=True):
            array[:] = batch[name]
        outputs = request.infer(share_outputs=True).to_tuple()
        return outputs[0].copy() if len(outputs) == 1 else np.stack(outputs, axis=-1)

    return forward


def _refuse_other_files(graph: Path) -> None:
    """Refuse an OpenVINO graph with weights in a file other than `model.onnx`.

    Raises:
        ModelError: it has some.
    """
    contents, place = graph.read_bytes(), 0
    expected = b"\x12" + bytes([len(GRAPH)]) + GRAPH.encode()
    while (place := contents.find(EXTERNAL_DATA, place)) >= 0:
        place += len(EXTERNAL_DATA)
        if not contents.startswith(expected, place):
            raise ModelError(f"{graph} has weights in another file than {GRAPH}", "create the artifact again: compress quantize")


@contextmanager
def _without_links(graph: Path) -> Iterator[Path]:
    """Yield a graph next to its `model.onnx`, both as regular files: OpenVINO reads no weights through symbolic links.

    Links, as in the hub's cache, are copied. The copies are removed when the graph is compiled; mapped parts stay valid.
    """
    weights = graph.parent / GRAPH
    if not (graph.is_symlink() or weights.is_symlink()):
        yield graph
        return
    with scratch_folder() as scratch:
        for path in (graph, weights):
            shutil.copyfile(path, scratch / path.name)
        yield scratch / graph.name
