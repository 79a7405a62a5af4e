"""The start of a search: the model fine-tuned if it needs that, and measured in int8, the first possible answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress.core import console
from compress.core.errors import GateMissed, UsageError
from compress.search.candidates import SearchCandidate
from compress.search.estimates import INT8_LOSS, SPREAD, Drop
from compress.search.space import BATCH
from compress.search.trials import GRACE, OutOfTime, Trials

BASELINE_STEPS = 400  # of fine-tuning, on small data; else 3 epochs
BASELINE_EPOCHS = (3, 8)  # fewest and most, if they take at most `BASELINE_SHARE` of the budget
BASELINE_SHARE = 0.3
LEAST_SAMPLE = 4000  # texts that a baseline is fine-tuned on, at least, where there is no time for all
FORMS = 3  # final forms that time is reserved for, at most: as many as take `FORMS_SHARE` of the budget, at least one
FORMS_SHARE = 0.1
UNREDUCED = -1.0  # gain of the baseline's float graph: the start of the curve of its family, before every other
DOUBT = 1.5  # times longer than predicted that work may take of which nothing was timed here yet
ROOMY = 1.2  # times that: the budget that a refusal suggests


@dataclass(frozen=True)
class ExpectedStep:
    """A planned step.

    Attributes:
        what: in words.
        kind: of its work, see `costs.PRIORS`.
        seconds: that it is expected to take; 0 if an earlier search has done it.
        stored: whether it has.
    """

    what: str
    kind: str
    seconds: float
    stored: bool = False


@dataclass(frozen=True)
class FineTuning:
    """How the baseline is fine-tuned: `steps` of usual batches, on `sample` texts if there is no time for all."""

    epochs: int
    sample: int | None
    steps: float
    seconds: float

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.epochs} epoch{'s'[: self.epochs - 1]}" + (f" on {self.sample:,} of the texts" if self.sample else "")


def first_steps(trials: Trials) -> list[ExpectedStep]:
    """Return what every search does, the least that a budget must hold: the baseline, its int8 form, the verdict.

    What the start of the process has taken already comes first. Nothing runs.
    """
    space, costs, planned = trials.space, trials.costs, list[tuple[str, str, float, str]]()
    if space.trains_baseline:
        tuning = choose_fine_tuning(trials)
        name = space.add_baseline(tuning.epochs, tuning.sample)
        planned.append((f"fine-tuning for {tuning.describe()}", "train", tuning.seconds, name))
    int8 = space.add_int8("baseline-int8", space.baseline)
    planned += [
        ("the baseline in int8", "quantize", costs.predict("quantize"), int8),
        ("evaluating it", "eval", costs.predict("eval", 2 * space.facts.validation), space.add_check(int8)),
        ("timing it", "bench", costs.predict("bench"), space.add_timing(int8)),
        ("the verdict", "eval", costs.predict("eval", 2 * space.facts.judged), ""),
        ("writing the result", "finish", costs.predict("finish"), ""),
    ]
    stored = trials.lab.stored(space.stages)
    space.stages.clear()
    steps = [ExpectedStep(what, kind, 0.0 if name in stored else seconds, name in stored) for what, kind, seconds, name in planned]
    return [ExpectedStep("reading the data, a first timing", "start", trials.lab.spent()), *steps]


def least_seconds(trials: Trials, steps: list[ExpectedStep], doubtful: bool = False) -> float:
    """Return what the first steps take; with `doubtful`, what they may take where nothing of their kind was timed here yet."""
    known = {"start", *trials.costs.observed}
    return sum(step.seconds * (DOUBT if doubtful and step.kind not in known else 1.0) for step in steps)


def check_budget(trials: Trials, steps: list[ExpectedStep]) -> None:
    """Check that the budget holds the first steps.

    Raises:
        UsageError: it does not.
    """
    needed = least_seconds(trials, steps, doubtful=True)
    if needed <= trials.budget:
        return
    what = ", ".join(step.what for step in steps if step.seconds and step.kind != "start")
    tunes = any(step.kind == "train" and step.seconds for step in steps)
    raise UsageError(
        f"a budget of {console.duration(trials.budget)} is less than the start of a search takes here: up to {console.duration(needed)} "
        f"for {what}",
        f"type --budget {math.ceil(ROOMY * needed / 60)}m or more{', or give a model that is fine-tuned already' if tunes else ''}",
    )


def measure_baseline(trials: Trials) -> None:
    """Fine-tune the model if it needs that, and measure its int8 form: the first possible answer.

    Raises:
        OutOfTime: the time is over. If fine-tuning took so long that there is none for int8, the float graph is the answer.
    """
    space = trials.space
    if space.trains_baseline:
        _fine_tune(trials)
    int8 = space.add_int8("baseline-int8", space.baseline)
    if not trials.affords(int8, trials.serving_seconds(), trials.remaining() + GRACE * trials.budget):
        _serve_float(trials)
        raise OutOfTime("the start took longer than expected, and there is no time for an int8 form")
    try:
        expected = Drop(INT8_LOSS, SPREAD, space.facts.validation)
        candidate = trials.serve("baseline, int8", int8, must=True, expected=expected)
    except GateMissed as error:
        trials.say(f"the baseline cannot be quantized: {error.message}")
        candidate = _serve_float(trials)
    candidate.gain = candidate.speed.ratio if candidate.speed and trials.objective.kind != "smallest" else 0.0
    if candidate.verdict != "kept" and trials.objective.kind != "most accurate" and candidate.model == "baseline-int8":
        trials.serve("baseline, fp32 graph", space.add_graph("baseline-graph", space.baseline), "export", gain=UNREDUCED)
    trials.forms = min(max(int(FORMS_SHARE * trials.budget / trials.serving_seconds()), 1), FORMS)


def _serve_float(trials: Trials) -> SearchCandidate:
    """Measure the baseline's float graph, whatever the time."""
    space = trials.space
    return trials.serve("baseline, fp32 graph", space.add_graph("baseline-graph", space.baseline), "export", UNREDUCED, must=True)


def choose_fine_tuning(trials: Trials) -> FineTuning:
    """Return how the baseline is fine-tuned in the time; one that an earlier search has run comes first, everything depends on it."""
    space = trials.space
    work = space.facts.train / BATCH  # of an epoch, in steps of usual batches
    fewest, most = BASELINE_EPOCHS
    usual = min(max(fewest, math.ceil(BASELINE_STEPS / space.baseline_steps)), most)
    seconds = {epochs: trials.costs.predict("train", epochs * work) for epochs in range(usual, 0, -1)}
    available = BASELINE_SHARE * trials.budget
    epochs, sample = next((epochs for epochs, needed in seconds.items() if needed <= available), 1), None
    stored = next((number for number in range(usual, fewest - 1, -1) if _is_trained(trials, number)), None)
    if stored is not None:
        epochs = stored
    elif (share := available / seconds[epochs]) < 1 and share * space.facts.train > LEAST_SAMPLE:
        sample, work, seconds[epochs] = int(share * space.facts.train), share * work, available
    return FineTuning(epochs, sample, epochs * work, seconds[epochs])


def _fine_tune(trials: Trials) -> None:
    tuning = choose_fine_tuning(trials)
    name = trials.space.add_baseline(tuning.epochs, tuning.sample)
    reused = trials.lab.reused(trials.space.needed(name), name)
    time = "as an earlier search did" if reused else f"about {console.duration(tuning.seconds)}"
    trials.say(f"the model is not trained for this task: fine-tune it for {tuning.describe()}, {time}")
    trials.do(name, "train", tuning.steps, must=True)


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
