"""The stage `distill` on the tiny task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.core.errors import DataError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill import _worse, student_training
from compress.distill import run as distill
from compress.distill.losses import soft_cross_entropy
from compress.models.checkpoint import load_model, save_model
from compress.models.head import model_labels
from compress.models.model_shape import count_params, model_shape
from compress.prune import run as prune
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import DistillSettings, PruneSettings
from compress.stage import Inputs
from compress.training.loop import TrainingResult
from tests import tiny

Maker = Callable[..., Path]
CPU = torch.device("cpu")


def run(
    teacher: Path | None, student: Path | str | None, document: dict[str, Any], output: Path, seed: int = 0, **settings: Any
) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    options = DistillSettings(**{"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 1e-3, "epochs": 1, **settings})
    return distill(Inputs({}, seed, Task(resolve(document)), teacher, student), options, output)


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pruned tiny BERT."""
    folder = tmp_path_factory.mktemp("slim")
    tiny.write_tokenizer(folder)
    model = tiny.make_model()
    slice_model(model, [Kept([0, 3], [1, 2, 3]), Kept([], []), Kept([1], [0])])
    save_model(model, folder, folder)
    return folder


def test_a_pruned_student_approaches_its_teacher(tiny_task: dict[str, Any], checkpoint: Maker, slim: Path, tmp_path: Path) -> None:
    from compress.data.input_spec import InputSpec
    from compress.inference.batches import run_batches
    from compress.inference.forward import torch_forward
    from compress.models.inputs import encode_for

    result = run(checkpoint(), slim, tiny_task, tmp_path / "out", epochs=6, lr=3e-3, hard_weight=0.0)
    data = encode_for(slim, Task(resolve(tiny_task)).split("train"), InputSpec(max_length=32))
    logits = [torch.from_numpy(run_batches(torch_forward(load_model(folder)), data)) for folder in (checkpoint(), slim, tmp_path / "out")]
    before, after = (float(soft_cross_entropy(student, logits[0], 2.0)) for student in logits[1:])
    assert after < 0.7 * before
    model = load_model(tmp_path / "out")
    assert result["layers"] == model_shape(model).as_json() == model_shape(load_model(slim)).as_json()
    assert result["params"] == count_params(model)
    assert set(result["metrics"]["validation"]) == {"n", "accuracy", "before"}


def test_every_family_is_distilled(tiny_task: dict[str, Any], checkpoint: Maker, family: str, tmp_path: Path) -> None:
    result = run(checkpoint(family), "layers=2", tiny_task, tmp_path / "out", match="uniform")
    assert len(result["layers"]) == 2
    assert model_labels(load_model(tmp_path / "out")) == tiny.LABELS


def test_a_student_of_another_width_learns_through_a_projection(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    narrow = tiny.write_encoder(tmp_path / "narrow", hidden_size=16, num_attention_heads=2)
    run(checkpoint(), narrow, tiny_task, tmp_path / "out", match="uniform")
    assert model_shape(load_model(tmp_path / "out")).hidden == 16


def test_augmented_and_unlabeled_texts_are_learned_from(checkpoint: Maker, tmp_path: Path) -> None:
    """A student can learn from the teacher's logits only; neither labels nor a training split are needed."""
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in tiny.sentences(30)), encoding="utf-8")
    texts = {"unlabeled": str(tmp_path / "texts.txt")}
    whole = tiny.write_task(tmp_path / "task", train=24, validation=12, test=0)
    alone = {key: value for key, value in whole.items() if key != "train"}
    steps = {}
    for name, task, settings in (
        ("plain", whole, {}),
        ("variants", whole, {"augment": 2}),
        ("texts", whole, texts),
        ("alone", alone, texts),
        ("both", alone, {**texts, "augment": 3}),
        ("written", whole, {"augment": 2, "augment_model": str(tiny.write_masked_lm(tmp_path / "writer"))}),
    ):
        result = run(checkpoint(), "layers=2", task, tmp_path / name, batch_size=6, **settings)
        steps[name] = result["training"]["steps"]
    train = steps["plain"]
    assert steps == {"plain": train, "variants": 3 * train, "texts": train + 5, "alone": 5, "both": 20, "written": 3 * train}


