"""The modes of `finetune`: which weights they change, and every kind of task in each mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from compress import training
from compress.core.errors import ModelError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.models.adapters import adapter_size
from compress.models.checkpoint import load_model
from compress.models.family import family_of
from compress.models.model_shape import count_params
from compress.settings import MODE_DEFAULTS, FinetuneSettings
from compress.stage import Inputs
from tests import tiny

MODES = ("frozen", "lora", "adapter")


def finetune(source: Path, document: dict[str, Any], output: Path, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    options = FinetuneSettings(**{"precision": "fp32", "device": "cpu", "batch_size": 8, "epochs": 1, "max_examples": 24, **settings})
    return training.run(Inputs({"model": source}, 0, Task(resolve(document))), options, output)


def changed(source: Path, output: Path) -> set[str]:
    """Return the names of the weights that differ between source and output."""
    before, after = (load_model(folder).state_dict() for folder in (source, output))
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_changes_only_its_weights(mode: str, tiny_task: dict[str, Any], family: str, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", family)
    result = finetune(source, tiny_task, tmp_path / "out", mode=mode, lr=1e-2)
    row = family_of(family)
    head = {name for name in load_model(source).state_dict() if name.startswith(row.head_parts("class"))}
    different = changed(source, tmp_path / "out")
    updates = {name for name in different if f".{row.query}." in name or f".{row.value}." in name}
    norms = {name for name in different if "norm" in name.lower()}
    assert head <= different
    assert different - head == {"frozen": set(), "lora": updates, "adapter": norms}[mode]
    assert len(updates) == (2 * tiny.LAYERS if mode == "lora" else 0)  # weights, not biases
    assert result["training"]["mode"] == mode
    assert adapter_size(load_model(tmp_path / "out")) == (64 if mode == "adapter" else 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
def test_every_kind_of_task_in_every_mode(mode: str, target: str, tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder", "electra")
    result = finetune(source, tiny.write_kind(tmp_path / "data", target), tmp_path / "out", mode=mode)
    assert result["params"] == count_params(load_model(tmp_path / "out"))
    best, final = result["training"]["score"], result["metrics"]["validation"]
    if mode != "frozen":  # whose cached states of all tokens are rounded
        assert best in final.values()
    assert result["training"]["epochs"] == 1


def test_trained_parameters_are_counted(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    hidden, layers = tiny.HIDDEN, tiny.LAYERS
    head = hidden * (hidden + 1) + len(tiny.LABELS) * (hidden + 1)  # pooler and classifier
    expected = {
        "frozen": head,
        "lora": head + layers * 2 * 2 * 3 * hidden,
        "adapter": head + layers * 2 * (2 * 5 * hidden + 5 + hidden) + (2 * layers + 1) * 2 * hidden,
    }
    options: dict[str, dict[str, int]] = {"lora": {"lora_rank": 3}, "adapter": {"adapter_size": 5}}
    for mode, count in expected.items():
        training = finetune(source, tiny_task, tmp_path / mode, mode=mode, **options.get(mode, {}))["training"]
        assert training["trained_params"] == count
        assert 0 < training["trained_share"] < 0.7
    full = finetune(source, tiny_task, tmp_path / "full")["training"]
    assert (full["mode"], full["trained_share"]) == ("full", 1.0)


@pytest.mark.parametrize("mode", MODES)
def test_modes_learn(mode: str, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    result = finetune(source, tiny_task, tmp_path / "out", mode=mode, epochs=8, lr=1e-2, max_examples=None)
    assert result["metrics"]["validation"]["accuracy"] >= 0.5  # chance is 1/3


@pytest.mark.parametrize("mode", MODES)
def test_the_result_depends_on_the_seed_alone(mode: str, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    for name in "ab":
        torch.manual_seed(ord(name))
        finetune(source, tiny_task, tmp_path / name, mode=mode)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_a_model_with_adapters_keeps_them(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    """In every mode; adapters of another size or for other labels are refused."""
    source = tiny.write_encoder(tmp_path / "encoder")
    finetune(source, tiny_task, tmp_path / "first", mode="adapter", adapter_size=4)
    for mode in ("full", *MODES):
        options = {"adapter_size": 4} if mode == "adapter" else {}
        finetune(tmp_path / "first", tiny_task, tmp_path / mode, mode=mode, lr=1e-2, **options)
        different = changed(tmp_path / "first", tmp_path / mode)
        assert adapter_size(load_model(tmp_path / mode)) == 4
        assert any(".adapter." in name for name in different) == (mode in ("full", "adapter"))
    with pytest.raises(UsageError, match="already has adapters of size 4, not 64"):
        finetune(tmp_path / "first", tiny_task, tmp_path / "other", mode="adapter")
    with pytest.raises(ModelError, match="with adapters for other labels"):
        load_model(tmp_path / "first", ["a", "b"])


def test_defaults_depend_on_the_mode() -> None:
    for mode, defaults in MODE_DEFAULTS.items():
        settings = FinetuneSettings.model_validate({"mode": mode})
        assert {key: getattr(settings, key) for key in defaults} == defaults
        assert FinetuneSettings.model_validate({"mode": mode, "epochs": 7, "lr": 0.5}).epochs == 7
    assert FinetuneSettings.model_validate({}) == FinetuneSettings.model_validate({"epochs": 3})


@pytest.mark.parametrize(
    ("mode", "key"),
    [(mode, key) for mode in MODE_DEFAULTS for key in ("lora_rank", "lora_alpha", "adapter_size") if not key.startswith(mode)],
)
def test_a_setting_of_another_mode_is_refused(mode: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} goes with mode {key.partition('_')[0]}, not {mode}"):
        FinetuneSettings.model_validate({"mode": mode, key: 4})
