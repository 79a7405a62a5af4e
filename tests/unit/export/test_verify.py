"""The proof that two models compute the same: it must fail where they do not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from compress.core import console
from compress.core.errors import ModelError
from compress.data.encoded import Encoded
from compress.export.graph import build_graph
from compress.export.verify import Verification, announce_verification, batches_to_try, cached_forward, verify, without_close_calls
from compress.inference.artifact import OnnxModel
from compress.inference.forward import torch_forward
from compress.models.checkpoint import save_model
from compress.models.token_reduction import set_token_shares
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny

export_module = importlib.import_module("compress.export")  # `compress.export` is the verb


def exact(batch: dict[str, np.ndarray]) -> np.ndarray:
    """A model whose logits do not depend on padding."""
    mask = batch["attention_mask"]
    total = (batch["input_ids"] * mask).sum(axis=1)
    return np.stack([total / 100, mask.sum(axis=1) / 10], axis=1).astype(np.float32)


def with_fault(where: Any, size: float) -> Any:
    """The same model, wrong by `size` where the condition on a batch holds."""
    return lambda batch: exact(batch) + size * where(batch)


FAULTS = {
    "always": lambda batch: 1.0,
    "batch 1 only": lambda batch: float(len(batch["input_ids"]) == 1),
    "batches only": lambda batch: float(len(batch["input_ids"]) > 1),
    "padded rows only": lambda batch: (batch["attention_mask"][:, -1:] == 0).astype(np.float32),
    "the longest only": lambda batch: float(batch["input_ids"].shape[1] == int(tiny.encoded("bert", 40).lengths.max())),
    "short texts only": lambda batch: batch["attention_mask"].sum(axis=1, keepdims=True) == tiny.encoded("bert", 40).lengths.min(),
}


def test_equal_models_differ_by_nothing() -> None:
    found = verify(exact, exact, tiny.encoded("bert", 40))
    assert (found.max_abs, found.max_rel, found.agreement, found.worst_case) == (0.0, 0.0, 1.0, "none")
    assert found.examples == sum(len(positions) for positions in batches_to_try(tiny.encoded("bert", 40)).values())


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    found = verify(exact, with_fault(FAULTS[fault], 0.25), tiny.encoded("bert", 40))
    assert found.max_abs == pytest.approx(0.25, rel=1e-4)
    assert found.worst_case in found.cases


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_the_worst(value: float) -> None:
    assert verify(exact, lambda batch: exact(batch) * 0 + value, tiny.encoded()).max_abs > 1e38
    assert verify(lambda batch: exact(batch) * 0 + value, exact, tiny.encoded()).max_abs > 1e38


def test_a_swap_of_classes_shows_in_the_agreement() -> None:
    assert verify(exact, lambda batch: exact(batch)[:, ::-1], tiny.encoded("bert", 40)).agreement == 0


def test_a_wrong_mask_shows_on_a_real_model(family: str) -> None:
    """A model that takes padding for text agrees on single texts and fails on ragged batches."""
    right = torch_forward(tiny.make_model(family))
    wrong = lambda batch: right(batch | {"attention_mask": np.ones_like(batch["attention_mask"])})  # noqa: E731
    found = verify(right, wrong, tiny.encoded(family, 40))
    assert found.max_abs > 1e-2
    assert "batch 1" not in found.worst_case


def swapped_inputs(graph: onnx.ModelProto) -> None:
    """Feed types where the mask belongs, as in an exporter that takes `forward`'s order for the tokenizer's."""
    swap = {"attention_mask": "token_type_ids", "token_type_ids": "attention_mask"}
    for node in graph.graph.node:
        node.input[:] = [swap.get(name, name) for name in node.input]


def other_heads(graph: onnx.ModelProto) -> None:
    """Give every layer the first one's number of heads, as ONNX Runtime's optimizer does with `num_heads`."""
    entries = [entry for node in graph.graph.node for entry in node.attribute if entry.name == "num_heads"]
    for entry in entries:
        entry.i = entries[0].i


def poisoned_weight(graph: onnx.ModelProto) -> None:
    """Change one weight of the last layer's FFN."""
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == f"layer.{tiny.LAYERS - 1}.ffn.in.weight")
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0] += 5
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def swapped_classes(graph: onnx.ModelProto) -> None:
    """Turn the classes of the head around."""
    for name in ("classifier.weight", "classifier.bias"):
        tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[..., ::-1].copy(), name))


def no_mask(graph: onnx.ModelProto) -> None:
    """Let tokens attend to padding."""
    for node in graph.graph.node:
        if node.name == "mask.scaled":
            tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == node.input[1])
            tensor.CopyFrom(numpy_helper.from_array(np.array(0.0, dtype=np.float32), tensor.name))


