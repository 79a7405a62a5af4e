"""Kills: SIGKILL, SIGTERM and SIGINT at random moments, two processes in one folder; afterwards a plain run ends as an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.torture import small
from tests.torture.children import Place, run, share_out, start
from tests.torture.session import Report, Session

REPOSITORY = Path(__file__).parents[2]
KILLS, SIGNALS, PAIRS, EARLY, TIMED = 220, 100, 40, 80, 10  # cases of a full run
STOPPED = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
TIMED_PRUNE = ["prune", "model", "--task", "task.yaml", "--target-speedup", "1.2", "--calib-samples", "12", "-o", "slim"]
VERBS = {  # commands whose first half second is interrupted, as processes of their own
    "predict": ["predict", "model", "a red dog"],
    "export": ["export", "model", "-o", "graph"],
    "prune": small.PRUNE,
    "run": small.RUN,
    "eval": ["eval", "model", "--task", "task.yaml"],
    "json": ["--json", "predict", "model", "a red dog"],
}


@dataclass(frozen=True)
class Undisturbed:
    """A command, its output folder, how long it takes alone, and the digests of what it writes."""

    arguments: list[str]
    output: str
    seconds: float
    expected: dict[str, str]

    def found(self, place: Place) -> dict[str, str]:
        return small.digests(place.work / self.output) if self.output == "run" else small.digest(place.work / self.output)


def kills(session: Session) -> Report:
    """Run every case."""
    report = Report("kills")
    clean = Place.make(session.folder / "clean")
    small.write_inputs(clean.work)
    commands = [_undisturbed(clean, session.folder / f"whole-{name}", arguments, name) for name, arguments in _COMMANDS.items()]
    cases: list[tuple[str, Callable[[str, Path], list[str]]]] = []
    for number in range(session.count(KILLS)):
        command = commands[number % 3 == 2]  # two of three: the recipe
        cases.append((f"kills/kill/{number:03d}-{command.output}", _signalled(session, clean, command, signal.SIGKILL)))
    for number in range(session.count(SIGNALS, 2)):
        command, which = commands[number % 3 == 2], (signal.SIGINT, signal.SIGTERM)[number % 2]
        cases.append((f"kills/{which.name}/{number:03d}-{command.output}", _signalled(session, clean, command, which)))
    for number in range(session.count(PAIRS, 1)):
        command = commands[number % 3 == 2]
        cases.append((f"kills/two-processes/{number:03d}-{command.output}", _pair(session, clean, command)))
    for number in range(session.count(EARLY, 2)):
        verb = list(VERBS)[number % len(VERBS)]
        cases.append((f"kills/early/{number:03d}-{verb}", _early(session, clean, verb, (signal.SIGINT, signal.SIGTERM)[number // 6 % 2])))
    for number in range(session.count(TIMED, 0)):
        cases.append((f"kills/timed/{number:03d}", _timed(session, clean)))
    cases = [(name, case) for name, case in cases if session.wanted(name)]

    def work(number: int) -> list[str]:
        name, case = cases[number]
        folder = session.folder / "cases" / f"{number}"
        problems = case(name, folder)
        small.remove(folder)
        return problems

    ended: Counter[str] = Counter()
    names = [name for name, _ in cases]
    for number, problems in share_out(session.jobs, names, work, session.folder / "jobs", skip=1):
        name = names[number]
        ended[f"{name.split('/')[1]}: {problems[0]}"] += 1
        report.add(name, problems[1:])
    report.figures = {"how they ended": "; ".join(f"{what} {count}x" for what, count in sorted(ended.items()))}
    return report


_COMMANDS = {"run": small.RUN, "slim": small.PRUNE}


def _undisturbed(clean: Place, folder: Path, arguments: list[str], output: str) -> Undisturbed:
    place = small.copy(clean, folder)
    ended = run(place, arguments, small.save_often)
    if ended.code:
        raise RuntimeError(f"the undisturbed {arguments[0]} fails ({ended.code}): {ended.err}")
    whole = Undisturbed(arguments, output, ended.seconds, {})
    return Undisturbed(arguments, output, ended.seconds, whole.found(place))


def _signalled(session: Session, clean: Place, command: Undisturbed, number: signal.Signals) -> Callable[[str, Path], list[str]]:
    """Return a case: a signal at a random moment; one of three is disturbed twice."""

    def case(name: str, folder: Path) -> list[str]:
        place, draw = small.copy(clean, folder), session.random(name)
        problems: list[str] = []
        how = ""
        for attempt in range(2 if draw.random() < 1 / 3 else 1):
            child = start(place, command.arguments, small.save_often, f"disturbed{attempt}")
            time.sleep(_moment(draw, command.seconds))
            child.signal(number)
            ended = child.wait()
            how = _outcome(ended.code, number)
            if number != signal.SIGKILL:
                problems += small.well_said(ended, [0, STOPPED[number]])
                problems += [f"after {number.name}, {problem}" for problem in small.leftovers(place, resumable=True)]
            elif ended.code not in (0, -signal.SIGKILL):
                problems += small.well_said(ended, [0])
        return [how, *problems, *_ends_well(place, command)]

    return case


def _pair(session: Session, clean: Place, command: Undisturbed) -> Callable[[str, Path], list[str]]:
    """Return a case: two processes in one folder, the second at a random moment of the first."""

    def case(name: str, folder: Path) -> list[str]:
        place, draw = small.copy(clean, folder), session.random(name)
        first = start(place, command.arguments, small.save_often, "first")
        time.sleep(_moment(draw, command.seconds))
        second = start(place, command.arguments, small.save_often, "second")
        ended = [first.wait(), second.wait()]
        problems = [problem for end in ended for problem in small.well_said(end, [0, 75])]
        if all(end.code for end in ended):
            problems.append("neither ended with 0")
        return [f"{ended[0].code} and {ended[1].code}", *problems, *_ends_well(place, command)]

    return case


def _early(session: Session, clean: Place, verb: str, number: signal.Signals) -> Callable[[str, Path], list[str]]:
    """Return a case: a process of its own gets a signal while it starts: three of four within the first half second."""

    def case(name: str, folder: Path) -> list[str]:
        place, draw = small.copy(clean, folder), session.random(name)
        delay = draw.uniform(0.0, 0.5) if draw.random() < 0.75 else draw.uniform(0.5, 3.0)
        command = [sys.executable, "-m", "compress", *VERBS[verb]]
        environment = {**os.environ, **place.environment, "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(
            command, cwd=place.work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            time.sleep(delay)
            process.send_signal(number)
            out, err = process.communicate(timeout=400)
        code, text = process.returncode, err.decode("utf-8", "replace")
        problems = []
        own_start = code == 1 and "KeyboardInterrupt" in text and "compress/" not in text
        python_itself = code == -number or own_start  # before our first line: Python's own handler, or none
        if code not in (0, STOPPED[number]) and not python_itself:
            problems.append(f"exit code {code} after {delay:.3f} s")
        if "bug in compress" in text or ("Traceback" in text and not (python_itself and "compress/cli" not in text)):
            problems.append(f"after {delay:.3f} s: {small.tail(text)}")
        if code in (130, 143) and text.count("error:") != 1:
            problems.append(f"no message, or several: {small.tail(text)}")
        if code in (130, 143) and verb == "json" and b'"exit_code"' not in out:
            problems.append(f"no JSON document: {out[-300:]!r}")
        problems += [f"after {number.name}, {problem}" for problem in small.leftovers(place, resumable=True)]
        return ["Python was starting" if python_itself else _outcome(code, number), *problems]

    return case


def _timed(session: Session, clean: Place) -> Callable[[str, Path], list[str]]:
    """Return a case: a kill of a pruning that times models in a process of its own, which must end, too."""

    def case(name: str, folder: Path) -> list[str]:
        place, draw = small.copy(clean, folder), session.random(name)
        child = start(place, TIMED_PRUNE, name="disturbed")
        time.sleep(draw.uniform(0.5, 12.0))
        child.signal(signal.SIGKILL)
        how = _outcome(child.wait().code, signal.SIGKILL)
        problems = small.processes_left(place)
        again = run(place, TIMED_PRUNE, name="again")
        problems += [f"the next run: {problem}" for problem in small.well_said(again, [0])]
        return [how, *problems, *small.processes_left(place), *small.leftovers(place)]

    return case


def _moment(draw: random.Random, seconds: float) -> float:
    return draw.uniform(0.0, 1.05 * seconds)


def _outcome(code: int, number: signal.Signals) -> str:
    return {0: "had finished", STOPPED[number]: "stopped"}.get(code, f"exit {code}")


def _ends_well(place: Place, command: Undisturbed) -> list[str]:
    """Run the command plainly; returns the differences from an undisturbed run, and the files that it should have removed."""
    problems = small.processes_left(place)
    again = run(place, command.arguments, small.save_often, "again")
    problems += [f"the next run: {problem}" for problem in small.well_said(again, [0])]
    if again.code:
        return problems
    found = command.found(place)
    problems += [f"{name} differs from the undisturbed run" for name in command.expected if found.get(name) != command.expected[name]]
    return problems + [f"after the next run, {problem}" for problem in small.leftovers(place)]
