"""The preparation of a search: everything is read and checked before anything is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compress.core import console, digests, files, machine
from compress.core.errors import ModelError
from compress.data.spec import TaskSpec
from compress.models.config import read_config
from compress.models.layout import is_graph
from compress.models.reference import digest_model, locate
from compress.recipe.preflight import check_inputs
from compress.search import setup
from compress.search.baseline import ExpectedStep, check_budget, first_steps, least_seconds
from compress.search.costs import LearnedCosts, SearchCosts
from compress.search.lab import Ledger, StoreLab
from compress.search.objective import Objective, ServingPoint
from compress.search.shape_clock import time_shapes
from compress.search.space import Space
from compress.search.store import KEY_DIGITS, Store
from compress.search.strategy import Search
from compress.search.trials import Trials
from compress.settings.auto import AutoSettings
from compress.stage import STUDENTS

LEDGER = "search.json"  # in the output: what the search has spent so far
LEARNED = "learned-{}.json"  # in the store: what is known of the costs of a model and task on a kind of machine
SLOW = 4.0  # times the usual latency from which a machine is called slow
NAME = "auto"


@dataclass(frozen=True)
class Question:
    """What `auto` is asked.

    Attributes:
        model: what is made smaller.
        task: the task.
        settings: objective, serving point, budget.
        seed: of every stage.
        teacher: a bigger teacher, or an empty text.
    """

    model: str
    task: TaskSpec
    settings: AutoSettings
    seed: int
    teacher: str


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to run, resumed if it was interrupted.

    Attributes:
        search: the search.
        lab: runs its stages.
        learned: the file of what it learns of costs.
        steps: what it does at least, with estimates.
    """

    search: Search
    lab: StoreLab
    learned: Path
    steps: list[ExpectedStep]

    def plan(self) -> list[str]:
        """Return the plan in words."""
        trials, facts = self.search.trials, self.search.trials.space.facts
        judged = "the same examples judge: there are too few" if facts.judge == "validation" else f"{facts.judged:,} of {facts.judge} judge"
        held = " (held back from validation)" if trials.space.holds_back else ""
        start = "; ".join(f"{step.what} {_expected(step)}" for step in self.steps)
        return [
            f"look for {trials.objective.describe()} at {trials.space.serving.describe()}, within {console.duration(trials.budget)}",
            f"{facts.train:,} training texts of {facts.tokens:.0f} tokens; {facts.validation:,} of validation choose, {judged}{held}",
            "plan: measure the baseline, ask whether an encoder is needed, prune one family of sizes, race trainings of the sizes around "
            "the limit, bring the best into its final form, judge it",
            f"the least takes about {console.duration(least_seconds(trials, self.steps))}: {start}",
        ]


def _expected(step: ExpectedStep) -> str:
    return "is in the store" if step.stored else console.duration(step.seconds)


def prepare(question: Question, output: Path, store: Store) -> Prepared:
    """Read and check everything that a search needs; nothing is written.

    Raises:
        UsageError: the budget does not hold what every search does.
        ModelError: a model is an ONNX artifact, or the teacher is not fine-tuned for the task.
        CompressError: a model or the data is unavailable or unusable.
    """
    began = time.monotonic()
    settings, folder = question.settings, locate(question.model)
    _check_checkpoint(question.model)
    spec = setup.with_judge(question.task, store.task(question.task))
    task = store.task(spec)
    teacher = _absolute(question.teacher)
    if teacher:
        _check_checkpoint(teacher)
        if not setup.is_finetuned(locate(teacher), task):
            raise ModelError(f"the teacher {question.teacher} is not fine-tuned for this task", "fine-tune it first: compress finetune")
    facts = setup.task_facts(task, folder, settings.unlabeled)
    serving = ServingPoint(
        settings.batch_size, settings.seq_len or setup.usual_length(facts, spec.max_length), settings.threads, settings.runtime
    )
    unlabeled = str(Path(settings.unlabeled).absolute()) if settings.unlabeled else ""
    trains = not setup.is_finetuned(folder, task)
    space = Space(facts, serving, trains, teacher, unlabeled, settings.device, holds_back=spec != question.task, seed=question.seed)
    subject = [digest_model(folder), task.fingerprint]
    shared = "" if store.folder == output / "stages" else str(store.folder.absolute())
    asked = digests.digest_json([settings.model_dump(mode="json"), question.seed, *subject, teacher, machine.versions(), shared])
    # Another model, other texts or another machine take another time.
    learned = store.folder / LEARNED.format(digests.digest_json([*subject, settings.device, machine.identity()])[:KEY_DIGITS])

    def begin() -> tuple[float, float, LearnedCosts]:
        scale = setup.machine_scale(folder, task, facts.tokens)
        if (expected := setup.expected_scale(facts)) * SLOW < scale:
            console.warn(f"this machine is slow or busy: the model takes {scale / expected:.0f} times as long here as on an idle core")
        return time.monotonic() - began, scale, _read_learned(learned)

    ledger = Ledger.open(output / LEDGER, asked, begin)
    lab = StoreLab(store, ledger, _absolute(question.model), spec, question.seed, NAME)
    space.add_baseline(1)
    recipe = lab.recipe(space.stages)
    check_inputs(recipe, store.workspace(recipe))
    space.stages.clear()
    trials = Trials(lab, space, Objective.of(settings), settings.budget_seconds, ledger.costs())
    steps = first_steps(trials)
    check_budget(trials, steps)
    clock = partial(time_shapes, folder, task.label_names, spec.target, space)
    students = tuple(name for name in ("static",) if name in STUDENTS)
    return Prepared(Search(trials, students, clock, read_config(folder)["vocab_size"]), lab, learned, steps)


def _check_checkpoint(model: str) -> None:
    if is_graph(locate(model)):
        raise ModelError(f"{model} is an ONNX artifact, which cannot be pruned or trained", "give the checkpoint that it was exported from")


def _read_learned(path: Path) -> LearnedCosts:
    try:
        return SearchCosts.from_json(files.read_json(path)).as_json()
    except (OSError, ValueError, TypeError, AttributeError):  # no earlier search, or a damaged file: costs are learned again
        return {}


def _absolute(model: str) -> str:
    """Return a model's reference that is the same from any folder; an empty one stays empty."""
    path = Path(model).expanduser()
    return str(path.absolute()) if model and path.is_dir() else model
