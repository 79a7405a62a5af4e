"""The SPEC of a student, such as `layers=4,hidden=312,heads=12,ffn=1200` or `lstm=150`, and the shape it means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compress.core.errors import UsageError, did_you_mean
from compress.distill.bilstm_student import check_init
from compress.distill.layer_matching import evenly_spaced_layers
from compress.models.config import read_config
from compress.models.config_checks import BOUNDS
from compress.models.shape import LayerShape, LstmShape, Shape, lstm_shape, shape_of_config

TRANSFORMER_KEYS = ("layers", "hidden", "heads")  # that a BiLSTM does not have
KEYS = {key: BOUNDS[key] for key in (*TRANSFORMER_KEYS, "ffn")} | {
    "vocab": 4_000_000,
    "lstm": BOUNDS["hidden"] // 2,
    "embedding": BOUNDS["hidden"],
}
DEFAULT_LSTM = LstmShape(embedding=300, units=150, ffn=200)  # Tang et al. 2019
SYNTAX = (
    "a student is written layers=4,hidden=312,heads=12,ffn=1200,vocab=10000, where missing keys are as in the teacher; "
    "or, a BiLSTM, lstm=150,embedding=300,ffn=200,vocab=10000"
)


@dataclass(frozen=True)
class StudentSpec:
    """The keys of a SPEC; None: as in the teacher, or for a BiLSTM (`lstm` units in each direction) the default size."""

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    ffn: int | None = None
    vocab: int | None = None
    lstm: int | None = None
    embedding: int | None = None

    @property
    def recurrent(self) -> LstmShape | None:
        """The sizes of a BiLSTM; None for a student with layers."""
        return LstmShape(self.embedding or DEFAULT_LSTM.embedding, self.lstm, self.ffn or DEFAULT_LSTM.ffn) if self.lstm else None

    @property
    def whole_layers(self) -> bool:
        """Whether only the number of layers may differ from the teacher's."""
        return self.hidden is None and self.heads is None and self.ffn is None


def parse_spec(text: str) -> StudentSpec:
    """Read a SPEC.

    Raises:
        UsageError: an unknown or repeated key, a value other than a positive number, a width that the heads do not divide, or keys
            of a transformer together with those of a BiLSTM.
    """
    fields: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        key, _, value = part.partition("=")
        if key not in KEYS:
            raise UsageError(f"the student '{text}' has the key '{key}'{did_you_mean(key, KEYS)}", SYNTAX)
        if key in fields:
            raise UsageError(f"the student '{text}' has the key '{key}' twice", SYNTAX)
        digits = value.isascii() and value.isdecimal() and len(value) <= len(str(KEYS[key]))
        if not digits or not 1 <= int(value) <= KEYS[key]:
            raise UsageError(
                f"the student '{text}' needs a positive number of {key}, up to {KEYS[key]:,}", f"for example {key}=3; {SYNTAX}"
            )
        fields[key] = int(value)
    spec = StudentSpec(**fields)
    transformer_key = next((key for key in TRANSFORMER_KEYS if key in fields), None)
    if spec.lstm and transformer_key:
        raise UsageError(f"the student '{text}' has both lstm and {transformer_key}: a BiLSTM has no layers of heads", SYNTAX)
    if spec.embedding and not spec.lstm:
        raise UsageError(f"the student '{text}' has an embedding width, which goes with lstm", SYNTAX)
    if spec.hidden and spec.heads and spec.hidden % spec.heads:
        raise UsageError(f"the student '{text}' is {spec.hidden} wide, which {spec.heads} heads do not divide", SYNTAX)
    return spec


