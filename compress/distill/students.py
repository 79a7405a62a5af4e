"""Student shapes: a SPEC such as `layers=4,hidden=312,heads=12,ffn=1200` or `lstm=150`, and students that start from their teacher."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.core import console
from compress.core.errors import UsageError, did_you_mean
from compress.data.input_spec import Target
from compress.distill.calibration import Calibration
from compress.distill.layer_matching import spread
from compress.distill.recurrent import check_init, make_bilstm
from compress.distill.shrink import blank, shrink
from compress.editing.encoder_layers import keep_layers
from compress.editing.vocabulary import frequent_tokens, keep_tokens
from compress.models.adapters import adapter_size
from compress.models.checkpoint import load_model
from compress.models.config import only_numbered, read_config
from compress.models.config_checks import BOUNDS
from compress.models.head import model_labels
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, LstmShape, Shape, lstm_shape, shape_of_config

OF_LAYERS = ("layers", "hidden", "heads")
KEYS = {key: BOUNDS[key] for key in (*OF_LAYERS, "ffn")} | {
    "vocab": 4_000_000,
    "lstm": BOUNDS["hidden"] // 2,
    "embedding": BOUNDS["hidden"],
}
LSTM = LstmShape(embedding=300, units=150, ffn=200)  # the paper's sizes, where a SPEC leaves them out
NEEDS = (
    "a student is written layers=4,hidden=312,heads=12,ffn=1200,vocab=10000, and what is left out is the teacher's; "
    "or, a BiLSTM, lstm=150,embedding=300,ffn=200,vocab=10000"
)


@dataclass(frozen=True)
class Spec:
    """What a SPEC asks for; None is as the teacher has it, of a BiLSTM (`lstm` units in each direction) the usual size."""

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    ffn: int | None = None
    vocab: int | None = None
    lstm: int | None = None
    embedding: int | None = None

    @property
    def recurrent(self) -> LstmShape | None:
        """The sizes of a BiLSTM; None of a student with layers."""
        return LstmShape(self.embedding or LSTM.embedding, self.lstm, self.ffn or LSTM.ffn) if self.lstm else None


@dataclass(frozen=True)
class Start:
    """How a student of a SPEC starts: the mode of `--init`, texts of the task, a folder for a smaller tokenizer."""

    calibration: Calibration
    scratch: Path
    init: str = "auto"


def parse_spec(spec: str) -> Spec:
    """Read a SPEC.

    Raises:
        UsageError: an unknown key, one given twice, a value that is no positive number, a width that heads do not divide, keys of
            layers beside those of a BiLSTM.
    """
    fields: dict[str, int] = {}
    for part in spec.replace(" ", "").split(","):
        key, _, value = part.partition("=")
        if key not in KEYS:
            raise UsageError(f"the student '{spec}' has the key '{key}'{did_you_mean(key, KEYS)}", NEEDS)
        if key in fields:
            raise UsageError(f"the student '{spec}' has the key '{key}' twice", NEEDS)
        digits = value.isascii() and value.isdecimal() and len(value) <= len(str(KEYS[key]))
        if not digits or not 1 <= int(value) <= KEYS[key]:
            raise UsageError(f"the student '{spec}' needs a positive number of {key}, up to {KEYS[key]:,}", f"for example {key}=3; {NEEDS}")
        fields[key] = int(value)
    found = Spec(**fields)
    mixed = next((key for key in OF_LAYERS if key in fields), None)
    if found.lstm and mixed:
        raise UsageError(f"the student '{spec}' has both lstm and {mixed}: a BiLSTM has no layers of heads", NEEDS)
    if found.embedding and not found.lstm:
        raise UsageError(f"the student '{spec}' has an embedding width, which goes with lstm", NEEDS)
    if found.hidden and found.heads and found.hidden % found.heads:
        raise UsageError(f"the student '{spec}' is {found.hidden} wide, which {found.heads} heads do not divide", NEEDS)
    return found


def shape_of_student(wanted: Path | str | None, teacher: Shape, init: str = "auto", adapted: bool = False) -> Shape:
    """Return the shape that a student has, of a SPEC or a folder, without making it.

    Args:
        wanted: a SPEC or a folder.
        teacher: its shape.
        init: the mode of `--init`.
        adapted: whether the teacher has adapters.

    Raises:
        UsageError: no student, or a SPEC that does not fit the teacher or that it cannot start.
        ModelError: a folder that is no model.
    """
    if wanted is None:
        raise UsageError("distill needs a student", "give --student MODEL or --student layers=K")
    if isinstance(wanted, Path):
        return shape_of_config(read_config(wanted))
    spec = parse_spec(wanted)
    if spec.recurrent:
        check_init(init)
        return lstm_shape(spec.recurrent)
    _check_layers(teacher)
    if init != "random":
        _starts_whole(spec, teacher, init, adapted)
    return _shape(spec, teacher, larger=init == "random")


def make_student(
    wanted: Path | str | None, teacher: Any, teacher_folder: Path, start: Start | None = None, target: Target = "class",
    names: list[str] | None = None,
) -> tuple[Any, Path]:  # fmt: skip
    """Build the student from a SPEC or load it from a folder; returns it with its tokenizer's folder.

    A model's classifier is brought into the order of the teacher's labels; an encoder gets a new one.

    Args:
        wanted: a SPEC or a folder.
        teacher: a model with its head, which is left as it is.
        teacher_folder: of its tokenizer.
        start: how a SPEC starts; without it the layers are spread evenly.
        target: what a model answers with, where it is given a new head.
        names: the task's labels, which classes stand for that are only numbered.

    Raises:
        UsageError: no student, a malformed SPEC, or one that the teacher cannot start.
        ModelError: a folder that is no model.
    """
    if wanted is None:
        raise UsageError("distill needs a student", "give --student MODEL or --student layers=K")
    if isinstance(wanted, Path):
        labels = model_labels(teacher)
        if names and only_numbered(labels, names):
            labels = names
        return load_model(wanted, labels=labels, target=target, numbered=names), wanted
    spec = parse_spec(wanted)
    student = _started(spec, teacher, start)
    if spec.vocab is None or start is None:
        return student, teacher_folder
    texts = start.calibration
    kept = frequent_tokens(student, teacher_folder, texts.examples.texts, spec.vocab, words=texts.target == "tags")
    before = student.config.vocab_size
    keep_tokens(student, teacher_folder, kept, start.scratch)
    student.config.save_pretrained(str(start.scratch))
    console.info(f"  vocabulary: {len(kept):,} of {before:,} tokens")
    return student, start.scratch


def take_layers(teacher: Any, chosen: int | list[int]) -> Any:
    """Return a copy of the teacher with some of its layers; embeddings, pooler and head are copied whole.

    Args:
        teacher: a model with its head.
        chosen: ascending positions, or how many, evenly spread.

    Raises:
        UsageError: more layers than the teacher has.
    """
    layers = len(model_shape(teacher).layers)
    count = chosen if isinstance(chosen, int) else len(chosen)
    _check_depth(count, layers)
    student = copy.deepcopy(teacher)
    keep_layers(student, spread(count, layers) if isinstance(chosen, int) else chosen)
    return student


def choose_layers(teacher: Any, count: int, calibration: Calibration) -> list[int]:
    """Return which layers a shallower student takes: the first ones or evenly spread ones, whichever answers more like the teacher.

    By the divergence of its answers from the teacher's on the calibration texts. (*How to distill your BERT*, Wang et al.
    2023, arXiv 2305.15032: lower layers are the better start, by far where few are taken.)

    Raises:
        UsageError: more layers than the teacher has.
    """
    layers = len(model_shape(teacher).layers)
    _check_depth(count, layers)
    candidates = {"the first": list(range(count)), "evenly spread": spread(count, layers)}
    if count == layers or candidates["the first"] == candidates["evenly spread"]:
        return candidates["the first"]
    losses = {name: calibration.divergence(take_layers(teacher, chosen), teacher) for name, chosen in candidates.items()}
    best = min(losses, key=lambda name: losses[name])
    console.info(
        "  student's layers: " + ", ".join(f"{name} diverge by {loss:.3f}" for name, loss in losses.items()) + f"; {best} are taken"
    )
    return candidates[best]


def _started(spec: Spec, teacher: Any, start: Start | None) -> Any:
    """Return a student of a SPEC's shape, the vocabulary still whole."""
    if spec.recurrent:
        return make_bilstm(teacher, spec.recurrent, "auto" if start is None else start.init)
    old = model_shape(teacher)
    _check_layers(old)
    count, init = spec.layers or len(old.layers), "layers" if start is None else start.init
    if init == "random":
        return blank(teacher, _shape(spec, old, larger=True))
    whole = _starts_whole(spec, old, init, bool(adapter_size(teacher)))
    if start is None:  # and so init is layers
        return take_layers(teacher, count)
    if whole:
        return take_layers(teacher, choose_layers(teacher, count, start.calibration) if init == "auto" else count)
    source = take_layers(teacher, choose_layers(teacher, count, start.calibration))
    return shrink(source, _shape(spec, old), start.calibration)


