"""The stage `prune` on the tiny task."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError, ModelError, UsageError
from compress.data import resolve
from compress.data.examples import Examples
from compress.data.task import Task
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.models.checkpoint import load_model, save_model
from compress.models.inputs import calibration_examples
from compress.models.model_shape import count_params, model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune import run as prune
from compress.prune.joint_refit import STATES, refit_lr
from compress.prune.refits import Refitter
from compress.prune.search import Kept, counted_costs
from compress.prune.structured import Pruner
from compress.prune.surgery import slice_model
from compress.settings import PruneSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
module = importlib.import_module("compress.prune.structured")


def run(source: Path, document: dict[str, Any], output: Path, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    options = PruneSettings(**{"device": "cpu", **settings})
    return prune(Inputs({"model": source}, seed, Task(resolve(document))), options, output)


@pytest.mark.parametrize("method", ["fisher", "obs", "taylor", "magnitude", "random"])
def test_the_target_is_kept_and_told_truly(tiny_task: dict[str, Any], checkpoint: Maker, family: str, method: str, tmp_path: Path) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", target_flops=0.5, method=method)
    model = load_model(tmp_path / "out")
    shape, seq_len = model_shape(model), result["target"]["seq_len"]
    dense = model_shape(load_model(checkpoint(family))).flops(seq_len)
    assert result["layers"] == shape.as_json()
    assert result["layers_before"] == [{"heads": tiny.HEADS, "ffn": tiny.FFN}] * tiny.LAYERS
    assert result["flops"] == shape.flops(seq_len) <= 0.5 * dense == 0.5 * result["flops_before"]
    assert result["flops"] > 0.3 * dense
    assert result["predicted_speedup"] == pytest.approx(dense / result["flops"], abs=1e-3)
    assert result["measured_speedup"] > 0
    assert result["params"] == count_params(model)
    assert result["metrics"]["validation"]["n"] == 24


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_parameters_as_target(tiny_task: dict[str, Any], checkpoint: Maker, share: float, tmp_path: Path) -> None:
    run(checkpoint(), tiny_task, tmp_path / "out", target_params=share, seq_len=10)
    shape, dense = model_shape(load_model(tmp_path / "out")), model_shape(load_model(checkpoint()))
    biases = 2 * tiny.HIDDEN * tiny.LAYERS
    assert shape.params() - biases <= share * (dense.params() - biases)


def test_length_for_counting_is_the_tasks_mean_or_what_is_asked(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    from compress.data.input_spec import InputSpec
    from compress.models.inputs import encode_for

    lengths = encode_for(checkpoint(), Task(resolve(tiny_task)).split("train"), InputSpec(max_length=32)).lengths
    assert run(checkpoint(), tiny_task, tmp_path / "a", target_flops=0.5)["target"] == {"flops": 0.5, "seq_len": round(lengths.mean())}
    assert run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.5, seq_len=100)["target"]["seq_len"] == 100


def test_the_same_seed_makes_the_same_model(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(checkpoint(), tiny_task, tmp_path / name, seed, target_flops=0.4, calib_samples=9)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c  # other calibration examples


def test_a_pruned_model_can_be_pruned_again(tiny_task: dict[str, Any], checkpoint: Maker, family: str, tmp_path: Path) -> None:
    first = run(checkpoint(family), tiny_task, tmp_path / "a", target_flops=0.5, seq_len=20)
    second = run(tmp_path / "a", tiny_task, tmp_path / "b", target_flops=0.5, seq_len=20)
    assert second["layers_before"] == first["layers"]
    assert second["flops"] <= 0.25 * first["flops_before"]


def test_a_target_below_one_unit_is_a_usage_error(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="so small"):
        run(checkpoint(), tiny_task, tmp_path / "out", target_flops=1e-6)


def test_an_onnx_artifact_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    write_artifact(build_graph(load_model(checkpoint())), checkpoint(), tmp_path / "artifact")
    with pytest.raises(ModelError, match="is an ONNX artifact") as caught:
        run(tmp_path / "artifact", tiny_task, tmp_path / "out", target_flops=0.5)
    assert caught.value.exit_code == 4


def test_a_model_of_another_task_is_refused(tiny_task: dict[str, Any], own_checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not know the label"):
        run(own_checkpoint(labels=["yes", "no", "maybe"]), tiny_task, tmp_path / "out", target_flops=0.5)


def test_labels_are_matched_by_name(tiny_task: dict[str, Any], own_checkpoint: Maker, tmp_path: Path) -> None:
    """A model with its classes in another order has the same accuracy as one whose head is permuted likewise."""
    import torch
    from safetensors.torch import load_file, save_file

    plain = own_checkpoint()
    expected = run(plain, tiny_task, tmp_path / "a", target_flops=0.5, method="taylor")
    state, order = load_file(plain / "model.safetensors"), [2, 0, 1]
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][order].contiguous()
    save_file(state, plain / "model.safetensors", metadata={"format": "pt"})
    names = [tiny.LABELS[number] for number in order]
    tiny.edit_config(plain, id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)})
    found = run(plain, tiny_task, tmp_path / "b", target_flops=0.5, method="taylor")
    assert found["metrics"] == expected["metrics"]
    assert found["layers"] == expected["layers"]
    assert torch.equal(
        load_file(tmp_path / "b" / "model.safetensors")["classifier.bias"],
        load_file(tmp_path / "a" / "model.safetensors")["classifier.bias"][order],
    )


def test_calibration_examples_are_drawn_in_order_without_repeats() -> None:
    examples = Examples([(f"{number}",) for number in range(50)], np.arange(50))
    drawn = calibration_examples(examples, 20, 3)
    assert len(set(drawn.labels.tolist())) == 20
    assert drawn.labels.tolist() == sorted(drawn.labels.tolist())
    assert calibration_examples(examples, 20, 3).texts == drawn.texts
    assert calibration_examples(examples, 20, 4).texts != drawn.texts
    assert calibration_examples(examples, 50, 0) is examples
    assert calibration_examples(examples, 10**6, 0) is examples


@pytest.mark.usefixtures("flops_clock")
def test_a_speedup_is_solved_for_until_it_is_measured(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=2.0, calib_samples=24)
    assert result["measured_speedup"] == pytest.approx(2.0, rel=0.12)  # tiny layers: blocks are coarse
    assert result["target"] == {"time": 2.0, "seq_len": result["target"]["seq_len"]}
    with pytest.raises(UsageError, match="out of reach"):
        run(checkpoint(), tiny_task, tmp_path / "far", target_speedup=99.0)


@pytest.mark.usefixtures("flops_clock")
def test_several_targets_write_a_model_each_nested_in_one_another(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=[3.0, 1.5], calib_samples=24)
    assert [model["folder"] for model in result["models"]] == ["1.5x", "3x"]
    shapes = [model_shape(load_model(tmp_path / "out" / model["folder"])) for model in result["models"]]
    assert [shape.as_json() for shape in shapes] == [model["layers"] for model in result["models"]]
    for mild, hard in zip(shapes[0].layers, shapes[1].layers, strict=True):
        assert hard.heads <= mild.heads
        assert hard.ffn <= mild.ffn
    assert [point["goal"] for point in result["curve"] if "goal" in point] == ["1.5x", "3x"]


@pytest.mark.usefixtures("flops_clock")
def test_what_was_measured_on_the_way_corrects_what_is_expected(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=[3.0], calib_samples=24)
    costs = counted_costs(model_shape(load_model(checkpoint())), "flops", 20)
    shape = model_shape(load_model(tmp_path / "out"))
    alone = (2000.0 + costs.total(model_shape(load_model(checkpoint())))) / (2000.0 + costs.total(shape))
    missed = abs(result["predicted_speedup"] / result["measured_speedup"] - 1)
    assert missed < min(0.05, abs(alone / result["measured_speedup"] - 1))


@pytest.mark.usefixtures("flops_clock")
def test_a_latency_is_a_speedup_of_this_machine(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    dense = 1e-3 * (2000.0 + model_shape(load_model(checkpoint())).flops(20) ** 0.95)
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_latency_ms=dense / 2, calib_samples=24)
    assert result["measured"]["latency_ms"] == pytest.approx(dense / 2, rel=0.12)
    with pytest.raises(UsageError, match="already"):
        run(checkpoint(), tiny_task, tmp_path / "far", target_latency_ms=2 * dense)


@pytest.mark.usefixtures("flops_clock")
def test_a_drop_leads_to_the_fastest_model_within_it(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a validation that counts what is left, a drop of d points allows a share of 1 - d / 100 of the FLOPs."""
    dense = model_shape(load_model(checkpoint())).flops(20)
    monkeypatch.setattr(Refitter, "jointly", lambda refitter, model, origins: {"joint": {"flops": model_shape(model).flops(20)}})
    monkeypatch.setattr(Pruner, "validate", lambda pruner, model, *_: {"n": 1, "accuracy": model_shape(model).flops(20) / dense})
    result = run(checkpoint(), tiny_task, tmp_path / "out", max_drop=50.0, calib_samples=24, seq_len=20)
    assert 0.5 <= result["flops"] / dense < 0.7
    assert any(point["score"] < 0.5 for point in result["curve"])  # it went on until one lost too much
    assert result["refits"]["joint"] == {"flops": result["flops"]}  # of the model that is written, not of the last one tried
    with pytest.raises(UsageError, match="keeps within"):
        run(checkpoint(), tiny_task, tmp_path / "none", max_drop=0.0, calib_samples=24)