def shape_of_student(student: Path | str | None, teacher: Shape, init: str = "auto", adapted: bool = False) -> Shape:
    """Return the shape of a student without creating it.

    Args:
        student: a folder or a SPEC.
        teacher: the teacher's shape.
        init: the value of `--init`.
        adapted: whether the teacher has adapters.

    Raises:
        UsageError: no student, or a SPEC that the teacher cannot initialise.
        ModelError: the folder is no model.
    """
    if student is None:
        raise UsageError("distill needs a student", "give --student MODEL or --student layers=K")
    if isinstance(student, Path):
        return shape_of_config(read_config(student))
    spec = parse_spec(student)
    if spec.recurrent:
        check_init(init)
        return lstm_shape(spec.recurrent)
    check_has_layers(teacher)
    if init != "random":
        takes_whole_layers(spec, teacher, init, adapted)
    return shape_of_spec(spec, teacher, may_be_larger=init == "random")


def check_has_layers(teacher: Shape) -> None:
    """Check that a teacher has layers to initialise a student from.

    Raises:
        UsageError: it is a BiLSTM.
    """
    if teacher.lstm is not None:
        raise UsageError("the teacher is a BiLSTM, which has no layers to initialise a student from", "give --student lstm=N, or a model")


def check_depth(count: int, layers: int) -> None:
    """Check that a student takes at most as many layers as its teacher has.

    Raises:
        UsageError: it takes more.
    """
    if count > layers:
        raise UsageError(f"a student of {count} layers cannot be taken from a teacher of {layers}", "take fewer, or --init random")


def takes_whole_layers(spec: StudentSpec, teacher: Shape, init: str, adapted: bool) -> bool:
    """Return whether a student is initialised with whole layers of its teacher, or else with their most important parts.

    Raises:
        UsageError: the SPEC does not suit the teacher, or needs parts of layers that only can be taken whole.
    """
    if init != "importance" and spec.whole_layers:
        return True
    first = teacher.layers[0]
    pruned = len(set(teacher.layers)) > 1 or first.heads * teacher.head_size != teacher.hidden
    irregular = pruned or bool(first.ranks) or teacher.embedding is not None
    if init != "importance" and not irregular and shape_of_spec(spec, teacher) == _with_depth(teacher, spec.layers or len(teacher.layers)):
        return True
    if init == "layers":
        raise UsageError(
            "init layers copies whole layers, and the student's sizes differ from the teacher's", "use init importance, or auto"
        )
    if irregular or adapted:
        raise UsageError(
            "a teacher that is pruned, factorized or has adapters can only initialise students from whole layers",
            "use layers=K with --init auto, another teacher, or --init random",
        )
    return False


def shape_of_spec(spec: StudentSpec, teacher: Shape, may_be_larger: bool = False) -> Shape:
    """Return the shape that a SPEC means for a student of a teacher.

    Raises:
        UsageError: a size is larger than the teacher's (unless it may be), or the heads do not divide the width.
    """
    count = spec.layers or len(teacher.layers)
    if spec.whole_layers and not may_be_larger:
        check_depth(count, len(teacher.layers))
        layers = tuple(teacher.layers[number] for number in evenly_spaced_layers(count, len(teacher.layers)))
        return Shape(teacher.hidden, teacher.head_size, layers)
    first = teacher.layers[0]
    hidden = spec.hidden or teacher.hidden
    heads = spec.heads or teacher.hidden // teacher.head_size
    if hidden % heads:
        raise UsageError(f"a student {hidden} wide cannot have {heads} heads: they do not divide its width", "give heads=N as well")
    shape = Shape(hidden, hidden // heads, (LayerShape(heads, spec.ffn or first.ffn),) * count)
    if not may_be_larger:
        check_depth(count, len(teacher.layers))
        sizes = (("hidden", hidden, teacher.hidden), ("heads", heads, first.heads), ("ffn", shape.layers[0].ffn, first.ffn))
        for name, size, limit in sizes:
            if size > limit:
                raise UsageError(
                    f"a student with {name}={size} cannot be initialised from a teacher with {limit}",
                    f"lower {name}, or initialise at random: --init random (which needs far more training)",
                )
    return shape


def _with_depth(shape: Shape, count: int) -> Shape:
    return Shape(shape.hidden, shape.head_size, (shape.layers[0],) * count) if len(set(shape.layers)) == 1 else shape
