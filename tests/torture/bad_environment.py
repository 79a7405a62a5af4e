"""Bad environments: full and read-only disks, closed streams, strange locales and names, other processes in the way."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.torture import small
from tests.torture.children import Ended, Place, fork, run

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
TUNE = ["finetune", "model", "--task", "task.yaml", "--epochs", "1", "--batch-size", "8", "--precision", "fp32", "-o", "out"]
PREDICT = ["predict", "model", "a red dog"]
EVAL = ["eval", "model", "--task", "task.yaml"]
EXPORT = ["export", "model", "-o", "graph"]
QUANTIZE = ["quantize", "model", "--task", "task.yaml", "--method", "dynamic", "--max-drop", "100", "-o", "int8"]
BENCH = ["bench", "model", "--rounds", "5", "--no-memory"]
FACTORIZE = ["factorize", "model", "--task", "task.yaml", "--rank", "8", "-o", "low"]
SHARE = ["share", "model", "--task", "task.yaml", "--layers", "1", "-o", "shared"]
DISTILL = [
    "distill",
    "--teacher",
    "model",
    "--student",
    "layers=2",
    "--task",
    "task.yaml",
    "--epochs",
    "1",
    "--precision",
    "fp32",
    "-o",
    "student",
]


@dataclass(frozen=True)
class Situation:
    """A command in an environment that is not as it should be.

    `build` prepares the place; `prepare` is called in the command's process, which is forked. With `line` it is a process of its own,
    started by that line of bash, where `$C` is the command line. `codes` are the allowed exit codes, `says` must be printed.
    `after` returns further problems. `leaves`: what stays in the folder for temporary files is not the command's fault.
    """

    item: str
    name: str
    arguments: list[str]
    codes: tuple[int, ...]
    says: str
    prepare: Callable[[Place], object] = lambda place: None
    build: Callable[[Place], object] = lambda place: None
    line: str | None = None
    after: Callable[[Place], Iterable[str]] = lambda place: ()
    leaves: bool = False


def meet(case: Situation, place: Place) -> list[str]:
    """Run one case in a fresh place; returns what is wrong."""
    built = fork(place, lambda: case.build(place), "build").wait()
    if built.code:
        return [f"the situation could not be built: {small.tail(built.err)}"]
    if case.line is not None:
        ended = _in_bash(case.line, case.arguments, place)
    else:
        ended = run(place, case.arguments, lambda: (small.undisturbed_clock(), case.prepare(place)))
    silent = case.name in ("stderr full", "stderr closed", "all closed") or case.item == "closed pipe"
    problems = [] if silent else small.well_said(ended, case.codes)
    if ended.code not in case.codes:
        problems.append(f"exit code {ended.code}")
    if case.says.lower() not in (ended.err + ended.out).lower():
        problems += [f"does not say {case.says!r}", f"stderr: {small.tail(ended.err)}"]
    problems += case.after(place)
    return problems if case.leaves else problems + small.leftovers(place)


def _in_bash(line: str, arguments: list[str], place: Place) -> Ended:
    """Run a line of bash in a place."""
    environment = {**os.environ, **place.environment, "PYTHONPATH": str(REPOSITORY)}
    del environment["PYTHONUTF8"]
    quoted = " ".join("'" + argument.replace("'", "'\\''") + "'" for argument in arguments)
    script = f"C() {{ '{sys.executable}' -m compress {quoted}; }}\n{line}\n"
    done = subprocess.run(["bash", "-c", script], cwd=place.work, env=environment, capture_output=True, timeout=400, check=False)
    return Ended(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def _file_limit(kib: int) -> Callable[[Place], object]:
    def prepare(place: Place) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, kib << 10))

    return prepare


def _as_nobody(*closed: str) -> Callable[[Place], object]:
    """Return a function that makes folders of the box read-only and gives up root's rights."""

    def prepare(place: Place) -> None:
        for path in [place.box, *place.box.rglob("*")]:
            if os.getuid() == 0:
                os.chown(path, NOBODY, NOBODY)
            path.chmod(0o755 if path.is_dir() else 0o644)
        for name in closed:
            (place.box / name).chmod(0o555)
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.environ["HOME"] = str(place.box / "home")

    return prepare


def _environment(**changes: str | None) -> Callable[[Place], object]:
    def prepare(place: Place) -> None:
        for name, value in changes.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value.format(box=place.box)

    return prepare


