"""Create a student: from a folder, or from a SPEC, initialised from its teacher or at random."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from compress.core import console
from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.distill.bilstm_student import create_bilstm
from compress.distill.importance_init import initialize_by_importance, randomly_initialized
from compress.distill.init_texts import InitTexts
from compress.distill.layer_matching import evenly_spaced_layers
from compress.distill.static_student import create_static
from compress.distill.student_spec import (
    StudentSpec,
    check_depth,
    check_has_layers,
    check_init,
    parse_spec,
    shape_of_spec,
    shared_as_teacher,
    takes_whole_layers,
)
from compress.editing.encoder_layers import keep_layers, with_first_layer
from compress.editing.vocabulary import frequent_tokens, keep_tokens
from compress.models.adapters import adapter_size
from compress.models.checkpoint import load_model, save_config
from compress.models.config import max_tokens, read_config
from compress.models.config_heads import only_numbered
from compress.models.embedder import head_of, is_embedder_model, match_vectors, vector_size
from compress.models.family import family_of
from compress.models.head import model_labels
from compress.models.int8_ranges import drop_ranges
from compress.models.model_shape import model_shape
from compress.models.sentence_head import EMBEDDING_KEY, is_embedder
from compress.models.shape import StaticShape
from compress.models.sharing import owners_of
from compress.models.tokenizer import save_tokenizer
from compress.models.types import TransformersModel

STALE_RANGES = "distill changes the weights; --quantize int8 trains new ones"


@dataclass(frozen=True)
class StudentInit:
    """How a student of a SPEC is initialised.

    Attributes:
        texts: a sample of the task's texts.
        scratch: a folder for a smaller tokenizer.
        method: the value of `--init`.
    """

    texts: InitTexts
    scratch: Path
    method: str = "auto"


def create_student(
    student: Path | str | None, teacher: TransformersModel, teacher_folder: Path, init: StudentInit, target: Target = "class",
    names: list[str] | None = None,
) -> tuple[TransformersModel, Path]:  # fmt: skip
    """Load a student from a folder, or create it from a SPEC; return it with its tokenizer's folder.

    A loaded model's classifier is brought into the order of the teacher's labels; an encoder gets a new one.

    Args:
        student: a folder or a SPEC.
        teacher: a model with its head, which does not change.
        teacher_folder: of its tokenizer.
        init: how to initialise a student of a SPEC.
        target: what a loaded encoder's new head predicts.
        names: the task's labels, for classes that are only numbered.

    Raises:
        UsageError: no student, a malformed SPEC, or one that the teacher cannot initialise.
        ModelError: the folder is no model.
    """
    if student is None:
        raise UsageError("distill needs a student", "give --student MODEL or --student layers=K")
    if isinstance(student, Path) and target == "vector":
        model = load_embedder_student(student, teacher)
        drop_ranges(model.config, STALE_RANGES)
        if is_embedder(read_config(student)):
            return model, student
        save_tokenizer(student, init.scratch)  # with the teacher's prompts and longest input
        save_config(model, init.scratch)
        return model, init.scratch
    if isinstance(student, Path):
        labels = model_labels(teacher)
        if names and only_numbered(labels, names):
            labels = names
        model = load_model(student, labels=labels, target=target, numbered=names)
        drop_ranges(model.config, STALE_RANGES)
        return model, student
    spec = parse_spec(student)
    model = _initialized(spec, teacher, init)
    if spec.vocab is None and max_tokens(model.config.to_dict()) <= max_tokens(teacher.config.to_dict()):
        return model, teacher_folder
    if spec.vocab is None:  # a static student whose texts are longer than the teacher's positions
        save_tokenizer(teacher_folder, init.scratch)
        save_config(model, init.scratch)
        return model, init.scratch
    texts, before = init.texts, model.config.vocab_size
    kept = frequent_tokens(model, teacher_folder, texts.examples.texts, spec.vocab, words=texts.target == "tags")
    keep_tokens(model, teacher_folder, kept, init.scratch)
    save_config(model, init.scratch)
    console.info(f"  vocabulary: {len(kept):,} of {before:,} tokens")
    return model, init.scratch


def load_embedder_student(folder: Path, teacher: TransformersModel) -> TransformersModel:
    """Load an embedder, or an encoder, whose vectors are to be as the teacher's: of the same size, and of length one if those are.

    An encoder whose folder names no pooling gets the teacher's, with its prompts, longest input and similarity.
    """
    head, plain = head_of(teacher.config), not is_embedder(read_config(folder))
    student = load_model(folder, target="vector", pooling=head.pooling[0] if plain and len(head.pooling) == 1 else None)
    match_vectors(student, vector_size(teacher), head.normalized)
    if plain:
        own = head_of(student.config)
        setattr(student.config, EMBEDDING_KEY, replace(head, pooling=own.pooling, steps=own.steps).as_json())
    return student


def take_layers(teacher: TransformersModel, chosen: int | list[int]) -> TransformersModel:
    """Return a copy of the teacher with some of its layers; embeddings, pooler and head are complete.

    Args:
        teacher: a model with its head.
        chosen: ascending positions, or a number of evenly spaced layers.

    Raises:
        UsageError: more layers than the teacher has.
    """
    layers = len(model_shape(teacher).layers)
    count = chosen if isinstance(chosen, int) else len(chosen)
    check_depth(count, layers)
    student = copy.deepcopy(teacher)
    keep_layers(student, with_first_layer(teacher, evenly_spaced_layers(count, layers)) if isinstance(chosen, int) else chosen)
    return student


def choose_layers(teacher: TransformersModel, count: int, texts: InitTexts) -> list[int]:
    """Return the layers that a shallower student takes: the first ones or evenly spaced ones.

    The student whose logits diverge less from the teacher's on the sample wins. (*How to distill your BERT*, Wang et al.
    2023, arXiv 2305.15032: lower layers are the better initialisation, by far if few are taken.)

    Raises:
        UsageError: more layers than the teacher has.
    """
    layers = len(model_shape(teacher).layers)
    check_depth(count, layers)
    candidates = {"first": list(range(count)), "evenly spaced": with_first_layer(teacher, evenly_spaced_layers(count, layers))}
    if count == layers or candidates["first"] == candidates["evenly spaced"]:
        return candidates["first"]
    losses = {name: texts.divergence(take_layers(teacher, chosen), teacher) for name, chosen in candidates.items()}
    best = min(losses, key=lambda name: losses[name])
    shown = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    console.info(f"  student's layers, divergence from the teacher: {shown}; taking the {best} ones")
    return candidates[best]


def _initialized(spec: StudentSpec, teacher: TransformersModel, init: StudentInit) -> TransformersModel:
    """Return a student of a SPEC's shape with the teacher's vocabulary."""
    sizes = spec.without_layers(1 if is_embedder_model(teacher) else len(next(iter(init.texts.examples.texts))))
    if sizes:
        check_init(init.method, sizes.title)
        if isinstance(sizes, StaticShape):
            return create_static(teacher, sizes, init.method, init.texts)
        return create_bilstm(teacher, sizes, init.method)
    shape = model_shape(teacher)
    check_has_layers(shape)
    count = spec.layers or len(shape.layers)
    grouped = family_of(teacher.config.model_type).grouped
    if init.method == "random":
        student_shape = shape_of_spec(spec, shape, may_be_larger=True)
        return randomly_initialized(teacher, shared_as_teacher(student_shape, shape) if grouped else student_shape)
    if takes_whole_layers(spec, shape, init.method, bool(adapter_size(teacher))):
        return take_layers(teacher, choose_layers(teacher, count, init.texts) if init.method == "auto" else count)
    source = take_layers(teacher, choose_layers(teacher, count, init.texts))
    student_shape = shape_of_spec(spec, shape)
    return initialize_by_importance(source, replace(student_shape, shared=owners_of(source)) if grouped else student_shape, init.texts)
