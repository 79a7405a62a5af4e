"""Run the torture: `python -m tests.torture [--part disk,kills] [--scale 1.0]`; prints a table, exits with 1 after a failure."""

from __future__ import annotations

import argparse
import importlib
import os
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.torture.children import ENVIRONMENT, warm_up
from tests.torture.faults import preload
from tests.torture.session import Failure, Report, Session

PARTS = {  # name: module and function
    "inputs": "bad_inputs:bad_inputs",
    "disk": "disk:disk_faults",
    "kills": "kills:kills",
    "mutations": "mutations:mutations",
    "texts": "odd_texts:odd_texts",
    "serving": "serving:serving",
    "pages": "pages:pages",
}

SHOWN, MORE = 3, 40  # failures of a kind that are printed, and names of further ones


def main() -> int:
    """Run the parts that were asked for."""
    options = _options()
    folder = Path(os.environ.get("TORTURE_FOLDER") or tempfile.mkdtemp(prefix="torture-"))
    os.environ["TORTURE_FOLDER"] = str(folder)
    folder.chmod(0o755)  # some cases give up the rights of root
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))  # torch creates it when it is imported
    preload(folder)
    print(f"seed {options.seed}, scale {options.scale:g}, {options.jobs} at a time, in {folder}", flush=True)
    session = Session(options.seed, options.scale, folder, tuple(options.only), options.jobs)
    _warm(session)
    reports = []
    for part in options.part:
        reports.append(_run(part, session))
        _print_row(reports[-1])
    failures = [failure for report in reports for failure in report.failures]
    _print_failures(failures, options)
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{sum(report.cases for report in reports)} cases, {len(failures)} failed (seed {options.seed})")
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--part", type=lambda text: text.split(","), default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases; 1: 220 kills, 105,000 mutations, 100,000 calls")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeats the cases of another run")
    parser.add_argument("--jobs", type=int, default=min(2, len(os.sched_getaffinity(0))), help="processes at a time")
    parser.add_argument("--only", action="append", default=[], help="pattern of names of cases; may be repeated")
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    options = parser.parse_args()
    unknown = sorted(set(options.part) - set(PARTS))
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    return options


def _warm(session: Session) -> None:
    from tests.torture import small
    from tests.torture.children import Place

    place = Place.make(session.folder / "scout")
    small.write_inputs(place.work)
    warm_up(session.folder, [small.RUN, ["predict", "run/model", "a red dog"]])


def _run(part: str, session: Session) -> Report:
    module, _, function = PARTS[part].partition(":")
    started = time.monotonic()
    inner = Session(session.seed, session.scale, session.folder / part, session.only, session.jobs)
    inner.folder.mkdir()
    try:
        run: Callable[[Session], Report] = getattr(importlib.import_module(f"tests.torture.{module}"), function)
        report = run(inner)
    except Exception:
        report = Report(part, failures=[Failure(f"{part}/*", f"the torture itself failed:\n{traceback.format_exc()}")])
    report.seconds = time.monotonic() - started
    return report


def _print_row(report: Report) -> None:
    if report.skipped:
        print(f"{report.part:<10} skipped: {report.skipped}", flush=True)
        return
    passed = report.cases - len(report.failures)
    counts = f"{report.cases:>7} cases {passed:>7} passed {len(report.failures):>4} failed"
    print(f"{report.part:<10} {counts} {report.seconds:>7.0f} s", flush=True)
    for name, value in report.figures.items():
        print(f"{'':<10}   {name}: {value}", flush=True)


def _print_failures(failures: list[Failure], options: argparse.Namespace) -> None:
    """Print three failures of each kind, and how many more there are."""
    kinds: dict[str, list[Failure]] = {}
    for failure in failures:
        kinds.setdefault(failure.kind or failure.case, []).append(failure)
    for alike in kinds.values():
        for failure in alike[:SHOWN]:
            print(f"\nFAILED {failure.case}\n" + "\n".join(f"  {line}" for line in failure.what.splitlines()))
            print(f"  repeat: {_command(failure, options)}")
        more = [failure.case for failure in alike[SHOWN:]]
        if more:
            print(f"  and {len(more)} more of this kind: {' '.join(more[:MORE])}{' …' if len(more) > MORE else ''}")


def _command(failure: Failure, options: argparse.Namespace) -> str:
    part, python = failure.case.partition("/")[0], Path(sys.executable).name
    return f"{python} -m tests.torture --part {part} --seed {options.seed} --scale {options.scale:g} --only '{failure.case}'"


if __name__ == "__main__":
    sys.exit(main())