def test_texts_without_labels_calibrate_as_well(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    texts = [text for text, _ in tiny.sentences(60, seed=1)]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    unlabeled = run(checkpoint(), tiny_task, tmp_path / "a", target_flops=0.5, unlabeled=str(tmp_path / "texts.txt"))
    labeled = run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.5)
    assert unlabeled["layers"] == labeled["layers"]  # the same texts, and labels that are drawn either way
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no texts"):
        run(checkpoint(), tiny_task, tmp_path / "c", target_flops=0.5, unlabeled=str(tmp_path / "empty.txt"))


@pytest.mark.parametrize("method", ["layers", "hidden"])
@pytest.mark.parametrize("target", [{"target_flops": 0.6}, {"target_params": 0.6}, {"max_drop": 100.0}], ids=str)
def test_whole_layers_and_width_reach_their_targets(
    tiny_task: dict[str, Any], checkpoint: Maker, family: str, method: str, target: dict[str, float], tmp_path: Path
) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", method=method, seq_len=20, **target)
    shape, dense = model_shape(load_model(tmp_path / "out")), model_shape(load_model(checkpoint(family)))
    if "max_drop" in target:  # everything may go, so everything goes
        assert len(shape.layers) == 1 if method == "layers" else shape.hidden == 16
    else:
        assert shape.flops(20) <= 0.6 * dense.flops(20) or shape.params() <= 0.6 * dense.params()
    assert (len(shape.layers) < tiny.LAYERS) == (method == "layers")
    assert (shape.hidden < tiny.HIDDEN) == (method == "hidden")
    assert result["layers"] == shape.as_json()