def test_the_same_seed_makes_the_same_student(tiny_task: dict[str, Any], checkpoint: Maker, slim: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(ord(name))
        run(checkpoint(), slim, tiny_task, tmp_path / name, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_the_teacher_is_not_trained(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    before = (checkpoint() / "model.safetensors").read_bytes()
    run(checkpoint(), checkpoint(), tiny_task, tmp_path / "out")
    assert (checkpoint() / "model.safetensors").read_bytes() == before
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize(("before", "warned"), [(1.01, True), (0.0, False)])
def test_a_student_that_became_worse_is_kept_with_a_warning(
    tiny_task: dict[str, Any],
    checkpoint: Maker,
    slim: Path,
    before: float,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    original = student_training.train_student
    monkeypatch.setitem(distill.__globals__, "train_student", lambda *args: replace(original(*args), score_before=before))
    result = run(checkpoint(), slim, tiny_task, tmp_path / "out")
    assert ("worse than before training" in capsys.readouterr().err) == warned
    assert result["metrics"]["validation"]["before"] == before
    load_model(tmp_path / "out")


def test_a_student_of_another_tokenizer(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different tokenizers"):
        run(checkpoint(), checkpoint("roberta"), tiny_task, tmp_path / "out")


def test_a_teacher_of_another_task(tiny_task: dict[str, Any], own_checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not know the label"):
        run(own_checkpoint(labels=["x", "y", "z"]), "layers=2", tiny_task, tmp_path / "out")


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [(False, "layers=2", "needs a teacher"), (True, None, "needs a student"), (True, "layer=2", "did you mean")],
)
def test_missing_roles(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, teacher: bool, student: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(checkpoint() if teacher else None, student, tiny_task, tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "dropped"), [({}, False), ({"dropout": True}, True), ({"method": "theseus"}, True), ({"dropout": False}, False)]
)
def test_dropout_is_off_by_default(
    monkeypatch: pytest.MonkeyPatch, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, given: dict[str, Any], dropped: bool
) -> None:
    """Except with theseus; the student's config keeps its dropout for later trainings."""
    seen: list[float] = []

    def fit(student: Any, *arguments: Any, **options: Any) -> TrainingResult:
        seen.append(max(module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)))
        return TrainingResult(epochs=1, steps=1, best_epoch=1, loss=0.5, score=0.5, precision="fp32", seconds=0.1)

    monkeypatch.setattr(student_training, "fit", fit)
    run(checkpoint(), "layers=2", tiny_task, tmp_path / "out", epochs=1, **given)
    assert seen == [0.1 if dropped else 0.0]
    assert load_model(tmp_path / "out").config.hidden_dropout_prob == 0.1


def test_a_student_that_lost_is_named_with_its_noise() -> None:
    near, far = (_worse(after, 0.85, 100, Path("slim")) for after in (0.84, 0.5))
    assert near == (
        "the student is worse than before training (84.00, 85.00 before, n = 100); the difference is within the noise: "
        "keep slim, or try a lower --lr"
    )
    assert "noise" not in far
    assert "keep" not in _worse(0.5, 0.85, 100, "layers=3")


def test_mentions_are_not_augmented(tmp_path: Path) -> None:
    task = tiny.write_kind(tmp_path / "data", "mentions")
    teacher = tiny.write_checkpoint(tmp_path / "teacher", target="mentions")
    with pytest.raises(UsageError, match="augmentation would move or replace the mentions"):
        run(teacher, "layers=1", task, tmp_path / "out", augment=1)
    with pytest.raises(UsageError, match="a static student sees a text as a whole"):
        run(teacher, "static=8", task, tmp_path / "other")
    with pytest.raises(UsageError, match="augmentation would move or replace the mentions"):
        prune(Inputs({"model": teacher}, 0, Task(resolve(task))), PruneSettings(target_flops=0.5, recover_epochs=1, augment=1), tmp_path)
