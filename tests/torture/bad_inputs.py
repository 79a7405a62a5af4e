"""All bad inputs by table: each gets one clear message, its documented exit code, and leaves nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from tests.torture import small
from tests.torture.bad_case import Bad
from tests.torture.bad_data import CASES as DATA
from tests.torture.bad_environment import CASES as ENVIRONMENT
from tests.torture.bad_environment import Situation, meet
from tests.torture.bad_models import CASES as MODELS
from tests.torture.bad_recipes import CASES as RECIPES
from tests.torture.children import Place, fork, run, share_out
from tests.torture.session import Report, Session

TABLES: dict[str, list[Bad]] = {"recipe": RECIPES, "model": MODELS, "data": DATA}


def bad_inputs(session: Session) -> Report:
    """Run every case."""
    report = Report("inputs")
    clean = Place.make(session.folder / "clean")
    small.write_inputs(clean.work)
    cases: list[tuple[str, Bad | Situation]] = [
        (f"inputs/{table}/{case.item}/{case.name}", case) for table, entries in TABLES.items() for case in entries
    ]
    cases += [(f"inputs/environment/{case.item}/{case.name}", case) for case in ENVIRONMENT]
    cases = session.sample([case for case in cases if session.wanted(case[0])], least=8)

    def work(number: int) -> list[str]:
        _, case = cases[number]
        place = small.copy(clean, session.folder / "cases" / f"{number}")
        problems = meet(case, place) if isinstance(case, Situation) else _meet(case, place)
        small.remove(place.folder)
        return problems

    names = [name for name, _ in cases]
    for number, problems in share_out(session.jobs, names, work, session.folder / "jobs"):
        report.add(names[number], problems)
    counts = Counter(name.split("/")[1] for name in names)
    report.figures = {"inputs": ", ".join(f"{count} {table}" for table, count in counts.items())}
    return report


def _meet(case: Bad, place: Place) -> list[str]:
    """Run one case in a fresh place; returns what is wrong."""
    built = fork(place, lambda: case.build(place.work), "build").wait()
    if built.code:
        return [f"the input could not be built: {small.tail(built.err)}"]
    for number, arguments in enumerate(case.more):
        before = run(place, arguments, small.undisturbed_clock, f"before{number}")
        if before.code:
            return [f"'{arguments[0]}' before fails: {small.tail(before.err)}"]
    known = contents(place.work)
    ended = run(place, case.arguments, small.undisturbed_clock, stdin=case.stdin)
    problems = small.well_said(ended, [case.code])
    if case.says.lower() not in (ended.err + ended.out).lower():
        problems += [f"does not say {case.says!r}", f"stderr: {small.tail(ended.err)}"]
    now = contents(place.work)
    problems += [f"changed: {name}" for name in known if now.get(name) != known[name]]
    if case.code:
        problems += [f"written: {name}" for name in sorted(set(now) - set(known))[:5]]
    return problems + small.leftovers(place)


def contents(folder: Path) -> dict[str, str]:
    """Return every file below a folder with a digest of its contents, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in folder.rglob("*")
    }
