"""The choice of a precision: measured once and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from compress.core import files, machine
from compress.settings import FinetuneSettings
from compress.training import precision as module
from compress.training.precision import autocast, choose_precision, count_matmul_shapes
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on a processor with bf16."""
    monkeypatch.setattr(module, "emulates_bf16", lambda: False)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def choose(device: torch.device = CPU, **settings: Any) -> str:
    """Choose for the tiny BERT."""
    return choose_precision(tiny.make_model(), tiny.encoded(), FinetuneSettings(**settings), device)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_explicit_precision_is_not_measured(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(module, "_time_precisions", lambda *args: pytest.fail("measured"))
    assert choose(precision=precision) == precision


@pytest.mark.parametrize(("fp32", "bf16", "expected"), [(1.0, 0.5, "bf16"), (1.0, 0.95, "fp32"), (1.0, 2.0, "fp32")])
def test_bf16_is_chosen_if_it_is_a_tenth_faster(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, expected: str) -> None:
    monkeypatch.setattr(module, "_time_precisions", lambda *args: {"fp32": fp32, "bf16": bf16})
    assert choose() == expected


def test_emulated_bf16_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "emulates_bf16", lambda: True)
    monkeypatch.setattr(module, "_time_precisions", lambda *args: pytest.fail("measured"))
    assert choose() == "fp32"


def test_fp32_if_there_are_more_matmul_shapes_than_stay_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = tiny.make_model(), tiny.encoded()
    sizes = {(linear.in_features, linear.out_features) for linear in model.modules() if isinstance(linear, torch.nn.Linear)}
    assert count_matmul_shapes(model, data, len(data)) == 3 * len(sizes)  # one batch
    assert count_matmul_shapes(model, data, 1) == 3 * len(sizes) * len(set(data.lengths.tolist()))
    monkeypatch.setattr(module, "COMPILED_MATMULS", 3)
    monkeypatch.setattr(module, "_time_precisions", lambda *args: pytest.fail("measured"))
    assert choose() == "fp32"


def test_the_choice_is_measured_once(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = choose()
    (path,) = (cache / "precision").iterdir()
    assert files.read_json(path)["measured"]["precision"] == first
    monkeypatch.setattr(module, "_time_precisions", lambda *args: pytest.fail("measured again"))
    assert choose() == first


@pytest.mark.parametrize("content", ["", "{}", "[]", "nonsense"])
def test_a_damaged_choice_is_measured_again(monkeypatch: pytest.MonkeyPatch, cache: Path, content: str) -> None:
    seconds = iter([{"fp32": 1.0, "bf16": 2.0}, {"fp32": 2.0, "bf16": 1.0}])
    monkeypatch.setattr(module, "_time_precisions", lambda *args: next(seconds))
    assert choose() == "fp32"
    (path,) = (cache / "precision").iterdir()
    path.write_text(content, encoding="utf-8")
    assert choose() == "bf16"


def test_another_processor_or_thread_count_is_measured_again(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(module, "_time_precisions", lambda *args: {"fp32": 1.0, "bf16": 1.0})
    choose()
    monkeypatch.setattr(machine, "cpu_name", lambda: "another processor")
    choose()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    choose()
    assert len(list((cache / "precision").iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    assert choose() in {"fp32", "bf16"}
    assert "nothing is cached: " in capsys.readouterr().err


def test_measuring_changes_neither_the_model_nor_the_random_state(family: str) -> None:
    model = tiny.make_model(family).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    choose_precision(model, tiny.encoded(family), FinetuneSettings(), CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_uses_bf16_if_it_supports_it(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert choose(torch.device("cuda")) == expected


def test_autocast_computes_in_the_given_precision() -> None:
    linear = torch.nn.Linear(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, CPU):
            assert linear(torch.ones(1, 4)).dtype == dtype
