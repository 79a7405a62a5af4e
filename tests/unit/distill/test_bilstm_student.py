"""BiLSTM students: their initial word embeddings, and what they learn."""

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
from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill import plan
from compress.distill.bilstm_student import create_bilstm, principal_components
from compress.distill.student_spec import shape_of_student
from compress.models.bilstm import BiLstmConfig
from compress.models.checkpoint import load_model
from compress.models.head import model_labels
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.model_shape import model_shape
from compress.models.shape import LstmShape, lstm_shape
from compress.settings import DistillSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.distill import helpers
from tests.unit.distill.helpers import inputs

Maker = Callable[..., Path]
SPEC = "lstm=6,embedding=8,ffn=5"
SMALL = lstm_shape(LstmShape(8, 6, 5))


def run(stage_inputs: Inputs, output: Path, **settings: Any) -> Any:
    """Run the stage for an epoch, with the default precision and learning rate."""
    return helpers.run(stage_inputs, output, **{"precision": ..., "lr": ..., **settings})


def options(**given: Any) -> DistillSettings:
    return DistillSettings.model_validate(given)


def test_a_student_starts_with_the_teachers_embeddings_and_labels() -> None:
    teacher = tiny.make_model("roberta")
    student = create_bilstm(teacher, LstmShape(8, 6, 5), "auto")
    assert model_shape(student) == SMALL
    assert model_labels(student) == tiny.LABELS
    config: BiLstmConfig = student.config
    assert (config.pad_token_id, config.max_position_embeddings) == (1, tiny.POSITIONS)  # RoBERTa's table has two more rows
    assert torch.equal(word_embeddings(student).weight, principal_components(word_embeddings(teacher).weight.detach(), 8))


@pytest.mark.parametrize("width", [3, 16, 40])
def test_principal_components_are_those_of_an_svd(width: int) -> None:
    """They are those of a truncated SVD, up to their signs and scale."""
    table = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 17) + 5
    components = principal_components(table, width)
    assert components.shape == (200, min(width, 16))
    assert float(components.square().mean()) == pytest.approx(1)
    centred = table - table.mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    best = (left * values)[:, :width]
    np.testing.assert_allclose(components.abs() * best.square().mean().sqrt(), best.abs(), rtol=0, atol=1e-3)


def test_embeddings_wider_than_the_teachers_are_random_beyond() -> None:
    teacher = tiny.make_model()
    words = word_embeddings(create_bilstm(teacher, LstmShape(48, 6, 5), "auto")).weight.detach()
    assert torch.equal(words[:, : tiny.HIDDEN], principal_components(word_embeddings(teacher).weight.detach(), 48))
    assert float(words[:, tiny.HIDDEN :].std()) == pytest.approx(1, abs=0.1)


def test_random_embeddings_and_those_of_a_factorized_teacher() -> None:
    teacher = tiny.make_model()
    torch.manual_seed(0)
    words = word_embeddings(create_bilstm(teacher, LstmShape(8, 6, 5), "random")).weight.detach()
    assert float(words.std()) == pytest.approx(1, abs=0.1)
    old = word_embeddings(teacher)
    set_word_embeddings(teacher, FactoredEmbedding(old.num_embeddings, old.embedding_dim, 5))
    words = word_embeddings(create_bilstm(teacher, LstmShape(8, 6, 5), "auto")).weight.detach()
    assert int(torch.linalg.matrix_rank(words)) == 5


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_it_learns_every_kind(target: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    names = Task(resolve(document)).label_names
    teacher = checkpoint() if target == "class" else tiny.write_checkpoint(tmp_path / "teacher", labels=names, target=target)
    result = run(inputs(teacher, SPEC, document), tmp_path / "out")
    assert np.isfinite(result["training"]["loss"])
    assert (result["layers"], result["training"]["precision"]) == ([], "fp32")
    reloaded = load_model(tmp_path / "out")
    assert (model_shape(reloaded), model_labels(reloaded)) == (SMALL, names)


def test_it_predicts_as_its_teacher_after_some_epochs(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    settings = {"lr": 2e-2, "hard_weight": 0.0}  # labels of a random teacher would set a floor
    losses = [run(inputs(checkpoint(), SPEC, tiny_task), tmp_path / str(epochs), epochs=epochs, **settings) for epochs in (1, 12)]
    assert losses[1]["training"]["loss"] < 0.7 * losses[0]["training"]["loss"]


def test_augmented_texts_fewer_tokens_seeds_and_dkd(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    whole = len(tiny.vocabulary())
    result = run(inputs(checkpoint(), f"{SPEC},vocab={whole - 10}", tiny_task), tmp_path / "out", augment=1, method="dkd", seeds=[0, 1])
    assert [model["folder"] for model in result["models"]] == ["seed-0", "seed-1"]
    first, second = (load_model(tmp_path / "out" / f"seed-{seed}") for seed in (0, 1))
    assert first.config.vocab_size <= whole - 10
    assert not torch.equal(first.bilstm.lstm.weight_ih_l0, second.bilstm.lstm.weight_ih_l0)


def test_the_same_seed_is_the_same_student(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(inputs(checkpoint(), SPEC, tiny_task), tmp_path / name)
    first, second = (load_model(tmp_path / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_bilstm_can_be_teacher_and_be_trained_further(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    folder = tiny.write_bilstm(tmp_path / "bilstm")
    run(inputs(folder, SPEC, tiny_task), tmp_path / "smaller")
    run(inputs(checkpoint(), folder, tiny_task), tmp_path / "further")
    run(inputs(folder, checkpoint(), tiny_task, checkpoint("roberta")), tmp_path / "encoder")
    assert model_shape(load_model(tmp_path / "further")) == model_shape(load_model(folder))
    assert load_model(tmp_path / "encoder").config.model_type == "bert"


@pytest.mark.parametrize("spec", ["layers=2", "hidden=16", "vocab=100"])
@pytest.mark.parametrize("init", ["auto", "random"])
def test_a_bilstm_has_no_layers_for_a_student(spec: str, init: str) -> None:
    teacher = tiny.make_bilstm()
    with pytest.raises(UsageError, match="has no layers to initialise a student from"):
        shape_of_student(spec, model_shape(teacher), init)


@pytest.mark.parametrize("init", ["layers", "importance"])
def test_it_cannot_be_initialised_from_layers(init: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for start in (lambda given: plan(given, options(init=init)), lambda given: run(given, tmp_path / "out", init=init)):
        with pytest.raises(UsageError, match=f"init {init} copies layers"):
            start(inputs(checkpoint(), SPEC, tiny_task))


def test_explain_names_the_losses(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = plan(inputs(checkpoint(), "lstm=6", tiny_task), options())
    assert document["student"] == {"hidden": 12, "head_size": 0, "layers": [], "lstm": {"embedding": 300, "units": 6, "ffn": 200}}
    assert [row["method"] for row in document["matches"]] == ["logits", "labels"]
    files = ["--train", tiny_task["train"], "--validation", tiny_task["validation"], "--text", "text"]
    command = ["distill", "--teacher", str(checkpoint()), "--student", "bilstm", *files, "--explain"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "student: BiLSTM with 2 x 150 units, embedding size 300, 200 neurons" in result.output
    assert "method logits only" in result.output
