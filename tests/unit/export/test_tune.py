"""Choosing how an artifact is run: what is measured, recorded and kept; the search itself is in `benchmark/test_tuning.py`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core import artifacts, files
from compress.core.errors import ResourceError
from compress.export import tune
from compress.export.graph import build_graph
from compress.inference import openvino_session, routes
from compress.inference.artifact import load_onnx
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny
from tests.made_up_clock import replace_clock

Maker = Callable[..., Path]
module = importlib.import_module("compress.export")  # `compress.export` is the verb
HERE = openvino_session.has_openvino()
needs_openvino = pytest.mark.skipif(not HERE, reason="OpenVINO is not installed")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[str, int], float]], list[str]]:
    """Return a function that replaces the clock by made-up seconds, by a runner's name and its tokens."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))

    return lambda seconds: replace_clock(monkeypatch, seconds)


def export(source: Path, output: Path, **settings: Any) -> dict[str, Any]:
    """Run the stage, and write its manifest."""
    output.mkdir()
    timed = {"seq_len": [8, 16]} if settings.get("tune") or settings.get("runtime") == "auto" else {}
    result = module.run(Inputs({"model": source}), ExportSettings(**timed | settings), output)
    files.write_json(output / artifacts.MANIFEST, result)
    return result


@pytest.mark.parametrize("family", ["bert", "mpnet"])  # forms of every family: see `test_attention`
def test_the_winner_is_written_and_recorded(checkpoint: Maker, family: str, clock: Any, tmp_path: Path) -> None:
    clock(lambda name, tokens: 1.0 - 0.2 * ("mha" in name) - 0.2 * ("packed" in name) - 0.2 * ("fusions all" in name))
    result = export(checkpoint(family), tmp_path / "out", tune=True)
    assert result["form"] == {"attention": "mha", "qkv": "packed", "scale": "folded", "opset": 20}
    assert result["runtime"] == {"disabled_optimizers": []}
    assert [cell["seq_len"] for cell in result["tuning"]["cells"]] == [8, 16]
    assert all(cell["speedup"] == pytest.approx(1 / 0.4, rel=0.01) for cell in result["tuning"]["cells"])
    assert not [entry for entry in result["tuning"]["table"] if "refused" in entry]
    operators = [node.op_type for node in onnx.load(str(tmp_path / "out" / "model.onnx")).graph.node]
    assert operators.count("MultiHeadAttention") == tiny.LAYERS
    data = tiny.encoded(family, 20)
    expected = run_batches(torch_forward(tiny.make_model(family)), data)
    np.testing.assert_allclose(run_batches(load_onnx(tmp_path / "out").logits, data), expected, atol=1e-4)
    json.dumps(result)


def test_a_second_run_takes_what_was_measured_and_other_shapes_do_not(checkpoint: Maker, clock: Any, tmp_path: Path) -> None:
    searched = {"tune": True, "attention": "plain"}
    timed = clock(lambda name, tokens: 1.0 - 0.2 * ("packed" in name))
    first = export(checkpoint(), tmp_path / "a", **searched)
    count = len(timed)
    again = export(tiny.write_checkpoint(tmp_path / "model", seed=7), tmp_path / "b", **searched)  # other weights, same shape
    assert len(timed) == count
    assert again["tuning"] == {**first["tuning"], "cached": True}
    assert again["form"] == first["form"]
    assert first["tuning"]["cached"] is False
    export(tiny.write_checkpoint(tmp_path / "wide", intermediate_size=32), tmp_path / "c", **searched)
    assert len(timed) == 2 * count
    export(checkpoint(), tmp_path / "d", **searched, seq_len=[4])
    assert len(timed) > 2 * count


def test_a_damaged_cache_is_measured_again(checkpoint: Maker, clock: Any, tmp_path: Path) -> None:
    timed = clock(lambda name, tokens: 1.0)
    export(checkpoint(), tmp_path / "a", tune=True, attention="plain")
    count = len(timed)
    for path in (tmp_path / "cache" / "tuning").iterdir():
        path.write_text("{", encoding="utf-8")
    export(checkpoint(), tmp_path / "b", tune=True, attention="plain")
    assert len(timed) == 2 * count