def _stream(number: int, path: str | None) -> Callable[[Place], object]:
    """Return a function that closes a standard stream, or opens it on a file."""

    def prepare(place: Place) -> None:
        os.close(number)
        if path is not None:
            os.dup2(os.open(path, os.O_RDWR), number)
        _fresh(number)

    return prepare


def _closed_pipe(place: Place) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    _fresh(1)


def _fresh(number: int) -> None:
    """Open Python's stream of a descriptor again, as a new process has it: None if it is closed."""
    name, mode = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))[number]
    try:
        setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115
    except OSError:
        setattr(sys, name, None)


def _finished(arguments: list[str]) -> Callable[[Place], object]:
    """Return a function that runs a command first."""

    def build(place: Place) -> None:
        ended = run(Place(place.folder), arguments, small.undisturbed_clock, "before")
        if ended.code:
            raise RuntimeError(ended.err)

    return build


def _then(*steps: Callable[[Place], object]) -> Callable[[Place], object]:
    def build(place: Place) -> None:
        for step in steps:
            step(place)

    return build


def _edited(path: str) -> Callable[[Place], object]:
    """Return a function that flips a byte in the middle of a file."""

    def build(place: Place) -> None:
        target = place.work / path
        if "*" in path:
            (target,) = place.work.glob(path)
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)

    return build


def _kept(place: Place) -> Iterable[str]:
    """After a rebuild, the run must be as the undisturbed one of the same inputs."""
    fresh = Place.make(place.folder / "fresh")
    for name in ("model", "data"):
        shutil.copytree(place.work / name, fresh.work / name)
    shutil.copy(place.work / "small.yaml", fresh.work)
    ended = run(fresh, small.RUN, small.undisturbed_clock)
    if ended.code:
        return [f"the undisturbed run fails: {small.tail(ended.err)}"]
    same = small.digests(fresh.work / "run") == small.digests(place.work / "run")
    return [] if same else ["digests differ from those of an undisturbed run"]


def _held(output: str) -> Callable[[Place], object]:
    """Return a function that lets another process hold the lock of an output for a while."""

    def build(place: Place) -> None:
        from compress.core import locks

        pid = os.fork()
        if not pid:
            with locks.locked(place.work / output):
                (place.folder / "held").touch()
                deadline = time.monotonic() + 300
                while not (place.folder / "done").exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
            os._exit(0)
        while not (place.folder / "held").exists():
            time.sleep(0.01)

    return build


