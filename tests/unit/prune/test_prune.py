"""The stage `prune` on the tiny task: what is written, what is reported, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from compress.core.errors import DataError, ModelError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.models.checkpoint import load_model, save_model
from compress.models.model_shape import count_params, model_shape
from compress.prune import _missed, plan, plan_targets
from compress.prune import run as prune
from compress.prune.curve import Pruned
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.prune.targets import PruneTarget
from compress.settings import PruneSettings
from compress.stage import Inputs
from tests import tiny
from tests.conftest import FAMILIES
from tests.unit.prune.fakes import Maker, context_of, fake_cost, fake_cost_model, run


@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "obs"), *zip(FAMILIES, ["fisher", "obs", "magnitude", "random"], strict=True), ("roberta", "taylor")],
)
def test_the_target_is_reached_and_reported(tiny_task: dict[str, Any], checkpoint: Maker, family: str, method: str, tmp_path: Path) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", target_flops=0.5, method=method)
    model, dense = load_model(tmp_path / "out"), model_shape(tiny.make_model(family))
    shape, seq_len = model_shape(model), result["target"]["seq_len"]
    assert result["layers"] == shape.as_json()
    assert result["layers_before"] == [{"heads": tiny.HEADS, "ffn": tiny.FFN}] * tiny.LAYERS
    assert result["flops_before"] == dense.flops(seq_len)
    assert 0.3 * dense.flops(seq_len) < result["flops"] == shape.flops(seq_len) <= 0.5 * dense.flops(seq_len)
    assert result["predicted_speedup"] == pytest.approx(dense.flops(seq_len) / result["flops"], abs=1e-3)
    assert result["measured_speedup"] == pytest.approx(fake_cost(dense) / fake_cost(shape), abs=1e-3)
    assert result["params"] == count_params(model) < count_params(tiny.make_model(family))
    assert result["metrics"]["validation"]["n"] == 24
    assert result["curve"][-1]["score"] == result["metrics"]["validation"]["accuracy"]


def test_the_stage_times_models_on_the_real_clock(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    """The only run here that measures: whatever the machine does meanwhile, the ratio lies within its interval."""
    (tmp_path / "out").mkdir()
    settings = PruneSettings(target_flops=0.5, method="magnitude", device="cpu")
    result = prune(Inputs({"model": checkpoint()}, 0, Task(resolve(tiny_task))), settings, tmp_path / "out")
    low, high = result["measured"]["ci95"]
    assert 0 < low <= high
    assert low - 1e-3 <= result["measured_speedup"] <= high + 1e-3
    assert result["measured"]["latency_ms"] > 0
    assert result["curve"][-1]["measured_speedup"] == pytest.approx(result["measured_speedup"], abs=1e-3)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_parameters_as_target(tiny_task: dict[str, Any], checkpoint: Maker, share: float, tmp_path: Path) -> None:
    run(checkpoint(), tiny_task, tmp_path / "out", target_params=share, seq_len=10, refit=False)
    shape, dense = model_shape(load_model(tmp_path / "out")), model_shape(tiny.make_model())
    biases = 2 * tiny.HIDDEN * tiny.LAYERS
    assert shape.params() - biases <= share * (dense.params() - biases)


def test_the_same_seed_gives_the_same_model(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(checkpoint(), tiny_task, tmp_path / name, seed, target_flops=0.4, calib_samples=9)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c  # other calibration examples


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_a_pruned_model_can_be_pruned_again(tiny_task: dict[str, Any], checkpoint: Maker, family: str, tmp_path: Path) -> None:
    first = run(checkpoint(family), tiny_task, tmp_path / "a", target_flops=0.5, seq_len=20)
    second = run(tmp_path / "a", tiny_task, tmp_path / "b", target_flops=0.5, seq_len=20)
    assert second["layers_before"] == first["layers"]
    assert second["flops"] <= 0.25 * first["flops_before"]


def test_several_targets_write_a_model_each_nested_in_one_another(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=[3.0, 1.5], calib_samples=24)
    assert [model["folder"] for model in result["models"]] == ["1.5x", "3x"]
    shapes = [model_shape(load_model(tmp_path / "out" / model["folder"])) for model in result["models"]]
    assert [shape.as_json() for shape in shapes] == [model["layers"] for model in result["models"]]
    for mild, strong in zip(shapes[0].layers, shapes[1].layers, strict=True):
        assert strong.heads <= mild.heads
        assert strong.ffn <= mild.ffn
    assert [point["target"] for point in result["curve"] if "target" in point] == ["1.5x", "3x"]


def test_labels_are_matched_by_name(tiny_task: dict[str, Any], own_checkpoint: Maker, tmp_path: Path) -> None:
    """A model with its classes in another order has the same accuracy as one whose head is permuted likewise."""
    import torch
    from safetensors.torch import load_file, save_file

    source = own_checkpoint()
    expected = run(source, tiny_task, tmp_path / "a", target_flops=0.5, method="taylor")
    state, order = load_file(source / "model.safetensors"), [2, 0, 1]
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][order].contiguous()
    save_file(state, source / "model.safetensors", metadata={"format": "pt"})
    names = [tiny.LABELS[number] for number in order]
    tiny.edit_config(source, id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)})
    result = run(source, tiny_task, tmp_path / "b", target_flops=0.5, method="taylor")
    assert result["metrics"] == expected["metrics"]
    assert result["layers"] == expected["layers"]
    assert torch.equal(
        load_file(tmp_path / "b" / "model.safetensors")["classifier.bias"],
        load_file(tmp_path / "a" / "model.safetensors")["classifier.bias"][order],
    )


def test_texts_without_labels_calibrate_as_well(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    texts = [text for text, _ in tiny.sentences(60, seed=1)]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    unlabeled = run(checkpoint(), tiny_task, tmp_path / "a", target_flops=0.5, unlabeled=str(tmp_path / "texts.txt"))
    labeled = run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.5)
    assert unlabeled["layers"] == labeled["layers"]  # the same texts, and labels that are sampled either way
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no texts"):
        run(checkpoint(), tiny_task, tmp_path / "c", target_flops=0.5, unlabeled=str(tmp_path / "empty.txt"))


def test_texts_alone_are_enough_to_prune(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    """Without a training and a validation split: no score is reported, and none can be a target."""
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in tiny.sentences(40)), encoding="utf-8")
    task = {key: value for key, value in tiny_task.items() if key not in ("train", "validation")}
    texts = {"unlabeled": str(tmp_path / "texts.txt")}
    result = run(checkpoint(), task, tmp_path / "out", target_flops=0.5, **texts)
    assert result["metrics"]["validation"] == {}
    assert result["flops"] <= 0.5 * result["flops_before"]
    for method in ("obs", "hidden"):
        settings = PruneSettings(max_drop=1.0, method=method, device="cpu", **texts)
        with pytest.raises(UsageError, match="needs labels"):  # before a latency table is measured
            prune(Inputs({"model": checkpoint()}, 0, Task(resolve(task))), settings, tmp_path / method)


def test_layers_are_not_chosen_without_labels(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("some text", encoding="utf-8")
    with pytest.raises(UsageError, match="judges by labels"):
        context_of(checkpoint(), tiny_task, method="layers", target_flops=0.5, unlabeled=str(tmp_path / "texts.txt"))


def test_an_onnx_artifact_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    write_artifact(build_graph(tiny.make_model()), checkpoint(), tmp_path / "artifact")
    with pytest.raises(ModelError, match="is an ONNX artifact") as caught:
        run(tmp_path / "artifact", tiny_task, tmp_path / "out", target_flops=0.5)
    assert caught.value.exit_code == 4


def test_a_model_of_another_task_is_refused(tiny_task: dict[str, Any], own_checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not know the label"):
        run(own_checkpoint(labels=["yes", "no", "maybe"]), tiny_task, tmp_path / "out", target_flops=0.5)


def test_a_model_without_units_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    model = tiny.make_model()
    slice_model(model, [Kept([], [])] * tiny.LAYERS)
    (tmp_path / "empty").mkdir()
    save_model(model, tmp_path / "empty", checkpoint())
    with pytest.raises(UsageError, match="no heads and no neurons left"):
        run(tmp_path / "empty", tiny_task, tmp_path / "out", target_flops=0.5)


def test_a_target_below_one_unit_is_a_usage_error(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="so small"):
        run(checkpoint(), tiny_task, tmp_path / "out", target_flops=1e-6, steps=1)


def test_refits_are_reported(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_flops=0.4, steps=2)
    assert len(result["refits"]["layers"]) == tiny.LAYERS
    assert all(errors["ffn_after"] <= errors["ffn_before"] for errors in result["refits"]["layers"])
    assert run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.4, method="taylor")["refits"] == {}


def test_a_plan_predicts_what_one_step_would_cut(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_speedup=[2.0, 1.5])
    cost_model = fake_cost_model(context)
    document = plan_targets(context, cost_model)
    assert [entry["target"] for entry in document["plans"]] == ["1.5x", "2x"]
    for entry, speedup in zip(document["plans"], (1.5, 2.0), strict=True):
        assert entry["predicted_speedup"] >= speedup
        assert entry["predicted_latency_ms"] == pytest.approx(document["latency_ms"] / entry["predicted_speedup"])
        assert 0 < entry["flops_kept"] < 1


@pytest.mark.parametrize("options", [{"method": "layers", "target_flops": 0.5}, {"max_drop": 1.0}, {"method": "vocab"}], ids=str)
def test_only_given_sizes_of_units_have_a_plan(tiny_task: dict[str, Any], checkpoint: Maker, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no plan"):
        plan(Inputs({"model": checkpoint()}, 0, Task(resolve(tiny_task))), PruneSettings(**options))


@pytest.mark.parametrize(("measured", "missed"), [(2.44, True), (2.92, True), (2.95, False), (3.4, False)])
def test_a_speedup_below_its_target_is_a_miss(measured: float, missed: bool) -> None:
    pruned = Pruned(PruneTarget("3x", 1.0, speedup=3.0), torch.nn.Identity(), 3.0, measured, [measured - 0.1, measured + 0.1], {}, {})  # type: ignore[arg-type]
    assert bool(_missed(pruned)) == missed
