"""Students initialised with the most important parts of their teacher, or at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.data.input_spec import InputSpec
from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill.importance_init import initialize_by_importance, low_rank_factors
from compress.distill.init_texts import InitTexts
from compress.models.checkpoint import load_model
from compress.models.device import to_tensors
from compress.models.head import model_labels
from compress.models.model_shape import model_shape
from compress.models.sharing import owners_of
from tests import tiny
from tests.conftest import FAMILIES
from tests.unit.distill.helpers import inputs, run

Maker = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.mark.parametrize(("family", "init"), [*((family, "importance") for family in FAMILIES), ("bert", "auto"), ("electra", "random")])
def test_a_narrower_student_of_every_family_is_a_plain_checkpoint(
    family: str, init: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    import transformers

    spec = "layers=2,hidden=24,heads=2,ffn=40"
    result = run(inputs(checkpoint(family), spec, tiny_task), tmp_path / "out", init=init, method=["logits", "relations"])
    assert result["layers"] == [{"heads": 2, "ffn": 40}] * 2
    student = load_model(tmp_path / "out")
    assert (model_shape(student).hidden, model_labels(student)) == (24, tiny.LABELS)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "out"))
    batch = to_tensors(tiny.encoded(family).batch(range(3)), student, CPU)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**batch).logits, student(**batch).logits)


def test_the_teachers_own_shape_gives_the_teacher(family: str, tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    teacher = tiny.make_model(family)
    texts = InitTexts(Task(resolve(tiny_task)).split("train"), checkpoint(family), InputSpec(max_length=32), 0)
    student = initialize_by_importance(teacher, model_shape(teacher), texts)
    assert texts.divergence(student, teacher) == pytest.approx(0, abs=1e-6)


def test_low_rank_factors_are_the_nearest_of_their_size() -> None:
    """Factors of the old size or more have the same product."""
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(8, 20, generator=draw, dtype=torch.float64) for _ in range(2))
    for size in (8, 12):
        a, b = low_rank_factors(first, second, size)
        assert len(a) == len(b) == size
        torch.testing.assert_close(a.T @ b, first.T @ second)
    a, b = low_rank_factors(first, second, 5)
    values = torch.linalg.svdvals(first.T @ second)
    assert float((a.T @ b - first.T @ second).norm()) == pytest.approx(float(values[5:].norm()))  # the optimum of rank 5


@pytest.mark.parametrize(("spec", "init"), [("layers=2,hidden=16,heads=2,ffn=40", "importance"), ("layers=4,hidden=24,heads=2", "random")])
def test_an_albert_student_uses_one_layer_several_times(
    spec: str, init: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    result = run(inputs(checkpoint("albert"), spec, tiny_task), tmp_path / "out", init=init)
    student = load_model(tmp_path / "out")
    assert owners_of(student) == (0,) * len(result["layers"])
    assert "compress" not in (tmp_path / "out" / "config.json").read_text()
