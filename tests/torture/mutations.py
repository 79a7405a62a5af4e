"""Mutated files, by the hundred thousand: each is read, or refused by a typed error; never a traceback, a crash, a hang or gigabytes."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import tiny
from tests.torture import small
from tests.torture.bad_case import recipe_document, split_header, with_header
from tests.torture.children import Place, fork, limit_memory, run
from tests.torture.mutators import as_json, changed, damaged
from tests.torture.session import Progress, Report, Session

FULL = {  # how many of a full run
    "recipe": 20_000, "task": 20_000, "config": 20_000, "header": 15_000, "tokenizer": 10_000, "artifact": 5_000, "graph": 4_000,
    "manifest": 6_000, "table": 5_000,
}  # fmt: skip
CHUNK = 250  # in one process
MEMORY_GIB = 3.0
SECONDS = 30  # of processor time for one
Mutant = Callable[[random.Random], None]  # damages the files of a folder and reads them


class TooSlow(BaseException):
    """One mutation took too long; not an Exception, so that nothing takes it for an error of its own."""


def mutations(session: Session) -> Report:
    """Run every target."""
    report = Report("mutations")
    place = Place.make(session.folder / "clean")
    small.write_inputs(place.work)
    for arguments in (small.RUN, ["export", "model", "-o", "graph"]):
        ended = run(place, arguments, small.undisturbed_clock)
        if ended.code:
            raise RuntimeError(f"'{arguments[0]}' fails: {ended.err}")
    for target, full in FULL.items():
        numbers = [n for n in range(session.count(full, 4)) if session.wanted(f"mutations/{target}/{n}")]
        started, kinds = time.monotonic(), Counter[str]()
        for number, outcome, problem in _in_processes(session, place, target, numbers):
            kinds[outcome] += 1
            report.add(f"mutations/{target}/{number}", [problem] if problem else [], _kind(problem))
        total = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        report.figures[target] = f"{len(numbers)}: {total} ({time.monotonic() - started:.0f} s)"
    seen = Counter(failure.kind for failure in report.failures)
    if seen:
        report.figures["failures by kind"] = "; ".join(f"{count}x {kind}" for kind, count in seen.most_common(30))
    return report


def _kind(problem: str) -> str:
    """Return what failures alike have in common: the last line, which names the exception."""
    return problem.strip().splitlines()[-1][:60] if problem.strip() else ""


def _in_processes(session: Session, place: Place, target: str, numbers: list[int]) -> list[tuple[int, str, str]]:
    """Read the mutants of a target in forked processes of bounded memory; returns (number, outcome, problem) of each.

    A process that dies takes its mutant's number with it: it is known as the one that was begun last.
    """
    waiting = [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
    running: dict[int, tuple[list[int], Path, Any]] = {}
    results: list[tuple[int, str, str]] = []
    progress = Progress(f"mutations of a {target}", len(numbers))
    while waiting or running:
        while waiting and len(running) < session.jobs:
            chunk = waiting.pop(0)
            folder = Path(tempfile.mkdtemp(dir=session.folder))
            child = fork(Place.make(folder), lambda chunk=chunk, folder=folder: _read_chunk(session, place, target, chunk, folder))
            running[child.pid] = chunk, folder, child
        pid = next(iter(running))
        chunk, folder, child = running.pop(pid)
        ended = child.wait(CHUNK * SECONDS)
        lines = _lines(folder / "results")
        done = [tuple(line) for line in lines if len(line) == 3]
        results += done
        if ended.code:
            begun = [line[0] for line in lines if len(line) == 1]
            culprit = begun[-1] if begun else chunk[0]
            results.append((culprit, "crashed", f"the process ended with {ended.code}: {small.tail(ended.err, 300)}"))
            rest = chunk[chunk.index(culprit) + 1 :]
            if rest:
                waiting.insert(0, rest)
        shutil.rmtree(folder, ignore_errors=True)
        failed = [number for number, _, problem in results if problem]
        progress.show(len(results), len(failed), f"mutations/{target}/{failed[-1]}" if failed else "")
    return sorted(results)


def _lines(path: Path) -> list[list[Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _read_chunk(session: Session, place: Place, target: str, numbers: list[int], folder: Path) -> None:
    """Read some mutants in this process."""
    limit_memory(MEMORY_GIB)
    signal.signal(signal.SIGVTALRM, _too_slow)
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (warnings by the thousand)
    work = folder / "box" / "work"
    mutate = TARGETS[target](place.work, work)
    with (folder / "results").open("w", encoding="utf-8") as stream:
        for number in numbers:
            stream.write(f"[{number}]\n")
            stream.flush()
            stream.write(json.dumps([number, *_outcome(mutate, session.random(f"{target}/{number}"))]) + "\n")
            stream.flush()


def _too_slow(number: int, frame: object) -> None:
    raise TooSlow


def _outcome(mutate: Mutant, draw: random.Random) -> tuple[str, str]:
    """Read one mutant; returns how it ended, and what is wrong."""
    from compress.core.errors import CompressError
    from compress.core.system_errors import typed

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        mutate(draw)
        outcome, problem = "read", ""
    except CompressError as error:
        outcome, problem = "refused", "" if str(error.message).strip() else "refused without a message"
    except TooSlow:
        return "too slow", f"took more than {SECONDS} s of processor time\n{traceback.format_exc()[-900:]}"
    except Exception as error:
        seen = typed(error) or (error if isinstance(error, OSError) else None)
        outcome = "resources" if seen is not None else "untyped"
        problem = "" if seen is not None else traceback.format_exc()[-1500:]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    if grown > 1500:
        problem += f"\ntook {grown} MiB"
    return outcome, problem


def _yaml_or_bytes(document: Any, draw: random.Random) -> bytes:
    import yaml

    if draw.random() < 0.4:
        return damaged(yaml.safe_dump(document, sort_keys=False).encode(), draw)
    try:
        return yaml.safe_dump(changed(document, draw), sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (ValueError, yaml.YAMLError):  # what YAML cannot write
        return as_json(changed(document, draw))


def _recipes(clean: Path, work: Path) -> Mutant:
    from compress.recipe.load import load
    from compress.recipe.resolve import resolved

    def mutate(draw: random.Random) -> None:
        (work / "bad.yaml").write_bytes(_yaml_or_bytes(recipe_document(), draw))
        resolved(load(str(work / "bad.yaml")))

    return mutate


def _tasks(clean: Path, work: Path) -> Mutant:
    from compress.data.presets import resolve
    from compress.data.task import Task

    shutil.copytree(clean / "data", work / "data")
    documents = [
        recipe_document()["task"],
        *(tiny.write_kind(work / target, target, 6, 4) for target in ("labels", "value", "tags", "span")),
    ]

    def mutate(draw: random.Random) -> None:
        (work / "bad.yaml").write_bytes(_yaml_or_bytes(draw.choice(documents), draw))
        spec = resolve(str(work / "bad.yaml"))
        if draw.random() < 0.1:  # reading the data costs more
            Task(spec).split("train")

    return mutate


def _configs(clean: Path, work: Path) -> Mutant:
    from compress.models.checkpoint import load_model
    from compress.models.config import read_config
    from compress.models.model_shape import model_shape

    shutil.copytree(clean / "model", work / "model")
    shutil.copytree(clean / "run/stages/02-slim", work / "slim")
    originals = {name: (work / name / "config.json").read_bytes() for name in ("model", "slim")}

    def mutate(draw: random.Random) -> None:
        name = draw.choice(list(originals))
        raw = originals[name]
        (work / name / "config.json").write_bytes(damaged(raw, draw) if draw.random() < 0.3 else as_json(changed(json.loads(raw), draw)))
        read_config(work / name)
        if draw.random() < 0.5:
            model_shape(load_model(work / name))

    return mutate


def _headers(clean: Path, work: Path) -> Mutant:
    from compress.models.checkpoint import load_model
    from compress.models.config import read_config
    from compress.models.weights_file import check_weights

    shutil.copytree(clean / "model", work / "model")
    path = work / "model" / "model.safetensors"
    raw = path.read_bytes()
    header, tensors = split_header(raw)
    config = read_config(work / "model")

    def mutate(draw: random.Random) -> None:
        how = draw.random()
        if how < 0.5:
            path.write_bytes(with_header(as_json(changed(header, draw)), tensors))
        elif how < 0.8:
            text = damaged(json.dumps(header).encode(), draw)
            path.write_bytes(with_header(text, tensors, len(text) + draw.choice((0, 0, 0, 1, -1, 2**40))))
        else:
            path.write_bytes(struct.pack("<Q", draw.randrange(2**64) if draw.random() < 0.5 else len(raw)) + damaged(raw, draw)[8:])
        check_weights(work / "model", config)
        load_model(work / "model")

    return mutate


def _tokenizers(clean: Path, work: Path) -> Mutant:
    from compress.data.tokenizing import encode_batch
    from compress.models import resolved_tokenizer
    from compress.models.tokenizer import load_tokenizer, pad_id

    folder = work / "model"
    shutil.copytree(clean / "model", folder)
    originals = {name: (folder / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}

    def mutate(draw: random.Random) -> None:
        for name, raw in originals.items():
            (folder / name).write_bytes(raw)
        name = draw.choice(list(originals))
        raw = originals[name]
        (folder / name).write_bytes(damaged(raw, draw) if draw.random() < 0.3 else as_json(changed(json.loads(raw), draw)))
        resolved_tokenizer._resolve.cache_clear()
        tokenizer = load_tokenizer(folder, 200)
        encode_batch(tokenizer, ["a red dog 🐕"])
        pad_id(folder)

    return mutate


def _artifacts(clean: Path, work: Path) -> Mutant:
    from compress.inference.artifact import load_onnx

    folder = work / "graph"
    shutil.copytree(clean / "graph", folder)
    originals = {name: (folder / name).read_bytes() for name in ("compress.json", "config.json", "canaries.json")}

    def mutate(draw: random.Random) -> None:
        for name, raw in originals.items():
            (folder / name).write_bytes(raw)
        name = draw.choice(list(originals))
        raw = originals[name]
        (folder / name).write_bytes(damaged(raw, draw) if draw.random() < 0.2 else as_json(changed(json.loads(raw), draw)))
        load_onnx(folder)(["a red dog"])

    return mutate


def _graphs(clean: Path, work: Path) -> Mutant:
    from compress.inference.artifact import load_onnx

    folder = work / "graph"
    shutil.copytree(clean / "graph", folder)
    raw = (folder / "model.onnx").read_bytes()

    def mutate(draw: random.Random) -> None:
        (folder / "model.onnx").write_bytes(damaged(raw, draw))
        load_onnx(folder)(["a red dog"])

    return mutate


def _manifests(clean: Path, work: Path) -> Mutant:
    from compress import report
    from compress.core import artifacts
    from compress.models.reference import digest_model
    from compress.recipe.plan import finished

    shutil.copytree(clean / "run", work / "run")
    names = ["manifest.json", *(str(path.relative_to(work / "run")) for path in sorted((work / "run/stages").glob("*/compress.json")))]
    originals = {name: (work / "run" / name).read_bytes() for name in names}

    def mutate(draw: random.Random) -> None:
        name = draw.choice([*names, "manifest.json", "manifest.json"])
        path, raw = work / "run" / name, originals[name]
        path.write_bytes(damaged(raw, draw) if draw.random() < 0.2 else as_json(changed(json.loads(raw), draw)))
        try:
            finished(path.parent, "0" * 64)
            if (path.parent / "config.json").is_file():
                artifacts.read_manifest(path.parent)
                digest_model(path.parent)
            with report.of_any_run(work / "run"):
                report.write(work / "run") if draw.random() < 0.3 else report.summary(work / "run")
        finally:
            path.write_bytes(raw)

    return mutate


def _tables(clean: Path, work: Path) -> Mutant:
    from compress.data import tables

    raw = {"bad.parquet": (clean / "data/train.parquet").read_bytes()} | _other_tables(clean / "data/train.parquet")

    def mutate(draw: random.Random) -> None:
        name = draw.choice(["bad.parquet", *raw])
        path = work / name
        path.write_bytes(damaged(raw[name], draw))
        tables.uncompressed_size(path)
        for _ in tables.read_batches(path, tables.column_names(path)[:2]):
            pass

    return mutate


def _other_tables(path: Path) -> dict[str, bytes]:
    """Return the rows of a Parquet file in the other formats, Parquet without compression and dictionaries among them."""
    import io

    import pandas as pd

    rows, plain, packed = pd.read_parquet(path), io.BytesIO(), io.BytesIO()
    rows.to_parquet(plain, compression=None, use_dictionary=False)
    rows.to_csv(packed, index=False, compression="gzip")
    conll = "".join("".join(f"{word} {label}\n" for word in text.split()) + "\n" for text, label in rows.to_numpy())
    return {
        "plain.parquet": plain.getvalue(), "bad.csv": rows.to_csv(index=False).encode(), "bad.csv.gz": packed.getvalue(),
        "bad.jsonl": rows.to_json(orient="records", lines=True).encode(), "bad.conll": conll.encode(),
    }  # fmt: skip


TARGETS: dict[str, Callable[[Path, Path], Mutant]] = {
    "recipe": _recipes,
    "task": _tasks,
    "config": _configs,
    "header": _headers,
    "tokenizer": _tokenizers,
    "artifact": _artifacts,
    "graph": _graphs,
    "manifest": _manifests,
    "table": _tables,
}
