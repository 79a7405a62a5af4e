"""Methods, matches, students of every shape and several teachers, by the stage on tiny tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import DataError, UsageError
from compress.data import resolve
from compress.data.input_spec import InputSpec
from compress.data.task import Task
from compress.distill import plan, student_training
from compress.distill import run as distill
from compress.distill.cache import teacher_outputs
from compress.distill.layer_matching import matches
from compress.distill.objective import Lessons, Objective
from compress.distill.students import take_layers
from compress.distill.teachers import load_teacher, mean_logits, same_tokens
from compress.distill.theseus import Replacement, probability
from compress.models.checkpoint import load_model, save_model
from compress.models.device import to_tensors
from compress.models.head import model_labels
from compress.models.inputs import encode_for
from compress.models.layers import layer_list
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import DistillSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
CPU = torch.device("cpu")
LAYERED = ["hidden", "nmse", "attention", "relations", "gram", "pkd", "cka", "cofi"]


def inputs(teacher: Path, student: Path | str, document: dict[str, Any], *more: Path) -> Inputs:
    return Inputs({}, 0, Task(resolve(document)), teacher, student, more)


def run(given: Inputs, output: Path, **settings: Any) -> dict[str, Any]:
    """Run the stage for an epoch."""
    output.mkdir()
    options = DistillSettings.model_validate({"precision": "fp32", "device": "cpu", "batch_size": 16, "lr": 1e-3, "epochs": 1, **settings})
    return distill(given, options, output)


def shape(layers: int, hidden: int = 32, heads: int = 4, size: int = 8) -> Shape:
    return Shape(hidden, size, (LayerShape(heads, 64),) * layers)


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_all_losses_together_on_every_kind(target: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    task = Task(resolve(document))
    teacher = checkpoint() if target == "class" else tiny.write_checkpoint(tmp_path / "teacher", labels=task.label_names, target=target)
    method = ["logits", *(["dkd"] if target in ("class", "tags", "span") else []), *LAYERED]
    result = run(inputs(teacher, "layers=2", document), tmp_path / "out", method=method, match="uniform")
    assert np.isfinite(result["training"]["loss"])
    assert len(result["layers"]) == 2


@pytest.mark.parametrize("method", [*LAYERED, "logits"])
def test_a_student_that_is_its_teacher_has_no_loss_and_padding_no_part(method: str, family: str) -> None:
    """The objective of every method is 0 at the teacher, and does not depend on how long the batch is padded."""
    teacher, data = tiny.make_model(family), tiny.encoded(family)
    settings = DistillSettings.model_validate(
        {"method": [f"{method}:1"], "hard_weight": 0.5} | ({} if method in ("logits", "cofi") else {"match": "uniform"})
    )
    for student, same in ((teacher, True), (tiny.make_model(family, seed=1), False)):
        pairs = matches(settings, model_shape(teacher), model_shape(student))
        answers = teacher_outputs(teacher, f"{family}-{method}", data, [feature for match in pairs for feature in match.of_teacher], CPU)
        lessons = Lessons(teacher, answers, data, data, np.ones(len(data), dtype=bool), "class", True)
        objective = Objective(student, lessons, pairs, settings.model_copy(update={"hard_weight": 0.0}), CPU)
        objective.terms = "all" if method == "logits" else "layers"
        positions = np.arange(6)
        found = [float(objective(to_tensors(data.batch(positions, pad_to), student, CPU), positions).detach()) for pad_to in (None, 60)]
        assert found[0] == pytest.approx(0, abs=1e-3) if same else found[0] > 1e-3
        assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-4)


def test_cofi_weighs_what_the_paper_weighs() -> None:
    settings = DistillSettings.model_validate({"method": "cofi"})
    assert (settings.losses, settings.hard_weight) == ({"logits": 0.1, "cofi": 0.9}, 0.0)
    (match,) = matches(settings, shape(12), Shape(32, 8, (LayerShape(0, 0), LayerShape(4, 0), LayerShape(0, 3))))
    assert (match.teachers, match.students, match.weight) == ((3, 6, 9, 12), (2, 3), 0.9)


def test_pairs_are_matched_as_written() -> None:
    settings = DistillSettings.model_validate({"method": ["logits", "hidden:0.6", "gram"], "match": "hidden:0-0,6-2,12-4;gram:12-4"})
    found = [(match.method, match.teacher, match.student, round(match.weight, 9)) for match in matches(settings, shape(12), shape(4))]
    assert found == [("hidden", 0, 0, 0.2), ("hidden", 6, 2, 0.2), ("hidden", 12, 4, 0.2), ("gram", 12, 4, 1.0)]


@pytest.mark.parametrize(
    ("settings", "student", "message"),
    [
        ({"method": "hidden", "match": "hidden:13-2"}, shape(4), "hidden:13-2: the teacher has no layer 13 \\(it has 0 to 12\\)"),
        ({"method": "gram", "match": "gram:12-5"}, shape(4), "the student has no layer 5"),
        ({"method": "attention", "match": "attention:0-0"}, shape(4), "has no layer 0 \\(it has 1 to 12\\)"),
        ({"method": "attention"}, shape(4, heads=2), "have 4 and 2 heads"),
        ({"method": "relations"}, shape(4, heads=0), "the student's has no heads"),
        ({"method": "relations", "relation_heads": 5}, shape(4), "5 relation heads do not divide"),
    ],
)
def test_what_cannot_be_matched_is_a_usage_error(settings: dict[str, Any], student: Shape, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        matches(DistillSettings.model_validate(settings), shape(12), student)


@pytest.mark.parametrize(("widths", "heads"), [((32, 32), 4), ((32, 24), 4), ((32, 20), 4), ((32, 27), 1), ((32, 6), 2)])
def test_relation_heads_divide_both_widths(widths: tuple[int, int], heads: int) -> None:
    student = Shape(widths[1], widths[1], (LayerShape(1, 64),))
    (match,) = matches(DistillSettings.model_validate({"method": "relations"}), shape(2), student)
    assert match.heads == heads


def test_dkd_needs_three_classes(tmp_path: Path, checkpoint: Maker) -> None:
    document = tiny.write_kind(tmp_path / "task", "labels")
    teacher = tiny.write_checkpoint(tmp_path / "teacher", labels=Task(resolve(document)).label_names, target="labels")
    with pytest.raises(UsageError, match="no.e|none") as caught:
        run(inputs(teacher, "layers=2", document), tmp_path / "out", method="dkd")
    assert caught.value.exit_code == 2


def test_tinybert_goes_in_two_stages(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    settings = DistillSettings.model_validate({"method": "tinybert"})
    assert (settings.lr, settings.layer_lr, settings.layer_epochs, settings.epochs) == (3e-5, 5e-5, 10, 3)
    assert (settings.temperature, settings.hard_weight, settings.match) == (1.0, 0.0, "all")
    found = {(match.method, match.teacher, match.student) for match in matches(settings, shape(4), shape(2))}
    assert found == {("hidden", 0, 0), ("hidden", 2, 1), ("hidden", 4, 2), ("attention", 2, 1), ("attention", 4, 2)}
    given = inputs(checkpoint(), "layers=2", tiny_task)
    training = run(given, tmp_path / "out", method="tinybert", layer_epochs=2)["training"]
    assert (training["layer_stage"]["epochs"], training["layer_stage"]["score"], training["epochs"]) == (2, None, 1)


def test_the_first_stage_leaves_the_head_alone() -> None:
    teacher, data = tiny.make_model(), tiny.encoded()
    student = take_layers(teacher, 2)
    settings = DistillSettings.model_validate({"method": "tinybert"})
    pairs = matches(settings, model_shape(teacher), model_shape(student))
    answers = teacher_outputs(teacher, "tb", data, [feature for match in pairs for feature in match.of_teacher], CPU)
    objective = Objective(
        student, Lessons(teacher, answers, data, data, np.ones(len(data), dtype=bool), "class", True), pairs, settings, CPU
    )
    objective.terms = "layers"
    positions = np.arange(4)
    objective(to_tensors(data.batch(positions), student, CPU), positions).backward()
    assert student.classifier.weight.grad is None
    assert next(layer_list(student).parameters()).grad is not None


def test_theseus_mixes_and_ends_with_the_student_alone() -> None:
    assert [probability(step, 100) for step in (0, 25, 50, 99)] == pytest.approx([0.3, 0.65, 1.0, 1.0])
    teacher, data = tiny.make_model(), tiny.encoded()
    student = take_layers(teacher, 2)
    mixed = Replacement(student, teacher, 4, 0)
    assert [list(group) for group in mixed.groups] == [[0, 1], [2]]
    students, teachers = list(layer_list(student)), list(layer_list(teacher))
    assert mixed.mixed([True, False]) == [students[0], teachers[2]]
    batch = to_tensors(data.batch(range(4)), student, CPU)
    with torch.no_grad():
        own, whole = student(**batch).logits, teacher(**batch).logits
        mixed.mixed = lambda own, mix=mixed.mixed: mix([False, False])  # type: ignore[method-assign]
        torch.testing.assert_close(mixed(batch).logits, whole)
    assert list(layer_list(student)) == students
    ends = Replacement(student, teacher, 4, 0)
    ends.at(3)
    with torch.no_grad():
        torch.testing.assert_close(ends(batch).logits, own)


def test_theseus_trains_the_student_and_not_the_teacher(
    tiny_task: dict[str, Any], checkpoint: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, steps = [], []

    class Watched(Replacement):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

        def at(self, step: int) -> None:
            steps.append(step)
            super().at(step)

    monkeypatch.setattr(student_training, "Replacement", Watched)
    result = run(inputs(checkpoint(), "layers=2", tiny_task), tmp_path / "out", method="theseus", epochs=2)
    assert len(result["layers"]) == 2
    assert steps == [0, *range(result["training"]["steps"])]
    teacher, before = made[0].teacher.state_dict(), load_model(checkpoint()).state_dict()
    assert all(torch.equal(teacher[name], before[name]) for name in before)


def test_theseus_takes_a_teacher_of_uneven_layers(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    teacher = tiny.make_model("mpnet")
    slice_model(teacher, [Kept([0, 3], [1, 2]), Kept([0, 1, 2], [1, 2]), Kept([1], [5, 6])])
    folder = tmp_path / "teacher"
    folder.mkdir()
    tiny.write_tokenizer(folder, "mpnet")
    save_model(teacher, folder, folder)
    result = run(inputs(folder, "layers=2", tiny_task), tmp_path / "out", method="theseus")
    assert len(result["layers"]) == 2


def test_the_layers_of_a_step_are_drawn_by_its_number_alone() -> None:
    teacher = tiny.make_model()
    first, second = (Replacement(take_layers(teacher, 2), teacher, 40, seed) for seed in (3, 3))
    second.at(7)  # as a process that goes on, or that had no example of the steps before
    drawn = []
    for step in range(8):
        first.at(step)
        drawn.append(first.own)
    assert first.own == second.own
    assert len({tuple(own) for own in drawn}) > 1


@pytest.mark.parametrize(
    ("student", "more", "settings", "message"),
    [
        (None, 0, {"method": "theseus"}, "made of the teacher's own layers"),
        ("layers=2", 1, {"method": "theseus"}, "one teacher"),
        (None, 0, {"init": "random"}, "how a student of a SPEC starts"),
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


def test_theseus_needs_as_many_heads_where_positions_are_added_head_by_head(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="made of the teacher's own layers"):
        run(inputs(checkpoint("mpnet"), "layers=2,heads=2", tiny_task), tmp_path / "out", method="theseus")


# ---- students


@pytest.mark.parametrize("init", ["auto", "importance", "random"])
def test_a_narrower_student_of_every_family_is_a_plain_checkpoint(
    init: str, family: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
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


def test_everything_kept_is_the_teacher_again(family: str, tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    from compress.distill.calibration import Calibration
    from compress.distill.shrink import shrink

    teacher = load_model(checkpoint(family))
    calibration = Calibration(Task(resolve(tiny_task)).split("train"), checkpoint(family), InputSpec(max_length=32), 0)
    student = shrink(teacher, model_shape(teacher), calibration)
    assert calibration.divergence(student, teacher) == pytest.approx(0, abs=1e-6)


def test_larger_heads_and_fewer_add_nothing_of_their_own(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    """Heads refitted to the size that they had, or to more, compute what they did."""
    from compress.distill.shrink import _refit

    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(8, 20, generator=draw, dtype=torch.float64) for _ in range(2))
    for size in (8, 12):
        a, b = _refit(first, second, size)
        assert len(a) == len(b) == size
        torch.testing.assert_close(a.T @ b, first.T @ second)
    a, b = _refit(first, second, 5)
    values = torch.linalg.svdvals(first.T @ second)
    assert float((a.T @ b - first.T @ second).norm()) == pytest.approx(float(values[5:].norm()))  # no rank 5 is nearer


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
        ("layers=2,hidden=64", {}, "hidden=64 cannot start from a teacher with 32"),
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


# ---- teachers


def test_teachers_of_other_families_and_label_orders_answer_as_one(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    turned = tiny.write_checkpoint(tmp_path / "turned", "roberta", labels=tiny.LABELS[::-1])
    run(inputs(checkpoint(), "layers=2", tiny_task, turned), tmp_path / "out", method="logits")
    task, first = Task(resolve(tiny_task)), load_model(checkpoint())
    other = load_teacher(turned, task, first, np.arange(3))
    assert other.order.tolist() == [2, 1, 0]
    logits = [np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]])]
    np.testing.assert_allclose(mean_logits(logits), [[2.0, 1.0]])


def test_a_student_of_another_tokenizer_learns_from_whole_texts(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    given = inputs(checkpoint(), checkpoint("roberta"), tiny_task)
    run(given, tmp_path / "out", method=["logits", "pkd"], match="uniform")
    assert load_model(tmp_path / "out").config.model_type == "roberta"
    with pytest.raises(DataError, match="different tokenizers, and method gram"):
        run(given, tmp_path / "gram", method=["logits", "gram"])
    document = tiny.write_kind(tmp_path / "task", "tags")
    labels = Task(resolve(document)).label_names
    folders = [tiny.write_checkpoint(tmp_path / name, name, labels=labels, target="tags") for name in ("bert", "roberta")]
    with pytest.raises(DataError, match="answered token by token"):
        run(inputs(folders[0], folders[1], document), tmp_path / "tags", method="logits")


# ---- explain


def test_the_plan_tells_what_is_matched(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    settings = DistillSettings.model_validate({"method": ["logits", "hidden:0.5", "relations", "cofi"], "match": "uniform"})
    document = plan(inputs(checkpoint(), "layers=2,hidden=24,heads=2,ffn=40", tiny_task), settings)
    rows = [(row["method"], row["teacher"], row["student"], row["projection"]) for row in document["matches"]]
    assert rows[0] == ("logits", "logits", "logits", None)
    assert ("hidden", "layer 2 (32 wide)", "layer 1 (24 wide)", "24 to 32, learned") in rows
    assert ("relations", "layer 3 (4 heads of 8, as 4 x 8)", "layer 2 (2 heads of 12, as 4 x 6)", None) in rows
    assert sum(row["weight"] for row in document["matches"] if row["method"] == "hidden") == pytest.approx(0.5)
    assert document["student"]["hidden"] == 24