@pytest.mark.parametrize("settings", [{"method": "vocab"}, {"method": "sparse"}, {"method": "sparse", "pattern": "2:4"}], ids=str)
def test_a_smaller_file_is_no_other_shape(
    tiny_task: dict[str, Any], checkpoint: Maker, family: str, settings: dict[str, str], tmp_path: Path
) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", **settings)
    assert model_shape(load_model(tmp_path / "out")) == model_shape(load_model(checkpoint(family)))
    if settings["method"] == "vocab":
        assert result["vocab_after"] <= result["vocab_before"]  # the tiny task uses every word
    else:
        assert result["zipped_bytes_after"] < result["zipped_bytes_before"]
        assert result["params"] == result["params_before"]
    with pytest.raises(ValueError, match="takes no target_flops"):
        PruneSettings(**{**settings, "target_flops": 0.5})


def test_texts_alone_are_enough_to_prune_by(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    """Without a training and a validation split: no score is told, and none can be a target."""
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in tiny.sentences(40)), encoding="utf-8")
    task = {key: value for key, value in tiny_task.items() if key not in ("train", "validation")}
    result = run(checkpoint(), task, tmp_path / "out", target_flops=0.5, unlabeled=str(tmp_path / "texts.txt"))
    assert result["metrics"]["validation"] == {}
    assert result["flops"] <= 0.5 * result["flops_before"]
    for method in ("obs", "hidden"):
        with pytest.raises(UsageError, match="needs labels"):
            run(checkpoint(), task, tmp_path / method, max_drop=1.0, method=method, unlabeled=str(tmp_path / "texts.txt"))


