"""The start of a search: the model fine-tuned if it needs that, and measured in int8, the first possible answer."""

from __future__ import annotations

import math

from compress.core import console
from compress.core.errors import GateMissed, UsageError
from compress.search.space import BATCH
from compress.search.trials import Trials

BASELINE_STEPS = 400  # of fine-tuning, on small data; else 3 epochs
BASELINE_EPOCHS = (3, 8)  # fewest and most, if they take at most `BASELINE_SHARE` of the budget
BASELINE_SHARE = 0.3
LEAST_SAMPLE = 4000  # texts that a baseline is fine-tuned on, at least, where there is no time for all
FORMS = 3  # final forms that time is reserved for, at most: as many as take `FORMS_SHARE` of the budget, at least one
FORMS_SHARE = 0.1
UNREDUCED = -1.0  # gain of the baseline's float graph: the start of the curve of its family, before every other


def measure_baseline(trials: Trials) -> None:
    """Fine-tune the model if it needs that, and measure its int8 form: the first possible answer."""
    space = trials.space
    if space.trains_baseline:
        _finetune(trials)
    else:
        _check_budget(
            trials,
            space.add_int8("baseline-int8", space.baseline),
            trials.serving_seconds() + trials.reserve(),
            "measuring the model in int8",
            "",
        )
    try:
        candidate = trials.serve("baseline, int8", space.add_int8("baseline-int8", space.baseline))
    except GateMissed as error:
        trials.say(f"the baseline cannot be quantized: {error.message}")
        candidate = trials.serve("baseline, fp32 graph", space.add_graph("baseline-graph", space.baseline), "export")
    candidate.gain = candidate.speed.ratio if candidate.speed and trials.objective.kind != "smallest" else 0.0
    if candidate.verdict != "kept" and trials.objective.kind != "most accurate" and candidate.model == "baseline-int8":
        trials.serve("baseline, fp32 graph", space.add_graph("baseline-graph", space.baseline), "export", gain=UNREDUCED)
    trials.forms = min(max(int(FORMS_SHARE * trials.budget / trials.serving_seconds()), 1), FORMS)


def _finetune(trials: Trials) -> None:
    space = trials.space
    work = space.facts.train / BATCH  # of an epoch, in steps of usual batches
    fewest, most = BASELINE_EPOCHS
    usual = min(max(fewest, math.ceil(BASELINE_STEPS / space.baseline_steps)), most)
    seconds = {epochs: trials.costs.predict("train", epochs * work) for epochs in range(usual, 0, -1)}
    available = BASELINE_SHARE * trials.budget
    epochs, sample = next((epochs for epochs, needed in seconds.items() if needed <= available), 1), None
    stored = next((number for number in range(usual, fewest - 1, -1) if _is_trained(trials, number)), None)
    if stored is not None:
        epochs = stored  # by an earlier search: everything that it has run depends on this
    elif (share := available / seconds[epochs]) < 1 and share * space.facts.train > LEAST_SAMPLE:
        sample, work, seconds[epochs] = int(share * space.facts.train), share * work, available
    name = space.add_baseline(epochs, sample)
    passes = f"{epochs} epoch{'s'[: epochs - 1]}" + (f" on {sample:,} of the texts" if sample else "")
    needed = seconds[epochs] + trials.serving_seconds() + trials.reserve()
    reused = trials.lab.reused(space.needed(name), name)
    _check_budget(trials, name, needed, f"fine-tuning for {passes} and measuring the result", ", or a model that is fine-tuned already")
    time = "as an earlier search did" if reused else f"about {console.duration(seconds[epochs])}"
    trials.say(f"the model is not trained for this task: fine-tune it for {passes}, {time}")
    trials.do(name, "train", epochs * work)


def _check_budget(trials: Trials, name: str, needed: float, what: str, instead: str) -> None:
    """Check that the first answer fits into the budget; a stage that an earlier search left in the store always does.

    Raises:
        UsageError: it does not.
    """
    if needed > trials.budget and not trials.lab.reused(trials.space.needed(name), name):
        raise UsageError(
            f"the budget of {console.duration(trials.budget)} is too small: {what} would take about {console.duration(needed)}",
            f"give --budget {math.ceil(1.5 * needed / 60)}m or more{instead}",
        )


def _is_trained(trials: Trials, epochs: int) -> bool:
    """Return whether an earlier search left a baseline of so many epochs."""
    space = trials.space
    name = space.add_baseline(epochs)
    return trials.lab.reused(space.needed(name), name)


def is_float_baseline_enough(trials: Trials) -> bool:
    """Return whether the baseline's float graph is within the latency: then nothing has to be made smaller."""
    name = trials.space.add_graph("baseline-graph", trials.space.baseline)
    trials.require(name, trials.costs.predict("export") + trials.serving_seconds(), "exporting the baseline")
    return trials.serve("baseline, fp32 graph", name, "export", gain=UNREDUCED).verdict == "kept"
