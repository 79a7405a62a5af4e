"""Static students: their initial token embeddings, and what they learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from compress.cli.main import cli
from compress.core.errors import UsageError
from compress.data.examples import Examples
from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill import plan
from compress.distill.init_texts import InitTexts
from compress.distill.static_student import create_static, separator
from compress.distill.student_spec import shape_of_student
from compress.distill.students import StudentInit, create_student
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.head import model_labels
from compress.models.inputs import encode_for
from compress.models.low_rank import word_embeddings
from compress.models.model_shape import model_shape
from compress.models.shape import StaticShape, static_shape
from compress.settings import DistillSettings
from tests import tiny
from tests.unit.distill.helpers import inputs, run

Maker = Callable[..., Path]
SPEC = "static=8,bigram=4,buckets=50,ffn=5"
SIZES = StaticShape(8, 4, 50, 5)


def init_texts(folder: Path, document: dict[str, Any]) -> InitTexts:
    """Return the training texts."""
    task = Task(resolve(document))
    return InitTexts(task.split("train"), folder, task.spec.input_spec, 0)


def test_it_starts_with_the_teachers_labels_and_special_tokens(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    folder = checkpoint("roberta")
    student = create_static(load_model(folder), StaticShape(8, 4, 50, 5, texts=2), "auto", init_texts(folder, tiny_task))
    assert model_shape(student) == static_shape(StaticShape(8, 4, 50, 5, texts=2))
    assert model_labels(student) == tiny.LABELS
    assert (student.config.pad_token_id, student.config.max_position_embeddings) == (1, tiny.POSITIONS)
    assert student.config.sep_token_id == separator(folder) == tiny.vocabulary("roberta").index("</s>")


def test_random_and_wider_embeddings(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    folder = checkpoint()
    texts, teacher = init_texts(folder, tiny_task), load_model(folder)
    words = word_embeddings(create_static(teacher, SIZES, "random", texts)).weight.detach()
    assert float(words.std()) == pytest.approx(1, abs=0.1)
    assert word_embeddings(create_static(teacher, StaticShape(40, 4, 50, 5), "auto", texts)).weight.shape[1] == 40


@pytest.mark.parametrize("target", ["class", "labels", "value"])
def test_it_learns_every_kind_of_whole_texts(target: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    names = Task(resolve(document)).label_names
    teacher = checkpoint() if target == "class" else tiny.write_checkpoint(tmp_path / "teacher", labels=names, target=target)
    result = run(inputs(teacher, SPEC, document), tmp_path / "out", precision=..., lr=...)
    assert np.isfinite(result["training"]["loss"])
    assert (result["layers"], result["training"]["precision"]) == ([], "fp32")
    reloaded = load_model(tmp_path / "out")
    assert (model_shape(reloaded), model_labels(reloaded)) == (static_shape(SIZES), names)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_two_texts_are_compared(family: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = {**tiny_task, "text": ["text", "label"]}
    result = run(inputs(checkpoint(family), SPEC, document), tmp_path / "out")
    assert np.isfinite(result["training"]["loss"])
    model = load_model(tmp_path / "out")
    assert (model.config.texts, model.static.dense.in_features) == (2, 4 * 12)
    first, second = open_predictor(tmp_path / "out")([("the dog", "tea"), ("tea", "the dog")])
    assert first.score != second.score


@pytest.mark.parametrize("target", ["tags", "span"])
def test_predictions_of_tokens_are_a_usage_error(target: str, tmp_path: Path) -> None:
    document = tiny.write_kind(tmp_path / "task", target)
    teacher = tiny.write_checkpoint(tmp_path / "teacher", labels=Task(resolve(document)).label_names, target=target)
    for start in (lambda given: plan(given, DistillSettings()), lambda given: run(given, tmp_path / "out")):
        with pytest.raises(UsageError, match="has a prediction for each token") as caught:
            start(inputs(teacher, SPEC, document))
        assert caught.value.exit_code == 2


def test_it_predicts_as_its_teacher_after_some_epochs(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    settings = {"lr": 1e-2, "hard_weight": 0.0}  # labels of a random teacher would set a floor
    losses = [run(inputs(checkpoint(), SPEC, tiny_task), tmp_path / str(epochs), epochs=epochs, **settings) for epochs in (1, 20)]
    assert losses[1]["training"]["loss"] < 0.7 * losses[0]["training"]["loss"]


def test_inputs_may_be_longer_than_the_teachers(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    run(inputs(checkpoint(), SPEC, {**tiny_task, "max_length": 2 * tiny.POSITIONS}), tmp_path / "out")
    assert read_config(tmp_path / "out")["max_position_embeddings"] == 2 * tiny.POSITIONS
    words = ["red"] * tiny.POSITIONS
    predict = open_predictor(tmp_path / "out")
    first, second = predict([" ".join([*words, end]) for end in ("dog", "tea")])
    assert first.score != second.score


def test_it_learns_from_the_tokens_beyond_the_teachers_positions(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    folder = checkpoint()
    teacher, task = load_model(folder), Task(resolve({**tiny_task, "max_length": 2 * tiny.POSITIONS}))
    texts = InitTexts(task.split("train"), folder, task.spec.input_spec, 0)
    _, tokenizer = create_student(SPEC, teacher, folder, StudentInit(texts, tmp_path))
    assert tokenizer == tmp_path
    long = Examples([(" ".join(["red"] * 3 * tiny.POSITIONS),)], np.zeros(1))
    assert encode_for(tokenizer, long, task.spec.input_spec).lengths.tolist() == [2 * tiny.POSITIONS]
    assert create_student(SPEC, teacher, folder, StudentInit(init_texts(folder, tiny_task), tmp_path))[1] == folder


def test_augmented_texts_fewer_tokens_and_seeds(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    whole = len(tiny.vocabulary())
    result = run(inputs(checkpoint(), f"{SPEC},vocab={whole - 10}", tiny_task), tmp_path / "out", augment=1, seeds=[0, 1])
    assert [model["folder"] for model in result["models"]] == ["seed-0", "seed-1"]
    first, second = (load_model(tmp_path / "out" / f"seed-{seed}") for seed in (0, 1))
    assert first.config.vocab_size <= whole - 10
    assert not torch.equal(first.static.dense.weight, second.static.dense.weight)


def test_the_same_seed_is_the_same_student(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(inputs(checkpoint(), SPEC, tiny_task), tmp_path / name)
    first, second = (load_model(tmp_path / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_it_can_be_teacher_and_be_trained_further(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    folder = tiny.write_static(tmp_path / "static")
    run(inputs(folder, SPEC, tiny_task), tmp_path / "smaller")
    run(inputs(checkpoint(), folder, tiny_task), tmp_path / "further")
    run(inputs(folder, checkpoint(), tiny_task, checkpoint("roberta")), tmp_path / "encoder")
    assert model_shape(load_model(tmp_path / "further")) == model_shape(load_model(folder))
    assert load_model(tmp_path / "encoder").config.model_type == "bert"


@pytest.mark.parametrize("spec", ["layers=2", "hidden=16", "vocab=100"])
def test_it_has_no_layers_for_a_student(spec: str) -> None:
    with pytest.raises(UsageError, match="the teacher is a static model, which has no layers"):
        shape_of_student(spec, model_shape(tiny.make_static()))


@pytest.mark.parametrize("init", ["layers", "importance"])
def test_it_cannot_be_initialised_from_layers(init: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for start in (lambda given: plan(given, DistillSettings(init=init)), lambda given: run(given, tmp_path / "out", init=init)):
        with pytest.raises(UsageError, match=f"init {init} copies layers, and a static model has none"):
            start(inputs(checkpoint(), SPEC, tiny_task))


def test_explain_names_sizes_and_losses(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    document = plan(inputs(checkpoint(), SPEC, tiny_task), DistillSettings())
    assert document["student"]["static"] == {"embedding": 8, "bigram": 4, "buckets": 50, "ffn": 5, "texts": 1}
    assert [row["method"] for row in document["matches"]] == ["logits", "labels"]
    files = ["--train", tiny_task["train"], "--validation", tiny_task["validation"], "--text", "text"]
    result = CliRunner().invoke(cli, ["distill", "--teacher", str(checkpoint()), "--student", "static", *files, "--explain"])
    assert result.exit_code == 0, result.output
    assert "student: static model with embedding size 256, bigrams" in result.output
    assert "a static model has no layers to match: method logits only" in result.output
