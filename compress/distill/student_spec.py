"""The SPEC of a student, such as `layers=4,hidden=312,heads=12,ffn=1200` or `lstm=150`, and the shape it means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from compress.core.errors import UsageError, did_you_mean
from compress.distill.layer_matching import evenly_spaced_layers
from compress.models.config import read_config
from compress.models.config_checks import BOUNDS, MORE_BOUNDS
from compress.models.layer_groups import share_as_before
from compress.models.shape import LayerShape, LstmShape, Shape, StaticShape, lstm_shape, shape_of_config, static_shape

TRANSFORMER_KEYS = ("layers", "hidden", "heads")  # that students without layers do not have
KEYS = {key: BOUNDS[key] for key in (*TRANSFORMER_KEYS, "ffn")} | {
    "vocab": MORE_BOUNDS["vocab_size"][1],
    "lstm": BOUNDS["hidden"] // 2,
    "embedding": BOUNDS["hidden"],
    "static": BOUNDS["hidden"],
    "bigram": MORE_BOUNDS["bigram_size"][1],
    "buckets": MORE_BOUNDS["bigram_buckets"][1],
}
BELONGS_TO = {"embedding": "lstm", "bigram": "static", "buckets": "static"}  # a key, and the one that it needs
DEFAULT_LSTM = LstmShape(embedding=300, units=150, ffn=200)  # Tang et al. 2019
DEFAULT_STATIC = StaticShape(embedding=256, bigram=64, buckets=65_536, ffn=256)
SYNTAX = (
    "a student is written layers=4,hidden=312,heads=12,ffn=1200,vocab=10000, where missing keys are as in the teacher; "
    "or, a BiLSTM, lstm=150,embedding=300,ffn=200,vocab=10000; or, a static student, static=256,bigram=64,buckets=65536,ffn=256,vocab=10000"
)


@dataclass(frozen=True)
class StudentSpec:
    """The keys of a SPEC; None: as in the teacher, or the default size.

    With `lstm` (units in each direction) it is a BiLSTM, with `static` (width of the token embeddings) a static student.
    """

    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    ffn: int | None = None
    vocab: int | None = None
    lstm: int | None = None
    embedding: int | None = None
    static: int | None = None
    bigram: int | None = None
    buckets: int | None = None

    def without_layers(self, texts: int = 1) -> LstmShape | StaticShape | None:
        """Return the sizes of a student that is no transformer, of `texts` texts an example; None for a student with layers."""
        if self.lstm:
            return LstmShape(self.embedding or DEFAULT_LSTM.embedding, self.lstm, self.ffn or DEFAULT_LSTM.ffn)
        if self.static:
            usual = DEFAULT_STATIC
            return StaticShape(self.static, self.bigram or usual.bigram, self.buckets or usual.buckets, self.ffn or usual.ffn, texts)
        return None

    @property
    def whole_layers(self) -> bool:
        """Whether only the number of layers may differ from the teacher's."""
        return self.hidden is None and self.heads is None and self.ffn is None


def parse_spec(text: str) -> StudentSpec:
    """Read a SPEC.

    Raises:
        UsageError: an unknown or repeated key, a value other than a positive number, a width that the heads do not divide, or keys
            of different kinds of students together.
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
    _check_kind(text, list(fields))
    if spec.hidden and spec.heads and spec.hidden % spec.heads:
        raise UsageError(f"the student '{text}' is {spec.hidden} wide, which {spec.heads} heads do not divide", SYNTAX)
    return spec


def _check_kind(text: str, keys: list[str]) -> None:
    """Check that the keys of a SPEC belong to one kind of student."""
    for kind, title in (("lstm", "BiLSTM"), ("static", "static student")):
        others = [key for key in keys if key in TRANSFORMER_KEYS or (key in ("lstm", "static") and key != kind)]
        if kind in keys and others:
            raise UsageError(f"the student '{text}' has both {kind} and {others[0]}: a {title} has no {others[0]}", SYNTAX)
    stray = next((key for key in keys if BELONGS_TO.get(key, key) not in keys), None)
    if stray:
        raise UsageError(f"the student '{text}' has the key '{stray}', which goes with {BELONGS_TO[stray]}", SYNTAX)


def check_init(init: str, title: str) -> None:
    """Check that a student without layers supports a value of `--init`.

    Raises:
        UsageError: the value needs layers.
    """
    if init in ("layers", "importance"):
        raise UsageError(
            f"init {init} copies layers, and a {title} has none",
            "use --init auto, which initialises the token embeddings from the teacher's, or random",
        )


def shape_of_student(student: Path | str | None, teacher: Shape, init: str = "auto", adapted: bool = False, texts: int = 1) -> Shape:
    """Return the shape of a student without creating it.

    Args:
        student: a folder or a SPEC.
        teacher: the teacher's shape.
        init: the value of `--init`.
        adapted: whether the teacher has adapters.
        texts: number of texts of an example.

    Raises:
        UsageError: no student, or a SPEC that the teacher cannot initialise.
        ModelError: the folder is no model.
    """
    if student is None:
        raise UsageError("distill needs a student", "give --student MODEL or --student layers=K")
    if isinstance(student, Path):
        return shape_of_config(read_config(student))
    spec = parse_spec(student)
    if sizes := spec.without_layers(texts):
        check_init(init, sizes.title)
        return static_shape(sizes) if isinstance(sizes, StaticShape) else lstm_shape(sizes)
    check_has_layers(teacher)
    if init != "random":
        takes_whole_layers(spec, teacher, init, adapted)
    return shape_of_spec(spec, teacher, may_be_larger=init == "random")


def check_has_layers(teacher: Shape) -> None:
    """Check that a teacher has layers to initialise a student from.

    Raises:
        UsageError: it is a BiLSTM or a static model.
    """
    if teacher.without_layers:
        title = teacher.without_layers.title
        raise UsageError(
            f"the teacher is a {title}, which has no layers to initialise a student from", "give --student lstm=N, static=N or a model"
        )


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
        return Shape(teacher.hidden, teacher.head_size, layers, gated=teacher.gated)
    first = teacher.layers[0]
    hidden = spec.hidden or teacher.hidden
    heads = spec.heads or teacher.hidden // teacher.head_size
    if hidden % heads:
        raise UsageError(f"a student {hidden} wide cannot have {heads} heads: they do not divide its width", "give heads=N as well")
    shape = Shape(hidden, hidden // heads, (LayerShape(heads, spec.ffn or first.ffn),) * count, gated=teacher.gated)
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


def shared_as_teacher(shape: Shape, teacher: Shape) -> Shape:
    """Return a student's shape with layers that share weights as those of an ALBERT teacher at the same height do."""
    count, layers = len(shape.layers), len(teacher.layers)
    return replace(shape, shared=share_as_before(teacher.shared, [number * layers // count for number in range(count)]))


def _with_depth(shape: Shape, count: int) -> Shape:
    return replace(shape, layers=(shape.layers[0],) * count, embedding=None, shared=()) if len(set(shape.layers)) == 1 else shape
