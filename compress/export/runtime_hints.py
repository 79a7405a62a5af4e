"""The options of ONNX Runtime that an artifact records as hints: the defaults, and those that tuning chooses from."""

from __future__ import annotations

from compress.results.graphs import RuntimeHints

# On CPUs these fusions of ONNX Runtime are slower than the separate operators: see docs/decisions/0002-author-the-onnx-graph.md.
SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasGeluFusion"]
RUNTIME_HINTS: RuntimeHints = {"disabled_optimizers": SLOW_FUSIONS}
GPU_HINTS: RuntimeHints = {"provider_options": {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}}}  # of a float16 graph
FUSIONS = {
    "without both": SLOW_FUSIONS,
    "all": [],
    "without SkipLayerNorm": ["SkipLayerNormFusion"],
    "without BiasGelu": ["BiasGeluFusion"],
}
OPTIONS = {"fusions": list(FUSIONS), "optimization": ["all", "basic"], "spinning": ["on", "off"]}
DEFAULT_OPTIONS = {axis: values[0] for axis, values in OPTIONS.items()}


def session_hints(point: dict[str, str]) -> RuntimeHints:
    """Return the hints for a point's options: `disabled_optimizers`, `optimization`, `session_config`."""
    hints: RuntimeHints = {"disabled_optimizers": list(FUSIONS[point["fusions"]])}
    if point["optimization"] != "all":
        hints["optimization"] = point["optimization"]
    if point["spinning"] == "off":
        hints["session_config"] = {"session.intra_op.allow_spinning": "0"}
    return hints
