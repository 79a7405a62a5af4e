"""Students initialised from their teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import UsageError
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.presets import resolve
from compress.data.task import Task
from compress.data.texts import examples_from_texts
from compress.distill import plan
from compress.distill.init_texts import InitTexts
from compress.distill.students import StudentInit, create_student, take_layers
from compress.inference.forward import torch_forward
from compress.models.adapters import add_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.embedder import head_of
from compress.models.head import model_labels
from compress.models.inputs import encode_for
from compress.models.layers import encoder_layers
from compress.models.low_rank import FactoredEmbedding, FactoredLinear, replace_linear, set_word_embeddings, word_embeddings
from compress.models.model_shape import model_shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import DistillSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
EVENLY_SPACED = StudentInit(InitTexts(examples_from_texts([("",)], InputSpec()), Path(), InputSpec(), 0), Path(), "layers")
KEPT = [Kept([0, 3], [1, 2, 3]), Kept([], []), Kept([1], [0])]


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
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())  # no tensor is shared
    assert len(list(encoder_layers(teacher))) == tiny.LAYERS


def test_all_layers_are_the_teacher_again(family: str) -> None:
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
    student, folder = create_student("layers=2", teacher, checkpoint(), EVENLY_SPACED)
    assert (len(list(encoder_layers(student))), folder) == (2, checkpoint())
    student, folder = create_student(checkpoint("electra"), teacher, checkpoint(), EVENLY_SPACED)
    assert (student.config.model_type, folder) == ("electra", checkpoint("electra"))
    with pytest.raises(UsageError, match="needs a student"):
        create_student(None, teacher, checkpoint(), EVENLY_SPACED)


def test_a_plain_encoder_takes_the_head_of_its_teacher(tmp_path: Path) -> None:
    """Pooling, prompts, longest input and similarity, in the head and in the folder that encodes its texts."""
    folder, plain = tiny.write_embedder(tmp_path / "teacher", normalize=False), tiny.write_encoder(tmp_path / "plain")
    settings = {"prompts": {"query": "we ", "passage": "you "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "scratch").mkdir()
    init = replace(EVENLY_SPACED, scratch=tmp_path / "scratch")
    teacher = load_model(folder)
    student, encodes = create_student(plain, teacher, folder, init, "vector")
    assert head_of(student.config) == head_of(teacher.config)
    spec = InputSpec("vector")
    encoded = [encode_for(place, Examples([("red dog",)], np.zeros(1)), spec).input_ids[0].tolist() for place in (folder, encodes)]
    assert encoded[0] == encoded[1]
    (tmp_path / "out").mkdir()
    save_model(student, tmp_path / "out", encodes)
    assert head_of(load_model(tmp_path / "out").config) == head_of(teacher.config)
    named = tiny.write_embedder(tmp_path / "named")
    assert create_student(named, teacher, folder, init, "vector")[1] == named


def test_numbered_classes_are_those_of_the_task(tmp_path: Path) -> None:
    """Whether student or teacher has numbers only; the teacher's order differs from the task's."""
    names, turned = list(tiny.LABELS), list(reversed(tiny.LABELS))
    numbered = tiny.write_checkpoint(tmp_path / "numbered", labels=[f"LABEL_{number}" for number in range(3)])
    named = tiny.write_checkpoint(tmp_path / "named", labels=turned)
    rows = load_model(named).classifier.weight
    student, _ = create_student(numbered, load_model(named), named, EVENLY_SPACED, names=names)
    assert model_labels(student) == turned
    assert torch.equal(student.classifier.weight, load_model(numbered).classifier.weight.flip(0))
    student, _ = create_student(named, load_model(numbered), numbered, EVENLY_SPACED, names=names)
    assert model_labels(student) == names
    assert torch.equal(student.classifier.weight, rows.flip(0))


@pytest.mark.parametrize("kind", ["pruned", "factorized", "narrow words", "adapters"])
@pytest.mark.parametrize(("spec", "init"), [("layers=2,hidden=16,heads=2", "auto"), ("ffn=8", "auto"), ("layers=2", "importance")])
def test_an_irregular_teacher_initialises_students_from_whole_layers_only(
    kind: str, spec: str, init: Any, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    """Both when the student is created and when it is explained."""
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
    method = StudentInit(InitTexts(task.split("train"), tmp_path, task.spec.input_spec, 0), tmp_path, init)
    with pytest.raises(UsageError, match="pruned, factorized or has adapters"):
        create_student(spec, teacher, tmp_path, method)
    with pytest.raises(UsageError, match="pruned, factorized or has adapters"):
        plan(Inputs({}, 0, task, tmp_path, spec), DistillSettings.model_validate({"init": init}))