def _check_layers(teacher: Shape) -> None:
    if teacher.lstm is not None:
        raise UsageError("the teacher is a BiLSTM, which has no layers to lend", "give --student lstm=N, or a model")


def _starts_whole(spec: Spec, teacher: Shape, init: str, adapted: bool) -> bool:
    """Tell whether a student starts with whole layers of its teacher, or else with their most important parts.

    Raises:
        UsageError: a SPEC that does not fit the teacher, or parts of a teacher that lends whole layers only.
    """
    if init != "importance" and all(value is None for value in (spec.hidden, spec.heads, spec.ffn)):
        return True
    first = teacher.layers[0]
    cut = len(set(teacher.layers)) > 1 or first.heads * teacher.head_size != teacher.hidden
    pieces = cut or bool(first.ranks) or teacher.embedding is not None
    if init != "importance" and not pieces and _shape(spec, teacher) == _deep(teacher, spec.layers or len(teacher.layers)):
        return True
    if init == "layers":
        raise UsageError(
            "init layers copies whole layers, and the student has other sizes than the teacher's", "use init importance, or auto"
        )
    if pieces or adapted:
        raise UsageError(
            "a teacher that is pruned, factorized or has adapters lends its students whole layers only",
            "use layers=K with --init auto, another teacher, or --init random",
        )
    return False