def test_a_model_with_nothing_left_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    model = load_model(checkpoint())
    slice_model(model, [Kept([], [])] * tiny.LAYERS)
    (tmp_path / "empty").mkdir()
    save_model(model, tmp_path / "empty", checkpoint())
    with pytest.raises(UsageError, match="no heads and no neurons left"):
        run(tmp_path / "empty", tiny_task, tmp_path / "out", target_flops=0.5)


def test_recovery_distils_the_dense_model(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    plain = run(checkpoint(), tiny_task, tmp_path / "a", target_flops=0.3)
    recovered = run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.3, recover_epochs=1, recover_lr=1e-3)
    assert recovered["layers"] == plain["layers"]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() != (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("when", "epochs", "expected"),
    [("after", 3, [3]), ("between", 3, [1, 1, 1]), ("between", 2, [1, 1]), ("between", 1, [1]), ("between", 10, [3, 3, 4])],
)
def test_epochs_of_recovery_after_or_between_the_steps(
    tiny_task: dict[str, Any],
    checkpoint: Maker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    epochs: int,
    expected: list[int],
) -> None:
    spent = []

    def teach(student: Any, *args: Any, resume: Any, lr_option: str) -> Any:
        assert lr_option == "--recover-lr"
        settings = args[-2]
        spent.append(settings.epochs)
        assert settings.losses == {"logits": 1.0, "nmse": STATES}
        assert settings.layers_matched == {"nmse": tuple((number, number) for number in range(1, tiny.LAYERS + 1))}
        assert settings.lr == refit_lr(student)
        assert not settings.dropout
        return SimpleNamespace(fitted=SimpleNamespace(diverged=None))

    monkeypatch.setattr(module, "teach", teach)
    run(checkpoint(), tiny_task, tmp_path / "out", target_flops=0.3, steps=3, recover=when, recover_epochs=epochs, calib_samples=24)
    assert spent == expected


def test_fisher_reports_its_refits(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_flops=0.4, steps=2)
    assert len(result["refits"]["layers"]) == tiny.LAYERS
    assert all(errors["ffn_after"] <= errors["ffn_before"] for errors in result["refits"]["layers"])
    assert run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.4, method="taylor")["refits"] == {}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_flops": 0.5, "target_speedup": 2.0},
        {"target_flops": 0.5, "steps": 2, "method": "taylor"},
        {"target_speedup": 1.0},
        {"target_flops": 0.5, "steps": 51},
    ],
    ids=str,
)
def test_one_target_and_steps_only_where_they_mean_something(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"target|steps|greater"):
        PruneSettings(**settings)


@pytest.mark.parametrize(("kind", "ratio"), [("time", "flops"), ("params", "params")])
def test_a_model_of_another_width_is_predicted_by_its_size(kind: str, ratio: str) -> None:
    """The costs are of heads and neurons: they would call a narrow model as slow as the wide one."""
    before = Shape(32, 8, (LayerShape(4, 64),) * 2)
    narrow = replace(before, hidden=16)
    pruner = Pruner.__new__(Pruner)
    pruner.before, pruner.seq_len = before, 10
    pruner.settings = PruneSettings(target_params=0.5) if kind == "params" else PruneSettings(target_speedup=[2.0])
    expected = before.flops(10) / narrow.flops(10) if ratio == "flops" else before.params() / narrow.params()
    assert pruner.predicted(narrow) == pytest.approx(expected)
    assert expected > 1.5
