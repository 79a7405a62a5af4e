"""Choose the runtime of each batch by its number of tokens, as an artifact records it.

What `compress.json` records under `runtime`, all of it optional:

    {"disabled_optimizers": ["SkipLayerNormFusion"], "optimization": "basic", "session_config": {"session.…": "0"},
     "provider_options": {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}},
     "openvino": {"precision": "bf16"},
     "routes": [{"up_to": 128, "runtime": "onnxruntime"}, {"up_to": null, "runtime": "openvino"}]}

A route's `up_to` is the largest number of tokens of a batch (texts x length, with padding) that the runtime gets. Without
`routes`, ONNX Runtime gets all batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from compress.core.errors import ModelError, ResourceError
from compress.inference.batches import Forward
from compress.inference.openvino_session import has_openvino

if TYPE_CHECKING:
    from compress.results import RuntimeHints
    from compress.results.graphs import Route

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"


def recorded_runtimes(hints: RuntimeHints) -> list[str]:
    """Return the runtimes that serve an artifact, each once, the one for the shortest batches first.

    Raises:
        ModelError: malformed routes or an unknown runtime.
    """
    return list(dict.fromkeys(runtime for _, runtime in _parse_routes(hints)))


def single_route(runtime: str) -> list[Route]:
    """Return the routes that send all batches to one runtime."""
    return [{"up_to": None, "runtime": runtime}]


def _parse_routes(hints: RuntimeHints) -> list[tuple[float, str]]:
    """Return (most tokens, runtime) in ascending order of tokens."""
    recorded: object = hints
    try:
        recorded = hints.get("routes") or single_route(ONNXRUNTIME)
        routes = [(np.inf if route["up_to"] is None else float(route["up_to"]), route["runtime"]) for route in recorded]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        routes = []
    limits = [limit for limit, _ in routes]
    known = all(runtime in (ONNXRUNTIME, OPENVINO) for _, runtime in routes)
    if not routes or not known or limits[-1] != np.inf or limits != sorted(limits):
        raise ModelError(f"the artifact's manifest has malformed routes to runtimes: {recorded}", "export it again")
    return routes


def routed_forward(hints: RuntimeHints, open_runtime: Callable[[str], Forward]) -> Forward:
    """Return a forward function that passes each batch to the runtime for its number of tokens.

    Args:
        hints: of the artifact.
        open_runtime: from a runtime's name to its forward function; called once per runtime, at its first batch.

    Raises:
        ModelError: malformed routes.
        ResourceError: one of the runtimes is not installed.
    """
    routes, open_runtime = _parse_routes(hints), cache(open_runtime)
    if any(runtime == OPENVINO for _, runtime in routes) and not has_openvino():
        raise ResourceError(
            "the artifact is to run in OpenVINO, which is not installed",
            "pip install 'bert-compress[openvino]', or open it with runtime='onnxruntime'",
        )
    if len(routes) == 1:
        return open_runtime(routes[0][1])

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        tokens = batch["input_ids"].size
        return open_runtime(next(runtime for limit, runtime in routes if tokens <= limit))(batch)

    return forward
