"""Options of ONNX Runtime's sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compress.core import artifacts, files
from compress.core.errors import ModelError
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.inference.onnx_session import PROVIDERS, open_session, session_forward, without_lingering_threads
from compress.models.checkpoint import load_model

Maker = Callable[..., Path]
SPINNING = "session.intra_op.allow_spinning"


def write(checkpoint: Path, folder: Path, hints: dict[str, Any], **more: Any) -> Path:
    """Write an fp32 artifact with a manifest."""
    folder.mkdir()
    write_artifact(build_graph(load_model(checkpoint)), checkpoint, folder)
    files.write_json(folder / artifacts.MANIFEST, {"precision": "fp32", "runtime": hints, **more})
    return folder


def test_options_reach_the_session(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    folder = write(checkpoint(), tmp_path / "a", {})
    seen: dict[str, Any] = {}

    def fake(graph: str, options: Any, **given: Any) -> Any:
        seen.update(given, level=options.graph_optimization_level, spinning=options.get_session_config_entry(SPINNING))
        names = [entry[0] if isinstance(entry, tuple) else entry for entry in given["providers"]]
        return SimpleNamespace(get_providers=lambda: names)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fake)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    hints = {
        "disabled_optimizers": ["SkipLayerNormFusion"],
        "optimization": "basic",
        "session_config": {SPINNING: "0"},
        "provider_options": {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}},
    }
    open_session(folder / "model.onnx", 1, "cpu", hints)
    assert (seen["disabled_optimizers"], seen["providers"]) == (["SkipLayerNormFusion"], ["CPUExecutionProvider"])
    assert (seen["level"], seen["spinning"]) == (onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC, "0")
    open_session(folder / "model.onnx", 1, "tensorrt", hints)
    assert seen["disabled_optimizers"] is None  # they were measured on a CPU
    assert seen["providers"] == [("TensorrtExecutionProvider", {"trt_fp16_enable": "1"}), ("CUDAExecutionProvider", {"use_tf32": "0"})]


def test_a_session_timed_with_others_stops_spinning_and_keeps_its_options() -> None:
    recorded = {"disabled_optimizers": ["X"], "session_config": {"session.intra_op.allow_spinning": "0"}}
    assert without_lingering_threads(recorded) == {
        "disabled_optimizers": ["X"],
        "session_config": {"session.intra_op.allow_spinning": "0", "session.force_spinning_stop": "1"},
    }
    assert len(recorded["session_config"]) == 1


def test_nothing_is_kept_of_the_use_of_the_runtime(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment.update(TMPDIR=str(tmp_path), HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    subprocess.run([sys.executable, "-c", "import compress, onnxruntime"], env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_opens_and_does_not_run_is_refused() -> None:
    from onnx import TensorProto, helper

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    logits = helper.make_tensor_value_info("logits", TensorProto.INT64, None)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [7, 11])
    graph = helper.make_graph([helper.make_node("Reshape", ["input_ids", "sizes"], ["logits"])], "damaged", [ids], [logits], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    forward = session_forward(open_session(model.SerializeToString(), 1, "cpu", {}))
    with pytest.raises(ModelError, match="the graph does not run: .*Reshape"):
        forward({"input_ids": np.ones((1, 4), np.int64)})
