"""Students made from their teacher."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import UsageError
from compress.data import resolve
from compress.data.task import Task
from compress.distill import plan
from compress.distill.calibration import Calibration
from compress.distill.layer_matching import layer_map, spread
from compress.distill.students import Spec, Start, make_student, parse_spec, take_layers
from compress.inference.forward import torch_forward
from compress.models.adapters import add_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.head import model_labels
from compress.models.layers import encoder_layers
from compress.models.low_rank import FactoredEmbedding, FactoredLinear, replace_linear, set_word_embeddings, word_embeddings
from compress.models.model_shape import model_shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import DistillSettings
from compress.stage import STUDENTS, Inputs
from tests import tiny

Maker = Callable[..., Path]
DEPTHS = st.integers(1, 48).flatmap(lambda teacher: st.tuples(st.integers(1, teacher), st.just(teacher)))
KEPT = [Kept([0, 3], [1, 2, 3]), Kept([], []), Kept([1], [0])]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(3, 6, [1, 3, 5]), (4, 12, [2, 5, 8, 11]), (6, 12, [1, 3, 5, 7, 9, 11]), (1, 12, [11]), (12, 12, list(range(12))), (2, 3, [1, 2])],
)
def test_layers_are_taken_evenly_the_last_included(student: int, teacher: int, expected: list[int]) -> None:
    assert spread(student, teacher) == expected


@given(DEPTHS)
def test_any_depth_is_spread(depths: tuple[int, int]) -> None:
    chosen = spread(*depths)
    assert len(chosen) == depths[0]
    assert chosen[-1] == depths[1] - 1
    assert all(0 <= a < b for a, b in itertools.pairwise(chosen))
    gaps = [b - a for a, b in zip([-1, *chosen], chosen, strict=False)]
    assert max(gaps) - min(gaps) <= 2 or depths[0] == 1


@pytest.mark.parametrize(
    ("student", "teacher", "match", "expected"),
    [
        (3, 6, "last", [(3, 6)]),
        (3, 6, "uniform", [(1, 2), (2, 4), (3, 6)]),
        (4, 12, "uniform", [(1, 3), (2, 6), (3, 9), (4, 12)]),
        (6, 6, "uniform", [(number, number) for number in range(1, 7)]),
        (1, 12, "uniform", [(1, 12)]),
        (6, 3, "uniform", [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)]),
    ],
)
def test_layer_maps_by_hand(student: int, teacher: int, match: str, expected: list[tuple[int, int]]) -> None:
    assert layer_map(student, teacher, match) == expected


@given(st.integers(1, 48), st.integers(1, 48))
def test_uniform_maps_end_at_the_end_and_never_go_back(student: int, teacher: int) -> None:
    pairs = layer_map(student, teacher, "uniform")
    assert [first for first, _ in pairs] == list(range(1, student + 1))
    assert pairs[-1] == (student, teacher) == layer_map(student, teacher, "last")[0]
    seconds = [second for _, second in pairs]
    assert seconds == sorted(seconds)
    assert all(1 <= second <= teacher for second in seconds)


@given(DEPTHS)
def test_students_and_maps_agree_on_depth(depths: tuple[int, int]) -> None:
    """The hidden state behind a student's layer is matched with the one behind the teacher's layer that it was."""
    assert [second - 1 for _, second in layer_map(*depths, "uniform")] == spread(*depths)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("layers=3", Spec(3)),
        (" layers = 12 ", Spec(12)),
        ("hidden=64", Spec(hidden=64)),
        ("layers=4,hidden=312,heads=12,ffn=1200,vocab=10000", Spec(4, 312, 12, 1200, 10000)),
        *((spec, Spec(**{key: int(value) for key, value in (part.split("=") for part in spec.split(","))})) for spec in STUDENTS.values()),
    ],
)
def test_specs(spec: str, expected: Spec) -> None:
    assert parse_spec(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("layers=0", "positive number of layers"),
        ("layers=-1", "positive number of layers"),
        ("layers=", "positive number of layers"),
        ("layers=x", "positive number of layers"),
        ("layers=2.5", "positive number of layers"),
        ("layers=²", "positive number of layers"),
        ("layers=" + "9" * 5000, "positive number of layers"),  # more digits than int() takes
        ("layer=3", "did you mean 'layers'"),
        ("layers=4,layers=5", "the key 'layers' twice"),
        ("layers=4,hidden=313,heads=12", "12 heads do not divide"),
        ("layers=4,width=312", "the key 'width'"),
        ("layers=4,", "the key ''"),
        ("=3", "the key ''"),
    ],
)
def test_malformed_specs_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match="the student") as caught:
        parse_spec(spec)
    assert message in caught.value.message
    assert caught.value.exit_code == 2
    assert "layers=" in (caught.value.hint or "")


@pytest.mark.parametrize(("count", "chosen"), [(1, [2]), (2, [1, 2]), (3, [0, 1, 2])])
def test_the_student_has_the_teachers_weights(family: str, count: int, chosen: list[int], tmp_path: Path) -> None:
    teacher = tiny.make_model(family)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = take_layers(teacher, count)
    stack = list(encoder_layers(teacher))
    for taken, number in zip(encoder_layers(student), chosen, strict=True):
        for name, tensor in taken.module.state_dict().items():
            assert torch.equal(tensor, stack[number].module.state_dict()[name])
    others = [name for name in student.state_dict() if ".layer." not in name]
    assert others
    assert all(torch.equal(student.state_dict()[name], before[name]) for name in others)
    tiny.write_tokenizer(tmp_path, family)
    save_model(student, tmp_path, tmp_path)
    batch = tiny.encoded(family).batch(range(12))
    assert (torch_forward(load_model(tmp_path))(batch) == torch_forward(student)(batch)).all()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())  # nothing is shared
    assert len(list(encoder_layers(teacher))) == tiny.LAYERS


def test_all_layers_make_the_teacher_again(family: str) -> None:
    teacher = tiny.make_model(family)
    batch = tiny.encoded(family).batch(range(12))
    assert (torch_forward(take_layers(teacher, 3))(batch) == torch_forward(teacher)(batch)).all()


def test_a_student_of_a_pruned_teacher_keeps_its_shapes(family: str, tmp_path: Path) -> None:
    teacher = tiny.make_model(family)
    slice_model(teacher, KEPT)
    student = take_layers(teacher, 2)
    assert model_shape(student).layers == model_shape(teacher).layers[1:]
    assert model_shape(teacher).as_json() == teacher.config.compress["layers"]
    tiny.write_tokenizer(tmp_path, family)
    save_model(student, tmp_path, tmp_path)
    batch = tiny.encoded(family).batch(range(12))
    assert (torch_forward(load_model(tmp_path))(batch) == torch_forward(student)(batch)).all()


def test_more_layers_than_the_teacher_has() -> None:
    with pytest.raises(UsageError, match="a student of 4 layers cannot be taken from a teacher of 3"):
        take_layers(tiny.make_model(), 4)


def test_a_student_is_a_spec_or_a_folder(checkpoint: Maker) -> None:
    teacher: Any = load_model(checkpoint())
    student, folder = make_student("layers=2", teacher, checkpoint())
    assert (len(list(encoder_layers(student))), folder) == (2, checkpoint())
    student, folder = make_student(checkpoint("electra"), teacher, checkpoint())
    assert (student.config.model_type, folder) == ("electra", checkpoint("electra"))
    with pytest.raises(UsageError, match="needs a student"):
        make_student(None, teacher, checkpoint())


def test_classes_that_are_only_numbered_are_the_tasks(tmp_path: Path) -> None:
    """Whichever of the two does not name them; the teacher's order is not the task's."""
    names, turned = list(tiny.LABELS), list(reversed(tiny.LABELS))
    numbered = tiny.write_checkpoint(tmp_path / "numbered", labels=[f"LABEL_{number}" for number in range(3)])
    named = tiny.write_checkpoint(tmp_path / "named", labels=turned)
    rows = load_model(named).classifier.weight
    student, _ = make_student(numbered, load_model(named), named, names=names)
    assert model_labels(student) == turned
    assert torch.equal(student.classifier.weight, load_model(numbered).classifier.weight.flip(0))
    student, _ = make_student(named, load_model(numbered), numbered, names=names)
    assert model_labels(student) == names
    assert torch.equal(student.classifier.weight, rows.flip(0))


@pytest.mark.parametrize("kind", ["pruned", "factorized", "narrow words", "adapters"])
@pytest.mark.parametrize(("spec", "init"), [("layers=2,hidden=16,heads=2", "auto"), ("ffn=8", "auto"), ("layers=2", "importance")])
def test_a_teacher_in_pieces_lends_whole_layers_only(
    kind: str, spec: str, init: Any, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    """Both when it is made, and when it is only explained."""
    teacher = tiny.make_model()
    if kind == "pruned":
        slice_model(teacher, [Kept([0, 3], [1, 2, 3])] * 3)
    elif kind == "factorized":
        replace_linear(teacher, next(iter(encoder_layers(teacher))), "ffn_in", FactoredLinear(tiny.HIDDEN, tiny.FFN, 4))
    elif kind == "narrow words":
        old = word_embeddings(teacher)
        set_word_embeddings(teacher, FactoredEmbedding(old.num_embeddings, old.embedding_dim, 5, old.padding_idx))
    else:
        add_adapters(teacher, 2)
    save_model(teacher, tmp_path, checkpoint())
    task = Task(resolve(tiny_task))
    start = Start(Calibration(task.split("train"), tmp_path, task.spec.input_spec, 0), tmp_path, init)
    with pytest.raises(UsageError, match="pruned, factorized or has adapters"):
        make_student(spec, teacher, tmp_path, start)
    with pytest.raises(UsageError, match="pruned, factorized or has adapters"):
        plan(Inputs({}, 0, task, tmp_path, spec), DistillSettings.model_validate({"init": init}))
