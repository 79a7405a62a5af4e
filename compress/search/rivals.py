"""Rivals of the pruned family: students of other shapes, and sizes with factorized embeddings.

They enter the race with what is expected of them, and are trained only if that promises more than the family does: if the clock or
the size of the file says that they can win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compress.data.input_spec import Target
from compress.search.candidates import Speed
from compress.search.costs import SearchCosts
from compress.search.estimates import Drop
from compress.search.race import Arm
from compress.search.shape_clock import ShapeFacts
from compress.search.space import FIXED_STEP, Space, TaskFacts, stage_name

BILSTM = "bilstm"
BILSTM_TARGETS: tuple[Target, ...] = ("class", "labels", "value")
# Points that a trained student loses, with layers beyond a pruned size of the same speed, a BiLSTM in all (docs/results/pruning.md,
# docs/results/distillation.md).
BEYOND = {"shallow": 2.5, "narrow": 4.0, BILSTM: 3.0}
DOUBT = 0.5  # of these points: their standard error
USUAL_UNITS = 4  # of training, after which they are compared
STEP = {"narrow": 0.3, BILSTM: 0.4}  # seconds of a training step relative to the baseline's
WORTH = 1.1  # times smaller in parameters, for a factorized size to enter
RANK_SHARE, RANK_STEP = 1 / 3, 16  # of the width; ranks are multiples
RANK_LOSS = 0.5  # points that factorized embeddings lose before training (docs/results/factorization.md)


def student_specs(facts: TaskFacts) -> dict[str, str]:
    """Return the SPECs of students of other shapes, and their kinds: shallower, narrower, and a BiLSTM for single texts."""
    depths = sorted({max(1, round(facts.layers * share)) for share in (1 / 6, 1 / 3, 1 / 2)} - {facts.layers})
    specs = {f"layers={count}": "shallow" for count in depths}
    width = facts.hidden // 2
    if facts.target != "vector":  # vectors of another size are not compared
        specs[f"layers={max(1, round(facts.layers * 2 / 3))},hidden={width},ffn={2 * width}"] = "narrow"
    if facts.target in BILSTM_TARGETS and not facts.pairs:
        specs[BILSTM] = BILSTM
    return specs


def student_arms(
    shapes: Mapping[str, ShapeFacts], kinds: Mapping[str, str], family: Sequence[Arm], baseline: float, facts: TaskFacts,
    costs: SearchCosts, smallest: bool = False,
) -> list[Arm]:  # fmt: skip
    """Return arms of students of other shapes, by rising gain.

    Args:
        shapes: what was measured of each SPEC.
        kinds: of the SPECs.
        family: the pruned sizes, with their drops before training, by rising gain; may be empty.
        baseline: speedup of the baseline's int8 form over PyTorch.
        facts: of the task.
        costs: what is known of trainings.
        smallest: whether a gain is the inverse of the parameters, not a speedup.
    """
    arms: list[Arm] = []
    for spec, shape in shapes.items():
        kind, ratio = kinds[spec], shape.speedup * baseline
        gain = 1 / shape.params if smallest else ratio
        curve = 0.0 if kind == BILSTM else costs.recovered(drop_of_family(family, gain), 0, USUAL_UNITS)
        drop = Drop(curve + BEYOND[kind], DOUBT * BEYOND[kind], facts.validation)
        depth = int(spec.removeprefix("layers=")) / facts.layers if kind == "shallow" else 0.0
        size = STEP.get(kind) or FIXED_STEP + (1 - FIXED_STEP) * depth
        arms.append(Arm(spec, spec, gain, size, drop, Speed(ratio), is_spec=True, kind=kind, lasting=drop.points))
    return sorted(arms, key=lambda arm: arm.gain)


def drop_of_family(family: Sequence[Arm], gain: float) -> float:
    """Return the drop before training of a pruned size of some gain, interpolated in the logarithm of the gain, or extrapolated.

    Without a family it is 0.
    """
    known = [(math.log(arm.gain), arm.drop.points) for arm in family if arm.drop]
    if len(known) < 2:
        return known[0][1] if known else 0.0
    (before, low), (last, high) = known[-2:]
    beyond = max(0.0, math.log(gain) - last) * max(0.0, (high - low) / max(last - before, 1e-9))
    gains, drops = zip(*known, strict=True)
    return max(0.0, float(np.interp(math.log(gain), gains, drops)) + beyond)


def factorized_arms(space: Space, family: Sequence[Arm], vocabulary: int) -> list[Arm]:
    """Return the sizes of the family with the vocabulary of the task and factorized embeddings, where that makes their files smaller.

    Args:
        space: of the search; gets the stages that factorize.
        family: whose gains are inverse parameters, before their training.
        vocabulary: tokens of the model.
    """
    hidden = space.facts.hidden
    rank = max(RANK_STEP, round(hidden * RANK_SHARE / RANK_STEP) * RANK_STEP)
    saved = vocabulary * (hidden - rank) - rank * hidden
    arms: list[Arm] = []
    for arm in family:
        params = 1 / arm.gain
        if arm.drop is None or saved <= 0 or params < WORTH * (params - saved):
            continue
        words = space.add_vocabulary(stage_name("words", arm.name), arm.start)
        start = space.add_factorized(stage_name(f"rank{rank}", arm.name), words, rank)
        before = ((words, "quick"), (start, "factorize"))
        drop = Drop(arm.drop.points + RANK_LOSS, arm.drop.error, arm.drop.n)
        gain = 1 / (params - saved)
        arms.append(Arm(f"{arm.name}, rank {rank}", start, gain, arm.size, drop, arm.speed, model=start, before=before))
        arms[-1].pruned = arm.pruned and drop
    return arms
