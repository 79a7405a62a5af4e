"""`auto`: search the best model for an objective within a budget, deliver it, and prove it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

from compress.core import console, files, locks, machine, outputs
from compress.core.errors import GateMissed, Stopped
from compress.inference.kept_outputs import keeping_outputs
from compress.models.reference import locate
from compress.recipe.events import logged_events
from compress.report.search_page import write_search_report
from compress.report.search_words import choice_sentence, verdict_sentences
from compress.results.search import SearchDocument, SearchPlan, SearchStep, SearchVerdict
from compress.search import verdict
from compress.search.baseline import ExpectedStep, least_seconds
from compress.search.candidates import SearchCandidate
from compress.search.choice import choose
from compress.search.delivery import deliver_answer
from compress.search.estimates import SAFE
from compress.search.executors import check_ray, opened
from compress.search.lab import StoreLab
from compress.search.objective import Objective
from compress.search.outlook import later_steps
from compress.search.prepare import LEDGER, Prepared, Question, prepare
from compress.search.store import Store, check_one_process
from compress.search.strategy import Search

DOCUMENT = "auto.json"  # in the output: the result; its presence says that the folder is ours
EVENTS = "events.jsonl"
MARKS = (DOCUMENT, LEDGER, EVENTS)
SCHEMA = 1


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
    output, stages = checked_folders(question, output, store)
    if ray:
        check_ray(ray)
    started = time.monotonic()
    with locks.locked(output):
        outputs.check_content(output, MARKS, "holds no search")
        prepared = prepare(question, output, stages)
        with opened(ray) if ray else nullcontext() as prepared.lab.executor:
            output.mkdir(exist_ok=True)
            with logged_events(output / EVENTS), keeping_outputs():
                document = _run(question, output, prepared, started)
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


def plan_search(question: Question, output: Path, store: Path | None = None) -> SearchPlan:
    """Return what a search would do, with what its steps are expected to take; nothing runs but a first timing, nothing is written.

    Raises:
        CompressError: as `run_auto` raises it before the search begins.
    """
    output, stages = checked_folders(question, output, store)
    outputs.check_content(output, MARKS, "holds no search")
    prepared = prepare(question, output, stages)
    trials = prepared.search.trials
    least = least_seconds(trials, prepared.steps)

    def rows(steps: list[ExpectedStep]) -> list[SearchStep]:
        return [{"what": step.what, "seconds": step.seconds, "stored": step.stored} for step in steps]

    return {
        "output": str(output),
        "objective": trials.objective.describe(),
        "budget_seconds": trials.budget,
        "least_seconds": least,
        "start": rows(prepared.steps),
        "later": rows(later_steps(trials, least)),
        "log": prepared.plan(),
    }


def checked_folders(question: Question, output: Path, store: Path | None) -> tuple[Path, Store]:
    """Check what needs no reading, and return the output and the store.

    Raises:
        UsageError: several processes, an output or a store that is something else.
    """
    check_one_process()
    output = outputs.nameable(output)
    outputs.check_output(output, [locate(name) for name in (question.model, question.teacher) if name])
    stages = Store(store or output / "stages")
    stages.check()
    return output, stages


def _run(question: Question, output: Path, prepared: Prepared, started: float) -> SearchDocument:
    search, lab = prepared.search, prepared.lab
    trials, limit = search.trials, _limit(search.trials.objective)
    if lab.ledger.resumed:
        console.info("resuming a search that was stopped: its finished stages are not run again")
    for line in prepared.plan():
        trials.say(line)
    search.run()
    answer, kept = choose(trials)
    answer.verdict, answer.why = "answer", answer.why if not kept else f"the {trials.objective.kind} that keeps the limit"
    trials.say(choice_sentence(answer.as_row(trials.score, trials.baseline_ms), SAFE))
    judged = verdict.judge(trials, answer)
    for line in verdict_sentences(judged, trials.space.facts.metric, limit):
        trials.say(line)
    document = _document(question, output, search, lab, answer, kept, judged)
    deliver_answer(trials, lab, answer, output, within=judged["keeps"] is not False)
    document["seconds"] = time.monotonic() - started
    files.write_json(output / DOCUMENT, console.finite({**document}))
    document["report"] = str(write_search_report(document, output))
    files.write_json(prepared.learned, trials.costs.as_json())
    return document


def _limit(objective: Objective) -> dict[str, float | None]:
    return {"max_drop": objective.max_drop, "confidence": objective.confidence, "target_latency_ms": objective.target_latency_ms}


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
        "limit": _limit(trials.objective),
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
