"""Which layers of student and teacher each loss compares, from the settings and the two shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from compress.core.errors import UsageError
from compress.data.spec import TaskSpec
from compress.distill.features import PROJECTIONS, Feature
from compress.models.shape import Shape
from compress.settings import DistillSettings
from compress.settings.distill_losses import DEFAULT, OUTPUTS, RANKED, RANKED_DEFAULT, Pairs

COFI_LAYERS = 4  # of the teacher; of twelve the third, sixth, ninth and last
MIN_DKD_CLASSES = 3  # with two, DKD is the logits loss
PER_HEAD = ("attention", "relations")  # losses of projections, which need heads


@dataclass(frozen=True)
class LayerMatch:
    """A loss between a layer of the teacher and one of the student (0: the embeddings).

    Attributes:
        method: the name of the loss.
        weight: of this pair; the pairs of a loss share its weight evenly.
        teacher: the teacher's layer.
        student: the student's layer.
        relation_heads: for `relations`.
        teacher_layers: for `cofi`, all layers of the teacher that are compared.
        student_layers: for `cofi`, the layers among which the nearest ones are chosen batch by batch.
    """

    method: str
    weight: float
    teacher: int = 0
    student: int = 0
    relation_heads: int = 0
    teacher_layers: tuple[int, ...] = ()
    student_layers: tuple[int, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of feature that the loss compares."""
        return {"attention": PROJECTIONS[:2], "relations": PROJECTIONS}.get(self.method, ("hidden",))

    @property
    def teacher_features(self) -> list[Feature]:
        """The features of the teacher that the loss needs."""
        return [(kind, number) for kind in self.kinds for number in self.teacher_layers or (self.teacher,)]

    @property
    def student_features(self) -> list[Feature]:
        """The features of the student that the loss needs."""
        return [(kind, number) for kind in self.kinds for number in self.student_layers or (self.student,)]

    @property
    def projected(self) -> bool:
        """Whether states are compared dimension by dimension, so that different widths need a projection."""
        return self.method in ("hidden", "nmse", "pkd", "cofi")


def evenly_spaced_layers(student_layers: int, teacher_layers: int) -> list[int]:
    """Return the teacher layers (from 0) that a shallower student takes: evenly spaced, including the last one.

    >>> evenly_spaced_layers(3, 6)
    [1, 3, 5]
    """
    return [round((number + 1) * teacher_layers / student_layers) - 1 for number in range(student_layers)]


def pair_layers(student_layers: int, teacher_layers: int, match: str) -> list[tuple[int, int]]:
    """Return (student, teacher) pairs of hidden states: 1 after the first layer, 0 the embeddings.

    Args:
        student_layers: number of the student's layers.
        teacher_layers: number of the teacher's layers.
        match: `last` pairs the last ones only, which overfits least on small data (Ko et al. 2023, arXiv 2302.01530); `uniform` pairs
            every student layer with the teacher layer at the same relative depth (Jiao et al. 2020); `all` adds the embeddings.
    """
    if match == "last":
        return [(student_layers, teacher_layers)]
    pairs = [(number + 1, max(1, round((number + 1) * teacher_layers / student_layers))) for number in range(student_layers)]
    return [(0, 0), *pairs] if match == "all" else pairs


def match_layers(settings: DistillSettings, teacher: Shape, student: Shape) -> list[LayerMatch]:
    """Return all matches of layers that the settings describe.

    Raises:
        UsageError: a layer does not exist, or the loss cannot compare two layers.
    """
    matches: list[LayerMatch] = []
    layered = settings.layers_matched
    for method, weight in settings.losses.items():
        if method == "cofi":
            matches.append(_cofi(weight, teacher, student))
        elif method in layered:
            pairs = _pairs(method, layered[method], len(teacher.layers), len(student.layers))
            for below, above in pairs:
                match = LayerMatch(method, weight / len(pairs), above, below)
                matches.append(_with_heads(match, settings.relation_heads, teacher, student) if method in PER_HEAD else match)
    return matches


def drop_default_layer_losses(settings: DistillSettings, teacher: Shape, student: Shape) -> DistillSettings:
    """Return the settings without the default's losses of layers if a model has no layers or the widths differ.

    BiLSTMs and static models have no layers. States of different widths are compared through projections that must be learned first:
    with the default's weight this takes all of a short training (docs/decisions/0019-logits-across-widths.md).

    Raises:
        UsageError: the settings name losses or pairs of layers, and a model has no layers.
    """
    layered, default = [name for name in settings.losses if name not in OUTPUTS], settings.method in (list(DEFAULT), list(RANKED_DEFAULT))
    without = student.without_layers or teacher.without_layers
    if not layered or not (without or teacher.hidden != student.hidden):
        return settings
    if not without and (not default or settings.match or settings.layer_epochs):
        return settings
    explicit = {
        f"method {layered[0]}": not default,
        "layer_epochs": bool(settings.layer_epochs),
        f"match {settings.match}": ":" in (settings.match or ""),
    }
    setting = next((name for name, given in explicit.items() if given), None)
    if without and setting is not None:
        raise UsageError(f"{setting} needs layers, and a {without.title} has none", "use --method logits, or dkd")
    return settings.model_copy(update={"method": [name for name in settings.losses if name in OUTPUTS]})