@pytest.mark.parametrize(
    ("fault", "attention", "where"),
    [
        (swapped_inputs, "plain", "batch"),
        (swapped_inputs, "mha", "batch"),
        (other_heads, "mha", "batch"),
        (poisoned_weight, "plain", "batch"),
        (swapped_classes, "plain", "batch"),
        (no_mask, "plain", "(batch 2, shortest and longest|mixed padding)"),
    ],
)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_fault_in_the_graph_stops_the_export(
    fault: Any, attention: Any, where: str, runtime: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    model = tiny.make_model()
    slice_model(model, [Kept([0, 3], [1, 2]), Kept([0, 1, 2, 3], list(range(tiny.FFN))), Kept([1], [5, 6])])
    (tmp_path / "slim").mkdir()
    tiny.write_tokenizer(tmp_path / "slim")
    save_model(model, tmp_path / "slim", tmp_path / "slim")

    def faulty(model: Any, form: Any) -> onnx.ModelProto:
        graph = build_graph(model, form)
        fault(graph)
        return graph

    monkeypatch.setattr(export_module, "build_graph", faulty)
    (tmp_path / "out").mkdir()
    settings = ExportSettings(attention=attention, runtime=runtime)
    with pytest.raises(ModelError, match=rf"differs from PyTorch by \d.* on '.*{where}.*', more than 0\.001"):
        export_module.run(Inputs({"model": tmp_path / "slim"}), settings, tmp_path / "out")


def test_a_fault_in_openvino_alone_is_named(checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    right = OnnxModel.open_runtime

    def opened(self: OnnxModel, runtime: str) -> Any:
        forward = right(self, runtime)
        return (lambda batch: forward(batch)[:, ::-1]) if runtime == "openvino" else forward

    monkeypatch.setattr(OnnxModel, "open_runtime", opened)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="in OpenVINO differs from PyTorch"):
        export_module.run(Inputs({"model": checkpoint()}), ExportSettings(runtime="openvino"), tmp_path / "out")


@pytest.mark.parametrize(("target", "told"), [("class", "predictions agree on 100"), ("vector", "cosine is at least 0.9999 for 100")])
def test_what_is_announced_fits_the_target(target: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(console, "info", printed.append)
    announce_verification(Verification(1e-7, 1e-7, 1.0, 13, "none", ["all"], 1.0), "PyTorch", target)
    assert told in printed[0]


def test_what_is_remembered_is_computed_once() -> None:
    calls: list[int] = []

    def counted(batch: dict[str, np.ndarray]) -> np.ndarray:
        calls.append(1)
        return exact(batch)

    forward, data = cached_forward(counted), tiny.encoded("bert", 40)
    first, second = verify(forward, exact, data), verify(forward, exact, data)
    assert first == second
    assert first.max_abs == 0
    assert len(calls) <= len(first.cases)
    flat = {name: array.reshape(1, -1) for name, array in data.batch([3, 3]).items()}
    assert forward(flat).shape != forward(data.batch([3, 3])).shape


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 40])
def test_cases_fit_any_number_of_examples(count: int) -> None:
    data = tiny.encoded("bert", 40)
    part = Encoded(data.input_ids[:count], data.token_type_ids[:count], data.labels[:count], 0)
    cases = batches_to_try(part)
    assert all(1 <= len(positions) <= 32 and set(positions) <= set(range(count)) for positions in cases.values())
    assert part.lengths[cases["batch 1, shortest"]][0] == part.lengths.min()
    assert part.lengths[cases["batch 1, longest"]][0] == part.lengths.max()
    assert verify(exact, exact, part).agreement == 1


def test_as_json_is_plain() -> None:
    import json

    json.dumps(verify(exact, exact, tiny.encoded()).as_json())


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80))
def test_the_widest_batch_is_bounded(lengths: list[int]) -> None:
    """At most 32 texts and 4096 tokens, padding included; short texts are spread over all that fit."""
    data = Encoded([np.zeros(length, dtype=np.int64) for length in lengths], [], np.zeros(len(lengths)), 0)
    chosen = batches_to_try(data)["batch 32, mixed padding"]
    assert 1 <= len(chosen) <= 32
    assert len(chosen) == 1 or len(chosen) * data.lengths[chosen].max() <= 4096
    assert len(set(chosen.tolist())) == len(chosen)


def test_texts_whose_tokens_are_chosen_by_a_rounding_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = tiny.make_model(), tiny.encoded("bert", 40)
    set_token_shares(model, [0.7, 0.5, 0.4])
    tried = np.unique(np.concatenate(list(batches_to_try(data).values())))
    assert len(without_close_calls(data, torch_forward(model))) == len(tried)
    monkeypatch.setattr(importlib.import_module("compress.export.verify"), "CLOSE_CALL", 0.02)
    decided = without_close_calls(data, torch_forward(model))
    assert 0 < len(decided) < len(tried)
    monkeypatch.setattr(importlib.import_module("compress.export.verify"), "CLOSE_CALL", 2.0)
    assert len(without_close_calls(data.take([0, 1]), torch_forward(model))) == 2  # rather those than none
