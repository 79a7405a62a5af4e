"""The stage `distill` on the tiny task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.core.errors import DataError, UsageError
from compress.data import resolve
from compress.data.task import Task
from compress.distill import cache as cache_module
from compress.distill import run as distill
from compress.distill import student_training
from compress.distill.cache import teacher_outputs
from compress.distill.layer_matching import Match, matches
from compress.distill.losses import hidden_mse, soft_cross_entropy
from compress.distill.objective import Lessons, Objective, projections
from compress.distill.students import take_layers
from compress.models.checkpoint import load_model, save_model
from compress.models.device import to_tensors
from compress.models.head import model_labels
from compress.models.label_mapping import to_model_labels
from compress.models.model_shape import count_params, model_shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import DistillSettings
from compress.stage import Inputs
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


def test_a_pruned_student_comes_nearer_to_its_teacher(tiny_task: dict[str, Any], checkpoint: Maker, slim: Path, tmp_path: Path) -> None:
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


def test_projections_only_where_widths_differ() -> None:
    wide, narrow = tiny.make_model(), tiny.make_model("bert", hidden_size=16, num_attention_heads=2)
    pairs = [Match("hidden", 1.0, 3, 3), Match("gram", 1.0, 3, 3), Match("pkd", 1.0, 2, 1)]
    assert not list(projections(wide, wide, pairs).parameters())
    assert [tuple(parameter.shape) for parameter in projections(narrow, wide, pairs).parameters()] == [(32, 16)] * 2
    (start,) = projections(wide, wide, [Match("cofi", 1.0, teachers=(3,), students=(1, 2))]).parameters()
    assert torch.equal(start, torch.eye(32))


SETTINGS = [
    {"hard_weight": 0.0, "method": "logits"},
    {"hard_weight": 1.0, "method": "logits"},
    {"hard_weight": 0.3, "method": "logits", "temperature": 4.0},
    {"hard_weight": 0.3, "method": ["logits", "hidden:2"]},
    {"hard_weight": 0.3, "method": ["logits", "hidden:2"], "match": "uniform"},
]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_loss_is_the_weighted_sum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any], cached: bool) -> None:
    """Hidden states from the cache (float16) and computed anew in each step give the same loss."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    if not cached:
        monkeypatch.setattr(cache_module, "MAX_FEATURE_BYTES", -1)
    teacher, data = tiny.make_model(), tiny.encoded()
    student = take_layers(teacher, 2)
    options = DistillSettings(**settings)
    weight = options.losses.get("hidden")
    pairs = {"last": [(2, 3)], "uniform": [(1, 2), (2, 3)]}[options.match or "last"] if weight else []
    matched = matches(options, model_shape(teacher), model_shape(student))
    assert [(match.student, match.teacher) for match in matched] == pairs
    answers = teacher_outputs(teacher, "digest", data, [feature for match in matched for feature in match.of_teacher], CPU)
    assert (answers.features is not None) == cached
    classes = np.array([2, 0, 1])  # the model's classes are the task's in another order
    asked = replace(data, labels=to_model_labels(data.labels, "class", classes))
    lessons = Lessons(teacher, answers, asked, data, np.ones(len(data), dtype=bool), "class", True)
    loss_of = Objective(student, lessons, matched, options, CPU)
    positions = np.array([3, 0, 7, 11])
    batch = to_tensors(data.batch(positions), student, CPU)
    with torch.no_grad():
        found = loss_of(batch, positions)
        small, large = (model(**batch, output_hidden_states=True) for model in (student, teacher))
    hard = functional.cross_entropy(small.logits, torch.tensor([{2: 0, 0: 1, 1: 2}[int(label)] for label in data.labels[positions]]))
    assert options.temperature is not None
    assert options.hard_weight is not None
    soft = soft_cross_entropy(small.logits, large.logits, options.temperature)
    hidden = [hidden_mse(small.hidden_states[a], large.hidden_states[b], batch["attention_mask"]) for a, b in pairs]
    expected = options.hard_weight * hard + (1 - options.hard_weight) * soft
    expected = expected + (weight * torch.stack(hidden).mean() if weight else 0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_variants_and_texts_without_labels_teach_as_well(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    """A student learns from what the teacher says of other texts alone; no training split is needed, nor its labels."""
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in tiny.sentences(30)), encoding="utf-8")
    texts = {"unlabeled": str(tmp_path / "texts.txt")}
    alone = {key: value for key, value in tiny_task.items() if key != "train"}
    steps = {}
    for name, task, settings in (
        ("plain", tiny_task, {}),
        ("variants", tiny_task, {"augment": 2}),
        ("texts", tiny_task, texts),
        ("alone", alone, texts),
        ("both", alone, {**texts, "augment": 3}),
        ("written", tiny_task, {"augment": 2, "augment_model": str(tiny.write_masked_lm(tmp_path / "writer"))}),
    ):
        result = run(checkpoint(), "layers=2", task, tmp_path / name, batch_size=1, **settings)
        steps[name] = result["training"]["steps"]
    train = steps["plain"]
    assert steps == {"plain": train, "variants": 3 * train, "texts": train + 30, "alone": 30, "both": 120, "written": 3 * train}


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
def test_a_student_that_got_worse_is_kept_with_a_warning(
    tiny_task: dict[str, Any],
    checkpoint: Maker,
    slim: Path,
    before: float,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(
        distill.__globals__, "teach", lambda *args, **options: replace(student_training.teach(*args, **options), before=before)
    )
    result = run(checkpoint(), slim, tiny_task, tmp_path / "out")
    assert ("worse than before it was trained" in capsys.readouterr().err) == warned
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
def test_dropout_is_off_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, given: dict[str, Any], dropped: bool
) -> None:
    """What is matched would be blurred by it; the student's config keeps it for whoever trains it later."""
    seen: list[float] = []
    real = student_training.fit

    def fit(student: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(max(module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)))
        return real(student, *arguments, **options)

    monkeypatch.setattr(student_training, "fit", fit)
    run(checkpoint(), "layers=2", tiny_task, tmp_path / "out", epochs=1, **given)
    assert seen == [0.1 if dropped else 0.0]
    assert load_model(tmp_path / "out").config.hidden_dropout_prob == 0.1
