"""Failing disks: every change of a file by a small recipe fails in turn, or the process is killed before it.

A case starts from the finished stages before the one that is disturbed, so that every call of every stage is reached in about a
second. Afterwards a plain run must end with the undisturbed digests and leave no other files.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.torture import small
from tests.torture.children import Ended, Place, run, share_out
from tests.torture.faults import KILL, Faults
from tests.torture.session import Report, Session

ENDING = "ending"  # what follows the last stage: delivery, manifest, report
MODES = {
    "kill": (KILL, False),
    "ENOSPC-once": (errno.ENOSPC, False),
    "ENOSPC-onwards": (errno.ENOSPC, True),
    "EIO-once": (errno.EIO, False),
    "EIO-onwards": (errno.EIO, True),
    "EACCES-once": (errno.EACCES, False),
    "EACCES-onwards": (errno.EACCES, True),
}
VERBS: dict[str, tuple[list[str], str | None]] = {  # single verbs, each call in one of the modes in turn, and what they write
    "prune": (small.PRUNE, "slim"),
    "factorize": (["factorize", "model", "--task", "task.yaml", "--rank", "8", "-o", "low"], "low"),
    "share": (["share", "model", "--task", "task.yaml", "--layers", "1", "-o", "shared"], "shared"),
    "quantize": (["quantize", "model", "--task", "task.yaml", "--method", "dynamic", "--max-drop", "100", "-o", "int8"], "int8"),
    "eval": (["eval", "model", "--task", "task.yaml", "--errors", "errors.jsonl"], None),
    "predict": (["predict", "model", "a red dog"], None),
}
SHORT = 0.05  # below this scale only some parts and verbs are disturbed
CODES = (0, 5)  # of a disturbed run: the disk's fault, or the call was not necessary
_PROBE = re.compile(r"tmp/[a-z0-9_]{8}")  # by Python's tempfile, to see whether a folder can be written
_STAGE = re.compile(r"stages/\.?\d\d-(\w+)")


@dataclass(frozen=True)
class Call:
    """A call that changes a file: in which part of the run, which number there, and what it does."""

    part: str
    number: int
    kind: str
    path: str


@dataclass(frozen=True)
class Part:
    """A stage to disturb, the ending of a run, or a verb: the state before it, the command, its output, and what that holds undisturbed."""

    name: str
    before: Place
    command: list[str]
    output: str | None
    expected: dict[str, str]

    def found(self, place: Place) -> dict[str, str]:
        """Return what the output holds now."""
        if self.output is None:
            return {}
        return small.digests(place.work / "run") if self.output == "run" else small.digest(place.work / self.output)


def disk_faults(session: Session) -> Report:
    """Run every case."""
    report = Report("disk")
    base = Place.make(session.folder / "disk")
    small.write_inputs(base.work)
    names = [*small.STAGES, ENDING]
    few = session.scale < SHORT and not session.only  # to prepare a part takes as long as several cases
    wanted = session.sample(names, least=2) if few else names
    parts = {name: _part(session, base, name, number) for number, name in enumerate(names) if name in wanted}
    calls = [call for part in parts.values() for call in _counted(part, session.folder / "count" / part.name)]
    cases = [(call, mode) for call in calls for mode in MODES]
    chosen = session.sample(VERBS, least=1) if few else list(VERBS)
    parts |= {name: _verb(session, name) for name in chosen}
    of_verbs = [call for name in chosen for call in _counted(parts[name], session.folder / "count" / name)]
    cases += [(call, list(MODES)[(call.number + session.seed) % len(MODES)]) for call in of_verbs]
    cases = session.sample([case for case in cases if session.wanted(_name(*case))], least=6)

    def work(number: int) -> list[str]:
        call, mode = cases[number]
        folder = session.folder / "cases" / f"{number}"
        problems = _disturbed(call, mode, parts[call.part], folder)
        small.remove(folder)
        return problems

    names_of_cases = [_name(*case) for case in cases]
    for number, problems in share_out(session.jobs, names_of_cases, work, session.folder / "jobs"):
        report.add(names_of_cases[number], problems)
    kinds = Counter(call.kind for call in calls)
    report.figures = {
        "calls of a run": f"{len(calls)}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
        "calls of verbs": f"{len(of_verbs)} ({', '.join(chosen)}), each in one mode",
        "modes": ", ".join(MODES),
        "native writers included": "yes" if Faults().native else "no (no C compiler)",
    }
    return report


def _part(session: Session, base: Place, name: str, number: int) -> Part:
    """Run the recipe up to a stage; returns that stage as a part, with the state before it.

    The recipe ends with the stage, so that a case costs no work of later ones. Only the ending follows all stages.
    """
    last = min(number + 1, len(small.STAGES))
    command = small.write_beginning(base.work, last)
    ended = run(base, command, small.save_each_epoch)
    if ended.code:
        raise RuntimeError(f"an undisturbed run fails ({ended.code}): {ended.err}")
    before = _snapshot(base, session.folder / "before" / name, number)
    return Part(name, before, command, "run", small.digests(base.work / "run"))


def _verb(session: Session, name: str) -> Part:
    """Run a verb alone; returns it as a part."""
    command, output = VERBS[name]
    before, whole = (Place.make(session.folder / when / name) for when in ("before", "whole"))
    for place in (before, whole):
        small.write_inputs(place.work)
    ended = run(whole, command, small.save_each_epoch)
    if ended.code:
        raise RuntimeError(f"an undisturbed {name} fails ({ended.code}): {ended.err}")
    return Part(name, before, command, output, small.digest(whole.work / output) if output else {})


def _name(call: Call, mode: str) -> str:
    return f"disk/{call.part}/{call.number:03d}-{call.kind}/{mode}"


def _snapshot(base: Place, folder: Path, number: int) -> Place:
    """Return a copy of a finished run in the state before its stage of this number."""
    place = small.copy(base, folder)
    run_folder = place.work / "run"
    for path in run_folder.iterdir():
        if path.name not in ("stages", "recipe.resolved.yaml", "events.jsonl"):
            small.remove(path) if path.is_dir() else path.unlink()
    for stage in sorted((run_folder / "stages").iterdir())[number:]:
        small.remove(stage)
    if number == 0:
        shutil.rmtree(run_folder)
    if number < 2:
        small.remove(place.cache)
        place.cache.mkdir()
    return place


def _counted(part: Part, folder: Path) -> list[Call]:
    """Return the calls of a part: for the first stage with those before it, for the ending from the delivery on."""
    place, faults = small.copy(part.before, folder), Faults()
    faults.prepare(place.box)
    ended = run(place, part.command, lambda: (small.save_each_epoch(), faults.arm()))
    if ended.code:
        raise RuntimeError(f"an undisturbed run fails ({ended.code}): {ended.err}")
    calls = [Call(part.name, number, kind, path.removeprefix(f"{place.box}/")) for number, (kind, path) in enumerate(faults.calls(), 1)]
    calls = [call for call in calls if not _PROBE.fullmatch(call.path)]
    small.remove(folder)
    delivery = next((n for n, call in enumerate(calls) if "run/.model.tmp" in call.path), len(calls))
    if part.name in VERBS:
        return calls
    if part.name == ENDING:
        return calls[delivery:]
    first = next((n for n, call in enumerate(calls) if part.name in _STAGE.findall(call.path)), 0)
    return calls[0 if part.name == next(iter(small.STAGES)) else first : delivery]


def _disturbed(call: Call, mode: str, part: Part, folder: Path) -> list[str]:
    """Run one case; returns what is wrong."""
    place, faults = small.copy(part.before, folder), Faults()
    error, onwards = MODES[mode]
    faults.prepare(place.box, call.number, error, onwards, spare_removals=error == errno.ENOSPC)
    ended = run(place, part.command, lambda: (small.save_each_epoch(), faults.arm()), name="disturbed")
    problems = _how_it_ended(ended, mode, faults.fired)
    cleans_up = mode in ("ENOSPC-once", "ENOSPC-onwards", "EIO-once", "EACCES-once") and call.kind not in ("unlink", "rmdir")
    if cleans_up and faults.fired:
        problems += [f"after the failure, {problem}" for problem in small.leftovers(place, resumable=True)]
    for path in place.tmp.iterdir():  # a folder that lost its lock is removed if it is old
        os.utime(path, (0, 0))
    again = run(place, part.command, small.save_each_epoch, name="again")
    problems += [f"the next run: {problem}" for problem in small.well_said(again, [0])]
    if not again.code:
        found = part.found(place)
        problems += [f"{name} differs from the undisturbed run" for name in part.expected if found.get(name) != part.expected[name]]
        problems += [f"after the next run, {problem}" for problem in small.leftovers(place)]
        problems += [f"it printed: {small.tail(again.err, 1500)}"] if found != part.expected else []
    return [f"call {call.number}: {call.kind} {call.path}", *problems] if problems else []


def _how_it_ended(ended: Ended, mode: str, fired: int) -> list[str]:
    if not fired:
        return small.well_said(ended, [0])
    if mode == "kill":
        return [] if ended.code == -9 else [f"exit code {ended.code}, expected -9"]
    return small.well_said(ended, CODES)
