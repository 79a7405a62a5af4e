"""Methods, matches, students of every shape and several teachers, by the stage on tiny tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import DataError, UsageError
from compress.data.input_spec import InputSpec
from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill import plan
from compress.distill.layer_matching import match_layers
from compress.distill.tokenization import same_tokens
from compress.models.checkpoint import load_model
from compress.models.inputs import encode_for
from compress.models.model_shape import model_shape
from compress.settings import DistillSettings
from tests import tiny
from tests.unit.distill.helpers import inputs, run, uniform_shape

Maker = Callable[..., Path]
CPU = torch.device("cpu")
LAYERED = ["hidden", "nmse", "attention", "relations", "gram", "pkd", "cka", "cofi"]


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_all_losses_together_on_every_kind(target: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    task = Task(resolve(document))
    teacher = checkpoint() if target == "class" else tiny.write_checkpoint(tmp_path / "teacher", labels=task.label_names, target=target)
    method = ["logits", *(["dkd"] if target in ("class", "tags", "span") else []), *LAYERED]
    result = run(inputs(teacher, "layers=2", document), tmp_path / "out", method=method, match="uniform")
    assert np.isfinite(result["training"]["loss"])
    assert len(result["layers"]) == 2


def test_dkd_needs_three_classes(tmp_path: Path, checkpoint: Maker) -> None:
    document = tiny.write_kind(tmp_path / "task", "labels")
    teacher = tiny.write_checkpoint(tmp_path / "teacher", labels=Task(resolve(document)).label_names, target="labels")
    with pytest.raises(UsageError, match="has no such class") as caught:
        run(inputs(teacher, "layers=2", document), tmp_path / "out", method="dkd")
    assert caught.value.exit_code == 2


def test_tinybert_goes_in_two_stages(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    settings = DistillSettings.model_validate({"method": "tinybert"})
    assert (settings.lr, settings.layer_lr, settings.layer_epochs, settings.epochs) == (3e-5, 5e-5, 10, 3)
    assert (settings.temperature, settings.hard_weight, settings.match) == (1.0, 0.0, "all")
    pairs = {(match.method, match.teacher, match.student) for match in match_layers(settings, uniform_shape(4), uniform_shape(2))}
    assert pairs == {("hidden", 0, 0), ("hidden", 2, 1), ("hidden", 4, 2), ("attention", 2, 1), ("attention", 4, 2)}
    given = inputs(checkpoint(), "layers=2", tiny_task)
    training = run(given, tmp_path / "out", method="tinybert", layer_epochs=2)["training"]
    assert (training["layer_stage"]["epochs"], training["layer_stage"]["score"], training["epochs"]) == (2, None, 1)


@pytest.mark.parametrize(
    ("student", "more", "settings", "message"),
    [
        (None, 0, {"method": "theseus"}, "initialised from the teacher's layers"),
        ("layers=2", 1, {"method": "theseus"}, "one teacher"),
        (None, 0, {"init": "random"}, "initialises a student from a SPEC"),
    ],
)
def test_what_does_not_go_together_is_refused_and_not_explained(
    student: str | None, more: int, settings: dict[str, Any], message: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    given = inputs(checkpoint(), student or checkpoint(), tiny_task, *[checkpoint()] * more)
    with pytest.raises(UsageError, match=message):
        run(given, tmp_path / "out", **settings)
    with pytest.raises(UsageError, match=message):
        plan(given, DistillSettings.model_validate(settings))


def test_a_smaller_vocabulary_has_a_tokenizer_of_its_own(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    given = inputs(checkpoint(), "layers=2,vocab=70", tiny_task)
    run(given, tmp_path / "out", method=["logits", "hidden", "pkd"])
    student = load_model(tmp_path / "out")
    assert student.config.vocab_size <= 70
    examples = given.task.split("train")
    cut = [encode_for(folder, examples, InputSpec(max_length=32)) for folder in (tmp_path / "out", checkpoint())]
    same = same_tokens(*cut, tmp_path / "out", checkpoint())
    assert all(len(a) == len(b) for a, b, agree in zip(cut[0].input_ids, cut[1].input_ids, same, strict=True) if agree)
    with pytest.raises(UsageError, match="less than the .* tokens that must stay"):
        run(inputs(checkpoint(), "layers=2,vocab=10", tiny_task), tmp_path / "few")


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("layers=4", {}, "a student of 4 layers cannot be taken from a teacher of 3"),
        ("layers=2,hidden=64", {}, "hidden=64 cannot be initialised from a teacher with 32"),
        ("layers=2,hidden=27", {}, "4 heads: they do not divide"),
        ("layers=2,hidden=16", {"init": "layers"}, "copies whole layers"),
    ],
)
def test_students_that_cannot_be(
    spec: str, settings: dict[str, Any], message: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run(inputs(checkpoint(), spec, tiny_task), tmp_path / "out", **settings)


def test_a_student_of_random_weights_may_be_larger(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    run(inputs(checkpoint(), "layers=4,hidden=64", tiny_task), tmp_path / "out", init="random")
    assert model_shape(load_model(tmp_path / "out")).hidden == 64


def test_a_student_of_another_tokenizer_learns_from_whole_texts(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    given = inputs(checkpoint(), checkpoint("roberta"), tiny_task)
    run(given, tmp_path / "out", method=["logits", "pkd"], match="uniform")
    assert load_model(tmp_path / "out").config.model_type == "roberta"
    with pytest.raises(DataError, match="different tokenizers, and method gram"):
        run(given, tmp_path / "gram", method=["logits", "gram"])
    document = tiny.write_kind(tmp_path / "task", "tags")
    labels = Task(resolve(document)).label_names
    folders = [tiny.write_checkpoint(tmp_path / name, name, labels=labels, target="tags") for name in ("bert", "roberta")]
    with pytest.raises(DataError, match="has a prediction for each token"):
        run(inputs(folders[0], folders[1], document), tmp_path / "tags", method="logits")
