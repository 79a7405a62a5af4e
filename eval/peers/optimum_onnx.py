"""optimum-onnx: export, the optimization level O3, and dynamic int8, as its documentation shows them.

And what many call by hand on its export: ONNX Runtime's `quantize_dynamic` with nothing but a source and a target.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from peers import Batch, Opened


def build(variant: str, teacher: Path, output: Path, calibration: list[Batch]) -> None:
    """Export the teacher, then optimize or quantize the graph."""
    from optimum.onnxruntime import AutoOptimizationConfig, ORTModelForSequenceClassification, ORTOptimizer, ORTQuantizer

    model = ORTModelForSequenceClassification.from_pretrained(teacher, export=True)
    if variant == "fp32":
        model.save_pretrained(output)
    elif variant == "O3":
        ORTOptimizer.from_pretrained(model).optimize(save_dir=output, optimization_config=AutoOptimizationConfig.O3())
    else:
        exported = output / "exported"
        model.save_pretrained(exported)
        if variant == "int8":
            ORTQuantizer.from_pretrained(exported).quantize(save_dir=output, quantization_config=int8_settings())
        else:
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(str(exported / "model.onnx"), str(output / "model.onnx"))
        for left in exported.iterdir():
            left.unlink()
        exported.rmdir()


def int8_settings() -> Any:
    """Return optimum's own preset for this processor, weights per channel: the most accurate of the fast ones."""
    from optimum.onnxruntime import AutoQuantizationConfig

    if platform.machine() in {"arm64", "aarch64"}:
        return AutoQuantizationConfig.arm64(is_static=False, per_channel=True)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    preset = "avx512_vnni" if "avx512_vnni" in flags else "avx2"
    return getattr(AutoQuantizationConfig, preset)(is_static=False, per_channel=True)


def open_model(variant: str, folder: Path, threads: int) -> Opened:
    """Open the one graph in the folder."""
    from peers.onnx_session import open_graph

    (graph,) = folder.glob("*.onnx")
    session = open_graph(graph, threads)
    names = [entry.name for entry in session.get_inputs()]  # by name: the order of inputs is not that of a tokenizer

    def forward(batch: Batch) -> Any:
        return session.run(["logits"], {name: batch[name] for name in names})[0]

    return forward, {"providers": session.get_providers()}
