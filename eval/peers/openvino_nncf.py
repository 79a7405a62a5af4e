"""OpenVINO: its own conversion of the PyTorch model, run in fp32 or bf16; and NNCF's int8.

It never gets one of ONNX Runtime's dynamically quantized graphs, which it runs several times slower.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from peers import Batch, Opened

GRAPH = "model.xml"


def build(variant: str, teacher: Path, output: Path, calibration: list[Batch]) -> None:
    """Convert the teacher; for int8 let NNCF quantize it with its settings for transformers."""
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(teacher, dtype=torch.float32).eval()
    taken = inspect.signature(model.forward).parameters  # DistilBERT has no token types
    calibration = [{name: array for name, array in batch.items() if name in taken} for batch in calibration]
    example = {name: torch.from_numpy(array) for name, array in calibration[0].items()}
    # By name and with dynamic shapes: forward() takes attention_mask second, a tokenizer yields it last.
    inputs = [(name, openvino.PartialShape([-1, -1])) for name in example]
    converted = openvino.convert_model(model, example_input=example, input=inputs)
    if variant == "int8":
        import nncf

        data = nncf.Dataset(calibration)
        converted = nncf.quantize(converted, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(calibration))
    openvino.save_model(converted, output / GRAPH, compress_to_fp16=False)


def open_model(variant: str, folder: Path, threads: int) -> Opened:
    """Compile the model for one stream of requests."""
    import openvino

    core = openvino.Core()
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32" if variant == "fp32" else "bf16",
    }
    compiled = core.compile_model(core.read_model(folder / GRAPH), "CPU", hints)
    request = compiled.create_infer_request()
    names = [next(iter(entry.get_names() & {"input_ids", "attention_mask", "token_type_ids"})) for entry in compiled.inputs]

    def forward(batch: Batch) -> Any:
        return request.infer({name: batch[name] for name in names}, share_inputs=True)[0]

    return forward, {"precision_hint": str(compiled.get_property("INFERENCE_PRECISION_HINT"))}
