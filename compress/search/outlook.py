"""What the time of a search is spent on after its start, for a plan: one step of each kind, with what it is expected to take."""

from __future__ import annotations

from compress.search.baseline import ExpectedStep
from compress.search.race import Arm
from compress.search.space import FEWER_TARGETS, FIXED_STEP, TARGETS, WHOLE_TEXT
from compress.search.strategy import FAMILY_SHARE, STATIC_GAIN
from compress.search.trials import Trials

EXAMPLE = TARGETS[len(TARGETS) // 2]  # the size whose training is shown


def later_steps(trials: Trials, least: float) -> list[ExpectedStep]:
    """Return the steps that come after the start.

    Args:
        trials: before the search.
        least: seconds of what every search does.
    """
    space, costs = trials.space, trials.costs
    left = FAMILY_SHARE * max(trials.budget - least, 0.0)
    sizes = next((targets for targets in FEWER_TARGETS if costs.predict("prune", len(targets)) <= left), FEWER_TARGETS[-1])
    share = FIXED_STEP + (1 - FIXED_STEP) / EXAMPLE
    size = Arm(f"{EXAMPLE:g}x", "", EXAMPLE, share, None)
    steps = [ExpectedStep(f"pruning to {len(sizes)} size{'s'[: len(sizes) - 1]}, in one run", "prune", costs.predict("prune", len(sizes)))]
    if space.facts.target in WHOLE_TEXT:
        static = Arm("static", "static", STATIC_GAIN, 1.0, None, is_spec=True, variants=False, kind="static")
        steps.insert(0, ExpectedStep("a static student: is an encoder needed?", "static", trials.seconds_to(static, 1)))
    steps += [
        ExpectedStep(f"a first unit of training, of the {size.name} size, and its check", "train", trials.seconds_to(size, 1)),
        ExpectedStep("a size in its final form, checked and timed", "quantize", trials.serving_seconds()),
    ]
    return steps
