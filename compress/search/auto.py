"""`auto`: search the best model for an objective within a budget, deliver it, and prove it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compress.core import console, digests, files, locks, machine, outputs
from compress.core.errors import GateMissed, ModelError, Stopped
from compress.data.spec import TaskSpec
from compress.inference.retriever import open_task
from compress.models.config import read_config
from compress.models.layout import is_graph
from compress.models.reference import digest_model, locate
from compress.recipe.events import logged_events
from compress.recipe.preflight import check_inputs
from compress.results.search import SearchDocument, SearchVerdict
from compress.search import setup, verdict
from compress.search.candidates import SearchCandidate
from compress.search.choice import choose
from compress.search.costs import SearchCosts, State
from compress.search.delivery import deliver_answer
from compress.search.executors import opened
from compress.search.lab import Ledger, StoreLab
from compress.search.objective import Objective, ServingPoint
from compress.search.shape_clock import time_shapes
from compress.search.space import Space
from compress.search.store import KEY_DIGITS, Store, check_one_process
from compress.search.strategy import Search
from compress.search.trials import Trials
from compress.settings.auto import AutoSettings
from compress.stage import STUDENTS, refuse_vectors

DOCUMENT = "auto.json"  # in the output: the result; its presence says that the folder is ours
LEDGER = "search.json"  # in the output: what the search has spent so far
LEARNED = "learned-{}.json"  # in the store: what is known of the costs of a model and task on a kind of machine
EVENTS = "events.jsonl"
SLOW = 4.0  # times the usual latency from which a machine is called slow
SCHEMA = 1
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


def run_auto(question: Question, output: Path, store: Path | None = None, ray: str | None = None) -> SearchDocument:
    """Search, deliver and judge; returns what `auto.json` holds.

    Args:
        question: what is asked.
        output: the folder to write: `model/`, `recipe.yaml`, `report.html`, `auto.json`, `run/`, and `stages/`, the store.
        store: another store, which several searches share.
        ray: where stages run, see `executors.opened`.

    Raises:
        GateMissed: nothing keeps what was asked for; the nearest is delivered.
        Stopped: Ctrl-C; the best answer so far is delivered.
        KeyboardInterrupt: Ctrl-C before there was one, or a second time.
        CompressError: something else fails; finished stages stay in the store.
    """
    refuse_vectors(question.task.target, "auto", "prune, distill and quantize it by hand, or by a recipe")
    check_one_process()
    output = outputs.nameable(output)
    outputs.check_output(output, [locate(name) for name in (question.model, question.teacher) if name])
    with locks.locked(output):
        outputs.check_content(output, [DOCUMENT, LEDGER, EVENTS], "holds no search")
        output.mkdir(exist_ok=True)
        with logged_events(output / EVENTS):
            document = _run(question, output, Store(store or output / "stages"), ray)
    if document["interrupted"]:
        raise Stopped({**document})
    if not document["kept"]:
        answer = document["answer"]
        raise GateMissed(
            f"nothing keeps the limit of {document['objective']}; the nearest is {answer['candidate']}: {answer['why']}",
            f"it is in {output / 'model'}; allow more, or give a larger --budget; what was tried: {output / 'report.html'}",
            {**document},
        )
    return document


def _run(question: Question, output: Path, store: Store, ray: str | None) -> SearchDocument:
    started = time.monotonic()
    search, lab, learned = _prepare(question, output, store)
    with opened(ray) if ray else nullcontext() as lab.executor:
        for line in _plan(search):
            search.trials.say(line)
        search.run()
        answer, kept = choose(search.trials)
        answer.verdict, answer.why = "answer", answer.why if not kept else f"the {search.trials.objective.kind} that keeps the limit"
        judged = verdict.judge(search.trials, answer)
        for line in verdict.verdict_lines(judged, search.trials.objective):
            search.trials.say(line)
        document = _document(question, output, search, lab, answer, kept, judged)
        deliver_answer(search.trials, lab, answer, output, within=judged["keeps"] is not False)
    files.write_json(learned, search.trials.costs.as_json())
    document["seconds"] = time.monotonic() - started
    files.write_json(output / DOCUMENT, console.finite({**document}))
    from compress.report.search_page import write_search_report

    document["report"] = str(write_search_report(document, output))
    return document


def _prepare(question: Question, output: Path, store: Store) -> tuple[Search, StoreLab, Path]:
    """Return a search that is ready to run, resumed if it was interrupted, its lab, and the file of what it learns of costs."""
    settings, folder = question.settings, locate(question.model)
    if is_graph(folder):
        raise ModelError(
            f"{question.model} is an ONNX artifact, which cannot be pruned or trained", "give the checkpoint that it was exported from"
        )
    spec = setup.with_judge(question.task)
    task = open_task(spec)
    trained = setup.is_finetuned(folder, task)
    facts = setup.task_facts(task, folder, settings.unlabeled)
    serving = ServingPoint(
        settings.batch_size, settings.seq_len or setup.usual_length(facts, spec.max_length), settings.threads, settings.runtime
    )
    unlabeled = str(Path(settings.unlabeled).absolute()) if settings.unlabeled else ""
    teacher = _absolute(question.teacher)
    space = Space(facts, serving, not trained, teacher, unlabeled, settings.device, holds_back=spec != question.task, seed=question.seed)
    subject = [digest_model(folder), task.fingerprint]
    shared = "" if store.folder == output / "stages" else str(store.folder.absolute())
    asked = digests.digest_json([settings.model_dump(mode="json"), question.seed, *subject, teacher, machine.versions(), shared])
    # Another model, other texts or another machine take another time.
    learned = store.folder / LEARNED.format(digests.digest_json([*subject, settings.device, machine.identity()])[:KEY_DIGITS])

    def begin() -> tuple[float, float, State]:
        scale = setup.machine_scale(folder, task, facts.tokens)
        if (expected := setup.expected_scale(facts)) * SLOW < scale:
            console.warn(f"this machine is slow or busy: the model takes {scale / expected:.0f} times as long here as on an idle core")
        return console.since_start(), scale, _read_learned(learned)

    store.folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger.open(output / LEDGER, asked, begin)
    if ledger.resumed:
        console.info("resuming a search that was stopped: its finished stages are not run again")
    lab = StoreLab(store, ledger, _absolute(question.model), spec, question.seed, NAME)
    space.add_baseline(1)
    check_inputs(lab.recipe(space.stages))
    space.stages.clear()
    trials = Trials(lab, space, Objective.of(settings), settings.budget_seconds, ledger.costs())
    clock = partial(time_shapes, folder, task.label_names, spec.target, space)
    return Search(trials, tuple(name for name in ("static",) if name in STUDENTS), clock, read_config(folder)["vocab_size"]), lab, learned


def _read_learned(path: Path) -> State:
    try:
        return SearchCosts.from_json(files.read_json(path)).as_json()
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _absolute(model: str) -> str:
    """Return a model's reference that is the same from any folder; an empty one stays empty."""
    path = Path(model).expanduser()
    return str(path.absolute()) if model and path.is_dir() else model


