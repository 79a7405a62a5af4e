"""Which int8 form runs where: never a dynamic one in OpenVINO, never a way that is farther from the float graph."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core import artifacts, files, machine
from compress.core.errors import GateMissed
from compress.export import tune
from compress.inference.artifact import load_onnx
from compress.inference.openvino_session import has_openvino
from compress.quantize import serving
from compress.quantize.method_search import MethodChoice
from compress.settings import QuantizeSettings
from tests import tiny
from tests.made_up_clock import replace_clock
from tests.unit.quantize.stage import run

Maker = Callable[..., Path]
needs_openvino = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[str, int], float]], list[str]]:
    """Return a function that replaces the clock by made-up seconds, by a runner's name and its tokens."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.import_module("compress.quantize.method_search"), "measure_speedup", lambda *args: (1.0, [0.9, 1.1]))

    return lambda seconds: replace_clock(monkeypatch, seconds)


def quantize(source: Path, output: Path, document: Any, **settings: Any) -> dict[str, Any]:
    """Run the stage, and write its manifest."""
    timed = {"seq_len": [8, 16]} if settings.get("tune") or settings.get("runtime") == "auto" else {}
    result = run(source, output, document, **{"method": "auto", "max_drop": 100.0, **timed, **settings})
    files.write_json(output / artifacts.MANIFEST, result)
    return result


def operators(path: Path) -> set[str]:
    """The operators of a graph."""
    return {node.op_type for node in onnx.load(str(path)).graph.node}


@pytest.mark.parametrize("fastest", ["dynamic", "static"])
def test_the_faster_of_the_accurate_forms_is_kept(
    checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, fastest: str, tmp_path: Path
) -> None:
    clock(lambda name, tokens: 1.0 - 0.3 * (f"method {fastest}" in name) - 0.1 * ("fusions all" in name))
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, tune=True)
    assert result["method"] == fastest
    assert result["runtime"] == {"disabled_optimizers": []}
    assert ("MatMulInteger" in operators(tmp_path / "out" / "model.onnx")) == (fastest == "dynamic")
    assert ("QuantizeLinear" in operators(tmp_path / "out" / "model.onnx")) == (fastest == "static")


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_attention_is_one_operator_where_that_is_faster(
    checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, method: str, tmp_path: Path
) -> None:
    timed = clock(lambda name, tokens: 1.0 - 0.3 * ("attention fused" in name))
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, method=method, tune=True, report=True)
    assert any("attention fused" in name for name in timed)
    assert "QAttention" in operators(tmp_path / "out" / "model.onnx")
    assert all(np.isfinite(entry["error"]) for entry in result["explain"])  # of every matmul, those within the operator too
    quantize(checkpoint(), tmp_path / "plain", tiny_task, method=method)
    assert "QAttention" not in operators(tmp_path / "plain" / "model.onnx")  # nothing was timed


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_norms_are_by_the_root_mean_square_where_that_is_faster(
    checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, method: str, tmp_path: Path
) -> None:
    clock(lambda name, tokens: 1.0 - 0.3 * ("norms rms" in name) - 0.1 * ("attention fused" in name))
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, method=method, tune=True, report=True)
    assert {"SimplifiedLayerNormalization", "QAttention"} <= operators(tmp_path / "out" / "model.onnx")
    assert result["verification"]["agreement"] > 0.8
    assert np.isfinite(load_onnx(tmp_path / "out").logits(tiny.encoded("bert", 5).batch(range(5)))).all()


@needs_openvino
def test_each_runtime_gets_the_form_that_suits_it(checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, tmp_path: Path) -> None:
    timed = clock(lambda name, tokens: 0.6 if "method dynamic" in name else (0.5 if tokens > 8 else 2.0) if "openvino" in name else 1.0)
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, tune=True, runtime="auto")
    assert result["method"] == "dynamic"
    assert [route["runtime"] for route in result["runtime"]["routes"]] == ["onnxruntime", "openvino"]
    assert "MatMulInteger" in operators(tmp_path / "out" / "model.onnx")
    assert "MatMulInteger" not in operators(tmp_path / "out" / "openvino.onnx")
    assert "QuantizeLinear" in operators(tmp_path / "out" / "openvino.onnx")
    assert {"validation", "validation_openvino"} == set(result["metrics"])
    assert "runtime openvino" in timed
    model, data = load_onnx(tmp_path / "out"), tiny.encoded("bert", 20)
    for positions in ([0], range(12)):
        assert np.isfinite(model.logits(data.batch(positions))).all()


@needs_openvino
def test_a_dynamic_form_never_goes_to_openvino(checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, tmp_path: Path) -> None:
    timed = clock(lambda name, tokens: 1.0)
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, method="dynamic", runtime="auto")
    assert "routes" not in result["runtime"]
    assert timed == []
    with pytest.raises(ValueError, match="dynamic int8 several times slower"):
        QuantizeSettings(method="dynamic", runtime="openvino")
    graph = onnx.load(str(tmp_path / "out" / "model.onnx"))
    settings = QuantizeSettings(runtime="openvino")
    none: Any = None
    with pytest.raises(GateMissed, match="static int8, which OpenVINO runs"):
        serving.tuned_serving(MethodChoice("dynamic", graph), none, settings, none, none, True)


@needs_openvino
def test_openvino_alone_runs_the_static_form(checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, tmp_path: Path) -> None:
    clock(lambda name, tokens: 1.0)
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, runtime="openvino")
    assert result["method"] == "static"
    assert result["runtime"]["routes"] == [{"up_to": None, "runtime": "openvino"}]
    assert (tmp_path / "out" / "openvino.onnx").stat().st_size < (tmp_path / "out" / "model.onnx").stat().st_size
    assert result["verification_openvino"]["agreement"] > 0.8


@needs_openvino
def test_a_way_that_is_far_from_the_float_graph_is_not_used(
    checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(lambda name, tokens: 0.1 if "openvino" in name else 1.0)
    right = tune.openvino_forward
    monkeypatch.setattr(tune, "openvino_forward", lambda *args: lambda batch: right(*args)(batch) + 2)
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, method="static", calib_samples=20, runtime="auto")
    assert "routes" not in result["runtime"]


def test_another_processors_form_is_not_timed(checkpoint: Maker, tiny_task: dict[str, Any], clock: Any, tmp_path: Path) -> None:
    timed = clock(lambda name, tokens: 1.0)
    target = "arm64" if "asimd" not in machine.cpu_flags() else "avx2"
    result = quantize(checkpoint(), tmp_path / "out", tiny_task, tune=True, runtime="auto", target=target)
    assert timed == []
    assert "tuning" not in result
    assert "routes" not in result["runtime"]