def _shape(spec: Spec, teacher: Shape, larger: bool = False) -> Shape:
    """Return the shape that a SPEC means beside a teacher.

    Raises:
        UsageError: larger than the teacher in something (unless `larger`), or no number of heads that divides the width.
    """
    count = spec.layers or len(teacher.layers)
    if all(value is None for value in (spec.hidden, spec.heads, spec.ffn)) and not larger:
        _check_depth(count, len(teacher.layers))
        return Shape(teacher.hidden, teacher.head_size, tuple(teacher.layers[number] for number in spread(count, len(teacher.layers))))
    first = teacher.layers[0]
    hidden = spec.hidden or teacher.hidden
    heads = spec.heads or teacher.hidden // teacher.head_size
    if hidden % heads:
        raise UsageError(f"a student {hidden} wide cannot have {heads} heads: they do not divide its width", "give heads=N as well")
    shape = Shape(hidden, hidden // heads, (LayerShape(heads, spec.ffn or first.ffn),) * count)
    if not larger:
        _check_depth(count, len(teacher.layers))
        for name, own, most in (("hidden", hidden, teacher.hidden), ("heads", heads, first.heads), ("ffn", shape.layers[0].ffn, first.ffn)):
            if own > most:
                raise UsageError(
                    f"a student with {name}={own} cannot start from a teacher with {most}",
                    f"lower {name}, or start at random: --init random (which needs far more training)",
                )
    return shape


def _deep(shape: Shape, count: int) -> Shape:
    return Shape(shape.hidden, shape.head_size, (shape.layers[0],) * count) if len(set(shape.layers)) == 1 else shape


def _check_depth(count: int, layers: int) -> None:
    if count > layers:
        raise UsageError(f"a student of {count} layers cannot be taken from a teacher of {layers}", "take fewer, or --init random")