def test_only_what_is_asked_for_is_searched(checkpoint: Maker, clock: Any, tmp_path: Path) -> None:
    timed = clock(lambda name, tokens: 1.0)
    export(checkpoint(), tmp_path / "a", tune=True, attention="onnx", opset=23)
    assert {name.split(",")[0] for name in timed} == {"attention onnx"}
    assert not [name for name in timed if "spinning off" in name]
    export(checkpoint(), tmp_path / "b", tune=True, threads=[2])
    assert [name for name in timed if "spinning off" in name]
    count = len(timed)
    assert "tuning" not in export(checkpoint(), tmp_path / "c", attention="mha")
    assert len(timed) == count


def test_a_form_with_wrong_logits_is_refused_however_fast(
    checkpoint: Maker, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(lambda name, tokens: 0.1 if "packed" in name else 1.0)

    def wrong(model: Any, form: Any) -> onnx.ModelProto:
        graph = build_graph(model, form)
        if form.qkv == "packed":  # query and key change places
            for node in graph.graph.node:
                if node.op_type == "Split":
                    node.output[0], node.output[1] = node.output[1], node.output[0]
        return graph

    monkeypatch.setattr(module, "build_graph", wrong)
    result = export(checkpoint(), tmp_path / "out", tune=True)
    assert result["form"]["qkv"] == "separate"
    refused = [entry for entry in result["tuning"]["table"] if "refused" in entry]
    assert [entry["point"]["qkv"] for entry in refused] == ["packed"]
    assert "differs from PyTorch by" in refused[0]["refused"]


@needs_openvino
def test_auto_records_which_runtime_takes_which_batches(checkpoint: Maker, clock: Any, tmp_path: Path) -> None:
    clock(lambda name, tokens: (0.5 if tokens > 8 else 2.0) if "openvino" in name else 1.0)
    result = export(checkpoint(), tmp_path / "out", runtime="auto", precision="fp32")
    assert result["runtime"]["routes"] == [{"up_to": 11, "runtime": "onnxruntime"}, {"up_to": None, "runtime": "openvino"}]
    assert result["runtime"]["openvino"] == {"precision": "fp32"}
    assert [cell["speedup"] for cell in result["tuning"]["runtimes"]] == pytest.approx([0.5, 2.0], rel=0.01)
    assert result["verification_openvino"]["max_abs"] < 1e-4
    data = tiny.encoded("bert", 20)
    expected = run_batches(torch_forward(tiny.make_model()), data)
    np.testing.assert_allclose(run_batches(load_onnx(tmp_path / "out").logits, data, 4), expected, atol=1e-4)


@needs_openvino
@pytest.mark.parametrize(("precision", "tune"), [("fp32", True), ("bf16", False)])
def test_openvino_alone(checkpoint: Maker, clock: Any, precision: str, tune: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(lambda name, tokens: 1.0 - 0.2 * ("packed" in name))
    monkeypatch.setattr("compress.core.machine.has_fast_bf16", lambda: precision == "bf16")
    result = export(checkpoint(), tmp_path / "out", runtime="openvino", tune=tune)
    assert result["form"]["qkv"] == ("packed" if tune else "separate")
    assert result["precision"] == "fp32"  # the graph's; what OpenVINO computes in is a hint
    assert result["runtime"]["openvino"] == {"precision": precision}
    assert result["runtime"]["routes"] == [{"up_to": None, "runtime": "openvino"}]
    assert result["verification_openvino"].get("tolerance_of") == (None if precision == "fp32" else "the largest logit")


def test_without_openvino(checkpoint: Maker, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (tune, routes):
        monkeypatch.setattr(where, "has_openvino", lambda: False)
    clock(lambda name, tokens: 1.0)
    assert "routes" not in export(checkpoint(), tmp_path / "auto", runtime="auto")["runtime"]
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ResourceError, match="OpenVINO is not installed"):
        export(checkpoint(), tmp_path / "alone", runtime="openvino", tune=True)


@needs_openvino
def test_openvino_with_wrong_logits_is_not_used(checkpoint: Maker, clock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(lambda name, tokens: 0.1 if "openvino" in name else 1.0)
    right = tune.openvino_forward
    monkeypatch.setattr(tune, "openvino_forward", lambda *args: lambda batch: right(*args)(batch) + 1)
    assert "routes" not in export(checkpoint(), tmp_path / "out", runtime="auto")["runtime"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "use quantize with method fp16"),
        ({"precision": "bf16", "runtime": "auto"}, "use quantize with method bf16"),
        ({"attention": "onnx"}, "opset 23"),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExportSettings(**settings)
