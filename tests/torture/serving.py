"""Serving: many threads share one artifact, for a hundred thousand calls."""

from __future__ import annotations

import json
import random
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.torture import small
from tests.torture.children import Place, fork
from tests.torture.session import Report, Session

THREADS, CALLS, TEXTS = 16, 100_000, 400
FLAT_MIB = 24.0  # growth of the memory in the second half of the calls that counts as flat
KINDS = {"class": 0.7, "tags": 0.2, "span": 0.1}  # shares of the calls


def serving(session: Session) -> Report:
    """Run every case."""
    report = Report("serving")
    for kind, share in KINDS.items():
        name = f"serving/threads/{kind}"
        if session.wanted(name):
            _add_threads(report, session, name, kind, session.count(round(CALLS * share), THREADS))
    return report


def _add_threads(report: Report, session: Session, name: str, kind: str, calls: int) -> None:
    """Serve in a process of its own; every call counts as a case."""
    place = Place.make(session.folder / f"serve-{kind}")
    ended = fork(place, lambda: _serve(place, kind, calls, session.random(name))).wait(6000)
    path = place.folder / "served.json"
    if ended.code or not path.is_file():
        report.add(name, [f"the server ended with {ended.code}: {small.tail(ended.err)}"])
        return
    served = json.loads(path.read_text(encoding="utf-8"))
    report.cases += calls - 1
    report.add(name, served["problems"])
    report.figures[f"{kind}, {THREADS} threads"] = (
        f"{calls} calls, {served['texts']} texts, {served['per_second']:.0f} calls/s, largest difference {served['difference']:.1e}, "
        f"memory {served['halfway']:.0f} MiB halfway, {served['end']:.0f} MiB at the end"
    )


def _serve(place: Place, kind: str, calls: int, draw: random.Random) -> None:
    """Call one model from many threads; compare with the answers that one thread gets, text by text."""
    from compress.inference.artifact import load_onnx
    from tests.unit.inference.test_serving import make_artifact, ragged, rounded

    folder = make_artifact(place.work, kind, "roberta" if kind == "tags" else "bert")
    texts = ragged(TEXTS, kind)
    alone, shared = load_onnx(folder, threads=1), load_onnx(folder, threads=1)
    expected = [rounded(alone(text)) for text in texts]
    seeds = [draw.randrange(2**60) for _ in range(THREADS)]
    differences, problems, memory = [0.0] * THREADS, [], []
    counts = [0] * THREADS
    lock = threading.Lock()

    def client(number: int) -> None:
        choose = random.Random(seeds[number])  # noqa: S311
        for call in range(calls // THREADS + (number < calls % THREADS)):
            chosen = [choose.randrange(TEXTS) for _ in range(choose.choice((1, 1, 1, 1, 2, 5)))]
            result = shared([texts[i] for i in chosen], batch_size=choose.choice((1, 4, 32)))
            counts[number] += len(chosen)
            for i, answer in zip(chosen, rounded(result), strict=True):
                found = difference(answer, expected[i])
                differences[number] = max(differences[number], found)
                if found > 1e-3 and len(problems) < 5:
                    problems.append(f"text {i} in a batch of {len(chosen)}: {answer} instead of {expected[i]}"[:600])
            if number == 0 and call % 50 == 0:
                with lock:
                    memory.append(resident_mib())

    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(client, range(THREADS)))
    seconds = time.monotonic() - started
    halfway, end = memory[len(memory) // 2], resident_mib()
    if end - halfway > FLAT_MIB:
        problems.append(
            f"memory grew by {end - halfway:.0f} MiB in the second half of the calls: {[round(value) for value in memory[::20]]}"
        )
    threads = threading.active_count()
    if threads > 1:
        problems.append(f"{threads} threads are left")
    document = {
        "problems": problems, "difference": max(differences), "per_second": calls / seconds, "texts": sum(counts), "halfway": halfway,
        "end": end, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    (place.folder / "served.json").write_text(json.dumps(document), encoding="utf-8")


def difference(answer: Any, expected: Any) -> float:
    """Return the largest difference of numbers in two JSON documents; infinity if anything else differs."""
    if isinstance(expected, dict) and isinstance(answer, dict) and answer.keys() == expected.keys():
        return max((difference(answer[key], value) for key, value in expected.items()), default=0.0)
    if isinstance(expected, list) and isinstance(answer, list) and len(answer) == len(expected):
        return max(map(difference, answer, expected), default=0.0)
    if isinstance(expected, float) and isinstance(answer, int | float):
        return abs(answer - expected)
    return 0.0 if answer == expected else float("inf")


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20