def _plan(search: Search) -> list[str]:
    """Return the plan in words."""
    trials, facts = search.trials, search.trials.space.facts
    judged = "the same examples judge: there are too few" if facts.judge == "validation" else f"{facts.judged:,} of {facts.judge} judge"
    held = " (held back from validation)" if trials.space.holds_back else ""
    return [
        f"look for {trials.objective.describe()} at {trials.space.serving.describe()}, within {console.duration(trials.budget)}",
        f"{facts.train:,} training texts of {facts.tokens:.0f} tokens; {facts.validation:,} of validation choose, {judged}{held}",
        "plan: measure the baseline, ask whether an encoder is needed, prune one family of sizes, race trainings of the sizes around "
        "the limit, bring the best into its final form, judge it",
    ]


def _document(
    question: Question, output: Path, search: Search, lab: StoreLab, answer: SearchCandidate, kept: bool, judged: SearchVerdict
) -> SearchDocument:
    trials = search.trials
    rows = [candidate.as_row(trials.score, trials.baseline_ms) for candidate in trials.candidates]
    row = answer.as_row(trials.score, trials.baseline_ms)
    serving = trials.space.serving
    speed = row["speedup"] or 1.0
    return {
        "schema": SCHEMA,
        "output": str(output),
        "objective": trials.objective.describe(),
        "kept": kept,
        "interrupted": search.interrupted,
        "task": question.task.name,
        "metric": trials.space.facts.metric,
        "baseline_score": trials.score,
        "baseline_ms": trials.baseline_ms,
        "limit": {"max_drop": trials.objective.max_drop, "target_latency_ms": trials.objective.target_latency_ms},
        "serving": {
            "batch_size": serving.batch_size, "seq_len": serving.seq_len, "threads": serving.threads, "runtime": serving.runtime,
        },
        "answer": row,
        "speedup": {"vs": trials.space.baseline, "ratio": speed, "ci95": row["speedup_ci95"] or [speed, speed]},
        "verdict": judged,
        "candidates": rows,
        "tradeoffs": verdict.tradeoffs(trials.candidates, trials.objective, trials.baseline_ms),
        "log": trials.log,
        "budget_seconds": trials.budget,
        "spent_seconds": lab.spent(),
        "reused_seconds": lab.reused_seconds(),
        "machine": machine.facts(),
        "metrics": {"score": row["score"] or 0.0, "speedup": speed, "latency_ms": row["latency_ms"] or 0.0},
        "seconds": 0.0,
    }  # fmt: skip
