"""BiLSTM students: their SPEC, their words, and what they learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import compress
from compress.cli.main import cli
from compress.core.errors import UsageError
from compress.data import resolve
from compress.data.task import Task
from compress.distill import plan
from compress.distill import run as distill
from compress.distill.layer_matching import without_layers
from compress.distill.recurrent import make_bilstm, principal_words
from compress.distill.students import LSTM, Spec, make_student, parse_spec, shape_of_student
from compress.inference.predictor import open_predictor
from compress.models.bilstm import BiLstmConfig
from compress.models.checkpoint import load_model
from compress.models.head import model_labels
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, LstmShape, Shape, lstm_shape
from compress.settings import DistillSettings
from compress.stage import STUDENTS, Inputs
from tests import tiny

Maker = Callable[..., Path]
SPEC = "lstm=6,embedding=8,ffn=5"
BERT, SMALL = Shape(32, 8, (LayerShape(4, 64),) * 3), lstm_shape(LstmShape(8, 6, 5))


def inputs(teacher: Path, student: Path | str, document: dict[str, Any], *more: Path) -> Inputs:
    return Inputs({}, 0, Task(resolve(document)), teacher, student, more)


def run(given: Inputs, output: Path, **settings: Any) -> dict[str, Any]:
    """Run the stage for an epoch."""
    output.mkdir()
    options = DistillSettings.model_validate({"device": "cpu", "batch_size": 16, "epochs": 1, **settings})
    return distill(given, options, output)


def options(**given: Any) -> DistillSettings:
    return DistillSettings.model_validate(given)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("lstm=150", LstmShape(300, 150, 200)),
        ("lstm=64,embedding=32", LstmShape(32, 64, 200)),
        ("lstm=64,ffn=7,vocab=900", LstmShape(300, 64, 7)),
        (STUDENTS["bilstm"], LSTM),
        ("layers=3", None),
    ],
)
def test_specs(spec: str, expected: LstmShape | None) -> None:
    assert parse_spec(spec).recurrent == expected
    assert Spec().recurrent is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lstm=150,layers=2", "both lstm and layers"),
        ("hidden=64,lstm=150", "both lstm and hidden"),
        ("lstm=150,heads=2", "both lstm and heads"),
        ("embedding=300", "embedding width, which goes with lstm"),
        ("layers=2,embedding=300", "embedding width, which goes with lstm"),
        ("lstm=0", "positive number of lstm"),
        ("lstm=9000", "up to 8,192"),
        ("lsm=150", "did you mean 'lstm'"),
    ],
)
def test_malformed_specs_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(spec)
    assert message in caught.value.message
    assert "lstm=150,embedding=300" in (caught.value.hint or "")


def test_a_student_starts_with_the_teachers_words_and_labels() -> None:
    teacher = tiny.make_model("roberta")
    student = make_bilstm(teacher, LstmShape(8, 6, 5), "auto")
    assert model_shape(student) == SMALL
    assert model_labels(student) == tiny.LABELS
    config: BiLstmConfig = student.config
    assert (config.pad_token_id, config.max_position_embeddings) == (1, tiny.POSITIONS)  # RoBERTa's table has two rows more
    assert torch.equal(word_embeddings(student).weight, principal_words(word_embeddings(teacher).weight.detach(), 8))


@pytest.mark.parametrize("width", [3, 16, 40])
def test_principal_words_are_the_best_of_their_width(width: int) -> None:
    """Of a rotation distances stay, and the components are those of a truncated SVD, up to their signs."""
    table = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 17) + 5
    found = principal_words(table, width)
    assert found.shape == (200, min(width, 16))
    assert float(found.square().mean()) == pytest.approx(1)
    centred = table - table.mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    best = (left * values)[:, :width]
    np.testing.assert_allclose(found.abs() * best.square().mean().sqrt(), best.abs(), rtol=0, atol=1e-3)


def test_wider_words_than_the_teachers_are_random_beyond() -> None:
    teacher = tiny.make_model()
    words = word_embeddings(make_bilstm(teacher, LstmShape(48, 6, 5), "auto")).weight.detach()
    assert torch.equal(words[:, : tiny.HIDDEN], principal_words(word_embeddings(teacher).weight.detach(), 48))
    assert float(words[:, tiny.HIDDEN :].std()) == pytest.approx(1, abs=0.1)


def test_random_words_and_those_of_a_factorized_teacher() -> None:
    teacher = tiny.make_model()
    torch.manual_seed(0)
    words = word_embeddings(make_bilstm(teacher, LstmShape(8, 6, 5), "random")).weight.detach()
    assert float(words.std()) == pytest.approx(1, abs=0.1)
    old = word_embeddings(teacher)
    set_word_embeddings(teacher, FactoredEmbedding(old.num_embeddings, old.embedding_dim, 5))
    words = word_embeddings(make_bilstm(teacher, LstmShape(8, 6, 5), "auto")).weight.detach()
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


def test_it_answers_as_its_teacher_after_some_epochs(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    settings = {"lr": 1e-2, "hard_weight": 0.0}  # labels of a random teacher would set a floor
    losses = [run(inputs(checkpoint(), SPEC, tiny_task), tmp_path / str(epochs), epochs=epochs, **settings) for epochs in (1, 20)]
    assert losses[1]["training"]["loss"] < 0.7 * losses[0]["training"]["loss"]


def test_augmented_texts_fewer_words_seeds_and_dkd(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
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


def test_a_bilstm_teaches_and_goes_on_learning(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    folder = tiny.write_bilstm(tmp_path / "bilstm")
    run(inputs(folder, SPEC, tiny_task), tmp_path / "smaller")
    run(inputs(checkpoint(), folder, tiny_task), tmp_path / "further")
    run(inputs(folder, checkpoint(), tiny_task, checkpoint("roberta")), tmp_path / "encoder")
    assert model_shape(load_model(tmp_path / "further")) == model_shape(load_model(folder))
    assert load_model(tmp_path / "encoder").config.model_type == "bert"


@pytest.mark.parametrize("spec", ["layers=2", "hidden=16", "vocab=100"])
@pytest.mark.parametrize("init", ["auto", "random"])
def test_a_bilstm_lends_no_layers(spec: str, init: str, tmp_path: Path) -> None:
    teacher = tiny.make_bilstm()
    with pytest.raises(UsageError, match="no layers to lend"):
        shape_of_student(spec, model_shape(teacher), init)
    with pytest.raises(UsageError, match="no layers to lend"):
        make_student(spec, teacher, tmp_path)


@pytest.mark.parametrize("init", ["layers", "importance"])
def test_it_starts_with_no_layers(init: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    for start in (lambda given: plan(given, options(init=init)), lambda given: run(given, tmp_path / "out", init=init)):
        with pytest.raises(UsageError, match=f"init {init} copies layers"):
            start(inputs(checkpoint(), SPEC, tiny_task))


@pytest.mark.parametrize("pair", [(BERT, SMALL), (SMALL, BERT), (SMALL, SMALL)])
def test_the_defaults_losses_of_layers_are_left_out(pair: tuple[Shape, Shape]) -> None:
    assert without_layers(options(), *pair).losses == {"logits": 1.0}
    assert without_layers(options(method=["logits", "nmse:20"]), *pair).losses == {"logits": 1.0}  # as a recipe that was written out has it
    assert without_layers(options(match="all", temperature=3.0), *pair).temperature == 3.0
    explicit = options(method=["logits:0.3", "dkd"])
    assert without_layers(explicit, *pair) is explicit


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(({"method": ["logits", name]}, f"method {name} works on layers") for name in ("nmse", "pkd", "cka", "cofi")),
        ({"method": ["logits", "hidden:2"]}, "method hidden works on layers"),
        ({"method": "theseus"}, "method theseus works on layers"),
        ({"method": "tinybert"}, "method hidden works on layers"),
        ({"layer_epochs": 2}, "layer_epochs works on layers"),
        ({"match": "nmse:0-0"}, "match nmse:0-0 works on layers"),
    ],
)
def test_losses_of_layers_that_were_asked_for_are_usage_errors(given: dict[str, Any], message: str) -> None:
    for pair in ((BERT, SMALL), (SMALL, BERT)):
        with pytest.raises(UsageError, match=message):
            without_layers(options(**given), *pair)
    assert without_layers(options(**given), BERT, BERT).losses == options(**given).losses


def test_explain_tells_what_is_learned(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = plan(inputs(checkpoint(), "lstm=6", tiny_task), options())
    assert document["student"] == {"hidden": 12, "head_size": 0, "layers": [], "lstm": {"embedding": 300, "units": 6, "ffn": 200}}
    assert [row["method"] for row in document["matches"]] == ["logits", "labels"]
    files = ["--train", tiny_task["train"], "--validation", tiny_task["validation"], "--text", "text"]
    command = ["distill", "--teacher", str(checkpoint()), "--student", "bilstm", *files, "--explain"]
    found = CliRunner().invoke(cli, command)
    assert found.exit_code == 0, found.output
    assert "student: BiLSTM of 2 x 150 units, embeddings 300 wide, 200 neurons" in found.output
    assert "method logits alone" in found.output


def test_every_verb_that_takes_models_takes_it(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    student, tuned, graph, int8 = (tmp_path / name for name in ("student", "tuned", "graph", "int8"))
    made = compress.distill(checkpoint(), SPEC, tiny_task, student, epochs=1)
    assert made["plain"] is False
    compress.finetune(student, tiny_task, tuned, epochs=1)
    compress.export(tuned, graph, task=tiny_task)
    compress.quantize(tuned, tiny_task, int8, method="auto")
    found = compress.evaluate([student, tuned, graph, int8], task=tiny_task)
    scores = [entry["metrics"]["accuracy"] for entry in found["results"]]
    assert scores[1] == scores[2]
    timed = compress.bench([tuned, graph, int8], seq_len=[8], rounds=5, memory=False)
    assert len(timed["results"]) == 3
    texts = ["the red dog", "tea"]
    answers = compress.load_onnx(graph)(texts)
    assert [answer.label for answer in answers] == [answer.label for answer in open_predictor(tuned)(texts)]