def for_candidates(settings: DistillSettings, spec: TaskSpec) -> DistillSettings:
    """Return the settings with the default losses of a reranker, if its task has candidates and no losses were chosen.

    Differences between the candidates of a query teach a reranker better than single scores (arXiv 2603.03010).
    """
    if not spec.ranks_candidates or settings.method != list(DEFAULT) or settings.augment or settings.unlabeled:
        return settings
    return settings.model_copy(update={"method": list(RANKED_DEFAULT)})


def check_methods(settings: DistillSettings, spec: TaskSpec, classes: int) -> None:
    """Check that the methods suit the task.

    Raises:
        UsageError: DKD without classes, or with two; similarities of texts without vectors; lists without candidates; labels that nobody
            learns from.
    """
    target = spec.target
    if "similarity" in settings.losses and target != "vector":
        raise UsageError("method similarity compares the vectors of texts, and this task has none", "use method logits")
    ranked = next((name for name in RANKED if name in settings.losses), None)
    if ranked and not spec.ranks_candidates:
        raise UsageError(
            f"method {ranked} compares the candidates of a query, and this task has none",
            "use method logits; or give --kind text-ranking with --beir, and --run or --retriever",
        )
    if "theseus" in settings.losses and (target == "vector" or spec.ranks_candidates):
        model = "an embedder" if target == "vector" else "a reranker on its candidates"
        raise UsageError(f"method theseus learns from labels, and {model} learns from its teacher alone", "leave --method out")
    if "dkd" not in settings.losses:
        return
    if target in ("labels", "value", "vector"):
        raise UsageError("method dkd separates one true class from the others, and this task has no such class", "use method logits")
    if target != "span" and classes < MIN_DKD_CLASSES:
        raise UsageError(
            f"method dkd needs three classes or more, and this task has {classes}",
            "with two classes it is the logits loss: use method logits",
        )


def _pairs(method: str, match: str | Pairs, teacher_layers: int, student_layers: int) -> list[tuple[int, int]]:
    """Return (student, teacher) layers, checked."""
    lowest = 1 if method in PER_HEAD else 0
    if isinstance(match, str):
        return [pair for pair in pair_layers(student_layers, teacher_layers, match) if pair[0] >= lowest]
    for name, position, layers in (("teacher", 0, teacher_layers), ("student", 1, student_layers)):
        for pair in match:
            if not lowest <= pair[position] <= layers:
                raise UsageError(
                    f"{method}:{pair[0]}-{pair[1]}: the {name} has no layer {pair[position]} (it has {lowest} to {layers})",
                    "write TEACHER-STUDENT, layers counted from 1" + ("" if lowest else "; 0 are the embeddings"),
                )
    return [(below, above) for above, below in match]


def _with_heads(match: LayerMatch, relation_heads: int | None, teacher: Shape, student: Shape) -> LayerMatch:
    """Check a match of projections, and fill in the relation heads."""
    above, below = teacher.layers[match.teacher - 1].heads, student.layers[match.student - 1].heads
    where = f"{match.method}: layer {match.teacher} of the teacher and layer {match.student} of the student"
    if not above or not below:
        raise UsageError(f"{where} cannot be matched: the {'student' if above else 'teacher'}'s has no heads", "match other layers")
    if match.method == "attention":
        if above != below:
            raise UsageError(
                f"{where} have {above} and {below} heads, and scores are matched head by head",
                "use method relations, which works across heads and widths",
            )
        return match
    widths = above * teacher.head_size, below * student.head_size
    common = math.gcd(*widths)
    if relation_heads is None:  # as many as the teacher's heads, or the next smaller number that divides both widths
        relation_heads = max(number for number in range(1, above + 1) if common % number == 0)
    elif common % relation_heads:
        raise UsageError(
            f"{where} are {widths[0]} and {widths[1]} wide, which {relation_heads} relation heads do not divide",
            f"--relation-heads must divide {common}",
        )
    return replace(match, relation_heads=relation_heads)


def _cofi(weight: float, teacher: Shape, student: Shape) -> LayerMatch:
    """Return CoFi's match: evenly spaced layers of the teacher with the student's layers that pruning kept."""
    kept = tuple(number for number, layer in enumerate(student.layers, 1) if layer.heads or layer.ffn)
    if not kept:
        raise UsageError("cofi: no layer of the student has a head or a neuron", "use method logits")
    chosen = evenly_spaced_layers(min(COFI_LAYERS, len(teacher.layers)), len(teacher.layers))
    return LayerMatch("cofi", weight, teacher_layers=tuple(number + 1 for number in chosen), student_layers=kept)
