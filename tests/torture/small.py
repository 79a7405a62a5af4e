"""The small recipe that is disturbed: every kind of stage on a tiny BERT, about a second of work; and how its results are compared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import yaml

from tests import tiny
from tests.torture.children import Ended, Place

RUN = ["run", "small.yaml", "-o", "run"]
PRUNE = ["prune", "model", "--task", "task.yaml", "--target-flops", "0.6", "--recover-epochs", "2", "--precision", "fp32", "-o", "slim"]
STAGES: dict[str, dict[str, object]] = {
    "teacher": {"do": "finetune", "from": "model", "epochs": 2, "batch_size": 8, "lr": 1e-3, "precision": "fp32"},
    "slim": {"do": "prune", "from": "teacher", "target_flops": 0.6, "calib_samples": 12},
    "student": {"do": "distill", "from": "slim", "teacher": "teacher", "epochs": 2, "batch_size": 8, "precision": "fp32"},
    "graph": {"do": "export", "from": "student"},
    "int8": {"do": "quantize", "from": "graph", "method": "dynamic", "max_drop": 100},
    "proof": {"do": "eval", "from": ["teacher", "int8"]},
}


def write_inputs(work: Path) -> None:
    """Write the model, the data, the task file and the recipe."""
    tiny.write_checkpoint(work / "model")
    task = tiny.write_task(work / "data", 24, 12, 12, kind="parquet")
    task |= {split: f"data/{split}.parquet" for split in ("train", "validation", "test")}
    (work / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    recipe = {"schema": 1, "name": "small", "seed": 3, "model": "./model", "task": task, "stages": STAGES}
    (work / "small.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def write_beginning(work: Path, stages: int) -> list[str]:
    """Write the recipe's first stages as a recipe of their own; returns the command that runs it."""
    recipe = yaml.safe_load((work / "small.yaml").read_text(encoding="utf-8"))
    recipe["stages"] = dict(list(recipe["stages"].items())[:stages])
    name = f"first{stages}.yaml"
    (work / name).write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return ["run", name, "-o", "run"]


def undisturbed_clock() -> None:
    """Replace what is measured: a loaded machine may choose another precision, and timing in a process of its own costs a second."""
    from compress.benchmark.timing_worker import TimingWorker
    from compress.training import precision

    precision._measure = lambda *_: {"precision": "fp32", "gain": 0.5}  # type: ignore[assignment]
    TimingWorker.speedup = lambda *_, **__: (1.5, [1.4, 1.6])  # type: ignore[method-assign,assignment,return-value]
    TimingWorker.seconds = lambda *_, **__: 0.001  # type: ignore[method-assign]


def save_often() -> None:
    """Let training save its state after every step, as a long one does every half minute."""
    from compress.training import resume

    undisturbed_clock()
    resume.EVERY_SECONDS, resume.EPOCH_SECONDS, resume.MAX_SHARE = 0.0, 0.0, 1e9


def save_each_epoch() -> None:
    """Let training save its state after every epoch: as many writes in every run."""
    from compress.training import resume

    undisturbed_clock()
    resume.EVERY_SECONDS, resume.EPOCH_SECONDS, resume.MAX_SHARE = 1e9, 0.0, 1e9


def digests(run: Path) -> dict[str, str]:
    """Return the content digests of a finished run's stages, and the names and sizes of what it delivers."""
    stages = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["stages"]
    found = {name: entry["digest"] for name, entry in stages.items() if entry["verb"] not in {"eval", "bench"}}
    found["model"] = json.loads((run / "model" / "compress.json").read_text(encoding="utf-8"))["digest"]
    found["delivered"] = " ".join(sorted(path.name for path in (run / "model").iterdir()))
    found["written"] = " ".join(sorted(path.name for path in run.iterdir()))
    return found


def digest(folder: Path) -> dict[str, str]:
    """Return the content digest of one verb's output, and the names of its files."""
    manifest = json.loads((folder / "compress.json").read_text(encoding="utf-8"))
    return {"model": manifest["digest"], "written": " ".join(sorted(path.name for path in folder.iterdir()))}


def leftovers(place: Place, resumable: bool = False) -> list[str]:
    """Return what should not be there after a command: temporary files, locks, unfinished siblings.

    With `resumable`, the state of an interrupted training may stay.
    """
    found = [path for path in place.tmp.rglob("*") if not path.is_dir()] + [path for path in place.tmp.iterdir() if path.is_dir()]
    for base in (place.work, place.cache):
        for path in base.rglob(".*"):
            if not (resumable and ".resume-" in str(path)):
                found.append(path)
        found += [path for path in base.rglob("tmp*") if path.name.startswith("tmp")]
    return [f"left over: {path.relative_to(place.box)}" for path in sorted(set(found))[:8]]


def processes_left(place: Place, seconds: float = 15.0) -> list[str]:
    """Return the processes that still work in a place after some time: those that time models end by themselves."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and str(entry.joinpath("cwd").readlink()).startswith(str(place.box)):
                    found.append(entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:200])
        if not found or time.monotonic() > deadline:
            return [f"still running: {command}" for command in found]
        time.sleep(0.05)


def well_said(ended: Ended, codes: Iterable[int]) -> list[str]:
    """Return what is wrong with how a command ended: another exit code than documented, a traceback, no message or several."""
    allowed = sorted(set(codes))
    problems = []
    if ended.hung:
        problems.append(f"hangs: killed after {ended.seconds:.0f} s")
    if ended.code not in allowed:
        problems.append(f"exit code {ended.code}, expected {' or '.join(map(str, allowed))}")
    if "Traceback (most recent call last)" in ended.err or "Traceback (most recent call last)" in ended.out:
        problems.append("a traceback")
    if "bug in compress" in ended.err:
        problems.append("reported as a bug")
    errors = [line for line in ended.err.splitlines() if line.startswith(("error:", "Error:"))]
    if ended.code > 0 and len(errors) != 1:
        problems.append(f"{len(errors)} error messages, expected one")
    if ended.code == 0 and errors:
        problems.append("an error message with exit code 0")
    return [*problems, f"stderr: {tail(ended.err)}"] if problems else []


def tail(text: str, characters: int = 700) -> str:
    """Return the end of a text."""
    return text.strip()[-characters:]


def copy(source: Place, target: Path) -> Place:
    """Return a copy of a place, without its logs."""
    place = Place.make(target)
    for part in ("work", "cache"):
        shutil.copytree(getattr(source, part), getattr(place, part), dirs_exist_ok=True)
    return place


def remove(folder: Path) -> None:
    """Remove a folder, whatever its permissions."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink() and not path.stat().st_mode & stat.S_IWUSR:
            os.chmod(path, 0o755)  # noqa: S103
    shutil.rmtree(folder, ignore_errors=True)
