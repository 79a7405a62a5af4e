"""Commands in forked processes: the parent has imported everything, so a case costs its own work and not two seconds of imports.

The parent must never compute: threads do not survive a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.command_server import import_everything
from tests.torture.session import Progress

HANGS_AFTER = 400.0  # seconds; generous, as other programs may use the machine
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUTF8": "1"}


@dataclass(frozen=True)
class Place:
    """The folders of a case: the current folder of its commands, its temporary files, its cache (all in `box`), and what it prints."""

    folder: Path

    @staticmethod
    def make(folder: Path) -> Place:
        place = Place(folder)
        for part in (place.work, place.tmp, place.cache, place.log):
            part.mkdir(parents=True, exist_ok=True)
        return place

    @property
    def box(self) -> Path:
        return self.folder / "box"

    @property
    def work(self) -> Path:
        return self.box / "work"

    @property
    def tmp(self) -> Path:
        return self.box / "tmp"

    @property
    def cache(self) -> Path:
        return self.box / "cache"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the case's commands."""
        return ENVIRONMENT | {"TMPDIR": str(self.tmp), "COMPRESS_CACHE": str(self.cache), "HF_HUB_CACHE": str(self.cache / "hub")}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: killed by that signal), its output, and what it used."""

    code: int
    out: str
    err: str
    seconds: float = 0.0
    cpu: float = 0.0
    hung: bool = False


@dataclass(frozen=True)
class Child:
    """A command that runs."""

    pid: int
    place: Place
    name: str
    begun: float

    def signal(self, number: int, group: bool = False) -> None:
        """Send a signal to the command, or with the processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, timeout: float = HANGS_AFTER) -> Ended:
        """Wait for the end; what hangs is killed."""
        deadline, hung = time.monotonic() + timeout, False
        pause = 0.002
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL, group=True)
                hung = True
            time.sleep(pause)
            pause = min(pause * 1.3, 0.02)
        code = os.waitstatus_to_exitcode(status)
        out, err = (self.place.log / f"{self.name}.{stream}" for stream in ("out", "err"))
        return Ended(code, _text(out), _text(err), time.monotonic() - self.begun, usage.ru_utime + usage.ru_stime, hung)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


def start(
    place: Place, arguments: list[str], prepare: Callable[[], object] | None = None, name: str = "command", stdin: bytes | None = None
) -> Child:
    """Start `compress ARGUMENTS` in a forked process and session, in a place.

    Args:
        place: where.
        arguments: of the command line.
        prepare: is called in the process before.
        name: of the files in `place.log` that get its output.
        stdin: what it reads.
    """

    def command() -> None:
        from compress.cli import start as entry

        sys.argv = ["compress", *arguments]
        if prepare:
            prepare()
        entry.main()

    return fork(place, command, name, stdin)


def run(
    place: Place,
    arguments: list[str],
    prepare: Callable[[], object] | None = None,
    name: str = "command",
    stdin: bytes | None = None,
    timeout: float = HANGS_AFTER,
) -> Ended:
    """Run `compress ARGUMENTS` in a forked process; see `start`."""
    return start(place, arguments, prepare, name, stdin).wait(timeout)


def fork(place: Place, work: Callable[[], object], name: str = "command", stdin: bytes | None = None) -> Child:
    """Start a function in a forked process with the environment and the streams of a place; it ends by returning or SystemExit."""
    (place.log / f"{name}.in").write_bytes(stdin or b"")
    begun = time.monotonic()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            _settle(place, name)
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            _end(code)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # also here: a signal may be sent before the child has done it
    return Child(pid, place, name, begun)


def _settle(place: Place, name: str) -> None:
    """Give a forked process its session, streams, folder and environment."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number, suffix, flags in ((0, "in", os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        created = os.open(place.log / f"{name}.{suffix}", flags | (os.O_CREAT | os.O_TRUNC if number else 0), 0o644)
        os.dup2(created, number)
        os.close(created)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(place.work)
    os.environ.update(place.environment)
    tempfile.tempdir = None


def _end(code: int) -> None:
    """End a forked process as an ordinary one ends: its exit handlers run and its streams are flushed."""
    for step in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(BaseException):
            step()
    os._exit(code)


def warm_up(session_folder: Path, arguments: list[list[str]]) -> None:
    """Import what commands import: everything that is known, then what a scout process that runs them reports.

    The digests of the sources are computed here, too, once for all.
    """
    import_everything()
    place = Place.make(session_folder / "scout")
    report = place.folder / "modules.json"

    def scout() -> None:
        from compress.cli import main as entry

        for command in arguments:
            try:
                entry.main(command)
            except SystemExit as stop:
                if stop.code:
                    raise
        report.write_text(json.dumps(sorted(sys.modules)), encoding="utf-8")

    ended = fork(place, scout).wait()
    if ended.code or not report.is_file():
        raise RuntimeError(f"the undisturbed commands fail ({ended.code}):\n{ended.err}")
    for module in json.loads(report.read_text(encoding="utf-8")):
        if module not in sys.modules and not module.startswith("__"):
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    from compress.recipe.code_version import code_version
    from compress.recipe.verbs import VERBS

    for verb in VERBS:
        code_version(verb)
    gc.collect()
    gc.freeze()


def limit_memory(gib: float) -> None:
    """Bound the address space of this process to what it has and `gib` more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    bound = pages * resource.getpagesize() + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def share_out(
    jobs: int, names: Sequence[str], work: Callable[[int], list[str]], folder: Path, skip: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Call a function for the number of each case in `jobs` forked processes; yields (number, what it returned), in order.

    A process takes every jobs-th number, so the same process meets the same numbers whatever the others do. Once a minute a line is
    printed. `work` returns problems, after `skip` other texts; a case without any has passed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"job{job}.jsonl" for job in range(jobs)]
    running: set[int] = set()
    for job, path in enumerate(paths):
        pid = os.fork()
        if not pid:
            _work(path, range(job, len(names), jobs), work)
        running.add(pid)
    progress, codes = Progress(names[0].partition("/")[0] if names else "", len(names)), []
    while running:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
        done = [line for path in paths for line in _complete_lines(path)] if progress.due() else []
        failed = [number for number, problems in done if problems[skip:]]
        progress.show(len(done), len(failed), names[failed[-1]] if failed else "")
        time.sleep(0.05)
    if any(codes):
        raise RuntimeError(f"a process of the torture itself failed: {codes}")
    yield from sorted((number, problems) for path in paths for number, problems in _complete_lines(path))


def _work(path: Path, numbers: Iterable[int], work: Callable[[int], list[str]]) -> NoReturn:
    """Do the cases of one process and end it."""
    code = 1
    try:
        with path.open("w", encoding="utf-8") as stream:
            for number in numbers:
                stream.write(json.dumps([number, work(number)]) + "\n")
                stream.flush()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _complete_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return what a process has written so far."""
    if not path.is_file():
        return []
    return [tuple(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
