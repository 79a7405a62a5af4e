"""Progress of many jobs: a live table of what runs where on a terminal, else a line when a job starts and ends."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from compress.core import console
from compress.search.executor import JobEvent
from compress.search.jobs import Job, JobGraph

SHOWN = 20  # running jobs in the live table


@dataclass
class _Running:
    job: Job
    where: str
    since: float
    note: str = ""


class SweepProgress:
    """Counts and shows the jobs of a graph; `observe` is the observer of an executor.

    Args:
        graph: the jobs.
        live: whether a live table may be shown; not if stages print lines in this process.

    Attributes:
        places: where each job ran, by its id; only jobs that ran in another process.
    """

    def __init__(self, graph: JobGraph, live: bool) -> None:
        self.places: dict[str, str] = {}
        self._graph, self._live = graph, live
        self._running: dict[str, _Running] = {}
        self._done = self._reused = 0
        self._began = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._labels = _labels(graph)
        self._shown = False

    def __enter__(self) -> Self:
        if self._live:
            table = console.live_table(["running", "for", "where", "log"], self._table)
            self._shown = self._stack.enter_context(table)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def observe(self, event: JobEvent) -> None:
        """Take note of an event."""
        job, kind = event.job, event.event.kind
        if kind == "log":
            if job.id in self._running:
                self._running[job.id].note = event.event.text
        elif kind == "warning":
            console.warn_once(f"{job.name}: {event.event.text}")
        elif kind == "waiting":
            console.info(f"{self._title(job)}: {event.event.text}: waiting")
        elif kind == "started":
            self._running[job.id] = _Running(job, event.where, time.monotonic())
            if event.where:
                self.places[job.id] = event.where
            if not self._shown:
                console.info(f"{self._title(job)}{f' on {event.where}' if event.where else ''}")
        else:
            self._end(event)

    def _end(self, event: JobEvent) -> None:
        self._running.pop(event.job.id, None)
        self._done += 1
        if event.event.kind == "reused":
            self._reused += 1
            console.info(f"{self._title(event.job, self._done)}: in the store")
            return
        took = f"done in {console.duration(event.event.seconds or 0)}"
        console.info(f"{self._title(event.job, self._done)}: {took}" if event.where else f"  {took}")

    def _title(self, job: Job, number: int | None = None) -> str:
        position = self._done + len(self._running) if number is None else number
        return f"[{position}/{len(self._graph.jobs)}] {job.name} ({job.stage.verb.name}), {self._labels[job.id]}"

    def _table(self) -> tuple[str, list[list[str]]]:
        now, running = time.monotonic(), list(self._running.values())
        title = f"{self._done} of {len(self._graph.jobs)} stages, {self._reused} from the store, {console.duration(now - self._began)}"
        rows = [
            [f"{item.job.name} · {self._labels[item.job.id]}", console.duration(now - item.since), item.where, item.note]
            for item in running
        ]
        more = [[f"and {len(rows) - SHOWN} more", "", "", ""]] if len(rows) > SHOWN else []
        return title, [*rows[:SHOWN], *more]


def _labels(graph: JobGraph) -> dict[str, str]:
    """Return the points that share each job, in words."""
    sharing: dict[str, list[str]] = {job: [] for job in graph.jobs}
    for label, jobs in graph.job_of.items():
        for job in jobs.values():
            sharing[job].append(label)
    everywhere = len(graph.job_of)
    return {
        job: labels[0] if len(labels) == 1 else "all points" if len(labels) == everywhere else f"{labels[0]} and {len(labels) - 1} more"
        for job, labels in sharing.items()
    }