def _release(place: Place) -> Iterable[str]:
    (place.folder / "done").touch()
    deadline = time.monotonic() + 60
    while list(place.work.glob(".*.lock")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return ()


def _write(name: str, text: str = "mine") -> Callable[[Place], object]:
    def build(place: Place) -> None:
        path = place.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return build


def _absent(*names: str) -> Callable[[Place], Iterable[str]]:
    return lambda place: [f"written: {name}" for name in names if (place.work / name).exists()]


def _output(arguments: list[str], folder: str) -> list[str]:
    return [*arguments[:-1], folder]


def _named(folder: str) -> Callable[[Place], object]:
    """Return a function that moves the model into a folder of this name."""
    return lambda place: (place.work / "model").rename(place.work / folder)


def _bytes_named(place: Place) -> None:
    os.rename(os.fsencode(place.work / "model"), os.fsencode(place.work) + b"/mod\xff\xfe")


def _no_cuda() -> bool:
    return not Path("/dev/nvidia0").exists()


WRITERS = {"finetune": (TUNE, "out"), "export": (EXPORT, "graph"), "quantize": (QUANTIZE, "int8"), "prune": (small.PRUNE, "slim"),
           "distill": (DISTILL, "student"), "run": (small.RUN, "run/model")}  # fmt: skip
STRANGE_NAMES = ("my model", "m'o\"del", "módèl 模型", "-model", "mo\ndel", "m$(touch hacked)", "m;x", "m*[a]", "x" * 200, "#model", "%s{}")

CASES = [
    *(Situation("file limit", f"{name} {kib} KiB", arguments, (0, 5), "", _file_limit(kib), after=(lambda place: ()))
      for name, (arguments, _) in WRITERS.items() for kib in (1, 16, 64, 150)),
    *(Situation("file limit", f"ulimit -f 16, {name}", arguments, (5,), "ulimit -f unlimited", line="ulimit -f 16; C", after=_absent(arguments[-1]))
      for name, arguments in {"finetune": TUNE, "export": EXPORT, "prune": small.PRUNE, "factorize": FACTORIZE, "share": SHARE,
                               "distill": DISTILL, "quantize": QUANTIZE}.items()),
    Situation("file limit", "ulimit -f 16, run", small.RUN, (5,), "ulimit -f unlimited", line="ulimit -f 16; C", after=_absent("run/model")),
    *(Situation("file limit", f"{name} 16 KiB", arguments, (0, 5), "", _file_limit(16)) for name, arguments in {"predict": PREDICT, "eval": EVAL, "bench": BENCH}.items()),
    *(Situation("read-only output", name, arguments, (5,), "", _as_nobody("work"), after=_absent(output)) for name, (arguments, output) in WRITERS.items()),
    Situation("read-only output", "the root folder", _output(EXPORT, "/proc/nope/x"), (5,), "/proc/nope"),
    Situation("read-only output", "a device", _output(EXPORT, "/dev/null/x"), (5,), "/dev/null"),
    Situation("read-only output", "kernel folder", _output(EXPORT, "/sys/x"), (5,), "/sys"),
    Situation("read-only cache", "warned once", TUNE, (0,), "", _as_nobody("cache")),
    Situation("read-only cache", "prune", small.PRUNE, (0,), "nothing is cached", _as_nobody("cache")),
    Situation("read-only cache", "is a file", small.PRUNE, (0,), "nothing is cached", _environment(COMPRESS_CACHE="{box}/work/task.yaml")),
    Situation("read-only cache", "no home", small.PRUNE, (0,), "", _environment(COMPRESS_CACHE=None, HOME="/nonexistent/home", XDG_CACHE_HOME=None)),
    Situation("TMPDIR", "missing", TUNE, (0, 5), "", _environment(TMPDIR="{box}/nowhere")),
    Situation("TMPDIR", "a file", TUNE, (0, 5), "", _environment(TMPDIR="{box}/work/task.yaml")),
    Situation("TMPDIR", "read-only", TUNE, (0, 5), "", _as_nobody("tmp")),
    Situation("inside the input", "finetune", _output(TUNE, "model/out"), (2,), "inside the input"),
    Situation("inside the input", "run", ["run", "small.yaml", "-o", "model/run"], (2,), "inside the input"),
    Situation("inside the input", "the input itself", _output(EXPORT, "model"), (2,), "inside the input"),
    Situation("inside the input", "by a link", _output(EXPORT, "link/out"), (2,), "inside the input", build=lambda place: (place.work / "link").symlink_to("model")),
    Situation("inside the input", "by dots", _output(EXPORT, "data/../model/x"), (2,), "inside the input"),
    Situation("other contents", "a folder", _output(EXPORT, "data"), (2,), "not empty"),
    Situation("other contents", "a run folder", ["run", "small.yaml", "-o", "data"], (2,), "not empty"),
    Situation("other contents", "a file", _output(EXPORT, "task.yaml"), (2,), "is a file"),
    Situation("other contents", "a file, run", ["run", "small.yaml", "-o", "task.yaml"], (2,), "is a file"),
    Situation("other contents", "made from other settings", [*small.PRUNE[:4], "--target-flops", "0.5", "-o", "slim"], (2,), "--overwrite", build=_finished(small.PRUNE)),
    Situation("other contents", "a link to nowhere", _output(EXPORT, "gone"), (0,), "", build=lambda place: (place.work / "gone").symlink_to("nowhere")),
    *(Situation("two processes", name, arguments, (75,), "in use by process", build=_held(arguments[-1]), after=_release, leaves=True)
      for name, arguments in {"verb": TUNE, "run": small.RUN, "export": EXPORT}.items()),
    Situation("closed pipe", "predict", PREDICT, (141,), "", _closed_pipe),
    Situation("closed pipe", "json", ["--json", *PREDICT], (141,), "", _closed_pipe),
    Situation("closed pipe", "eval", EVAL, (141,), "", _closed_pipe),
    Situation("closed pipe", "head", ["predict", "model", *["a red dog"] * 2000], (141,), "", line="C | head -1 >/dev/null; exit ${PIPESTATUS[0]}"),
    Situation("streams", "stdin closed", PREDICT, (0,), "", _stream(0, None)),
    Situation("streams", "stdin closed, read", ["predict", "model"], (2,), "", _stream(0, None)),
    Situation("streams", "stdout closed", PREDICT, (0,), "", _stream(1, None)),
    Situation("streams", "stderr closed", PREDICT, (0,), "", _stream(2, None)),
    Situation("streams", "all closed", PREDICT, (0,), "", line="C <&- >&- 2>&-"),
    Situation("streams", "stdout full", PREDICT, (5,), "no space left", _stream(1, "/dev/full")),
    Situation("streams", "stdout full, json", ["--json", *PREDICT], (5,), "", _stream(1, "/dev/full")),
    Situation("streams", "stderr full", EXPORT, (0, 5), "", _stream(2, "/dev/full")),
    Situation("offline", "model", ["--offline", "predict", "owner/name", "x"], (5,), "offline"),
    Situation("offline", "data", ["--offline", "eval", "model", "--task", "sst2"], (5,), "offline"),
    Situation("offline", "recipe", ["--offline", "run", "sst2", "-o", "out"], (5,), "offline", after=_absent("out")),
    *(Situation("no GPU", name, [*arguments[:-2], "--device", "cuda", *arguments[-2:]], (5,), "cuda") for name, arguments in
      {"finetune": TUNE, "distill": DISTILL, "prune": small.PRUNE}.items() if _no_cuda()),
    *(Situation("no GPU", name, [*arguments, "--device", "cuda"], (5,), "cuda") for name, arguments in
      {"predict": PREDICT, "eval": EVAL, "bench": ["bench", "model"]}.items() if _no_cuda()),
    *(Situation("locale", f"{locale}, {name}", ["predict", "módèl", "a red dog"], (0,), "", build=_named("módèl"), line=f"LC_ALL={locale} {more} C") for locale, name, more in (
      ("C", "plain", ""), ("C", "without coercion", "PYTHONCOERCECLOCALE=0 PYTHONUTF8=0"), ("POSIX", "plain", ""), ("en_US.ISO-8859-1", "latin-1", "PYTHONCOERCECLOCALE=0"),
      ("nowhere", "unknown", ""), ("C.UTF-8", "plain", ""))),
    Situation("locale", "stream encoding", ["predict", "model", "ein schöner Hund 🐕"], (0,), "", line="PYTHONIOENCODING=ascii C"),
    Situation("locale", "name not UTF-8", ["predict", "mod\udcff\udcfe", "a red dog"], (0, 2, 4), "", build=_bytes_named),
    Situation("locale", "output not UTF-8", ["export", "model", "-o", "out\udcff"], (0, 2), ""),
    *(Situation("names", repr(name)[:30], ["predict", "--", f"./{name}", "a red dog"], (0,), "", build=_named(name), after=_absent("hacked")) for name in STRANGE_NAMES),
    *(Situation("names", f"written {name!r}"[:40], ["export", "model", "-o", f"./{name}"], (0,), "", after=_absent("hacked")) for name in STRANGE_NAMES),
    Situation("names", "too long", _output(EXPORT, "x" * 300), (2, 5), ""),
    Situation("edited by hand", "weights", small.RUN, (0,), "", build=_then(_finished(small.RUN), _edited("run/stages/02-slim/model.safetensors")), after=_kept),
    Situation("edited by hand", "graph", small.RUN, (0,), "", build=_then(_finished(small.RUN), _edited("run/stages/04-graph/model.onnx")), after=_kept),
    Situation("edited by hand", "manifest", small.RUN, (0,), "", build=_then(_finished(small.RUN), _edited("run/stages/05-int8/compress.json")), after=_kept),
    Situation("edited by hand", "tokenizer", small.RUN, (0,), "", build=_then(_finished(small.RUN), _edited("run/stages/01-teacher/tokenizer.json")), after=_kept),
    Situation("edited by hand", "delivered", small.RUN, (0,), "", build=_then(_finished(small.RUN), lambda place: (place.work / "run/model/README.md").unlink()), after=_kept),
    Situation("edited by hand", "run manifest", ["report", "run"], (2, 4), "", build=_then(_finished(small.RUN), _write("run/manifest.json", "{"))),
    Situation("memory", "bounded", TUNE, (0, 5), "", lambda place: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))),
    Situation("memory", "few open files", small.RUN, (0, 5), "", lambda place: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))),
]  # fmt: skip
