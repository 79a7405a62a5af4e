"""What runs on the nodes of a Ray cluster: a job, a probe of the node, and the board that collects what jobs report."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from compress.core import console, digests, hub, machine, scratch
from compress.inference.kept_outputs import keep_outputs
from compress.recipe.code_version import code_version
from compress.recipe.verbs import VERBS
from compress.search.executor import JobEvent, JobObserver, Outcome, blocked, run_job
from compress.search.jobs import Job
from compress.search.store import EventKind, StageEvent, Store

if TYPE_CHECKING:
    from ray.actor import ActorProxy

LOG_EVERY_SECONDS = 1.0  # a line of a stage's log is sent
Posted = tuple[str, StageEvent, str]  # id of the job, event, node


class Probe(TypedDict):
    """What a node says of itself."""

    name: str
    kind: str
    versions: dict[str, str | None]
    code: dict[str, str]
    sees_store: bool


class Board:
    """An actor that keeps what jobs report until the executor fetches it."""

    def __init__(self) -> None:
        self._events: list[Posted] = []

    def post(self, job: str, event: StageEvent, where: str) -> None:
        """Keep an event of a job."""
        self._events.append((job, event, where))

    def drain(self) -> list[Posted]:
        """Return the events since the last call, oldest first."""
        events, self._events = self._events, []
        return events


def probe(marker: str) -> Probe:
    """Describe this node; `marker` is a file in the store's folder."""
    return {
        "name": socket.gethostname(),
        "kind": digests.digest_json(machine.identity()),
        "versions": machine.versions(),
        "code": {verb: code_version(verb) for verb in VERBS},
        "sees_store": Path(marker).is_file(),
    }


def work(job: Job, store: str, folder: str, offline: bool, board: ActorProxy[Board], *inputs: Outcome) -> Outcome:
    """Run a job on this node.

    Args:
        job: the job.
        store: folder of the store.
        folder: the current folder of the process with the executor, where relative paths start.
        offline: whether the network is forbidden.
        board: of the executor.
        inputs: how the jobs that it needs ended, in the order of `job.needs`.
    """
    by_id = dict(zip(job.needs.values(), inputs, strict=True))
    if (stopped := blocked(job, by_id)) is not None:
        return stopped
    with contextlib.suppress(OSError):  # the folder is missing on this node: absolute paths still work
        os.chdir(folder)
    scratch.adopt()
    hub.set_offline(offline)
    keep_outputs()  # the next task in this process compares another model with the same baseline
    where = f"{socket.gethostname()} {os.getpid()}"

    def post(event: JobEvent) -> None:
        board.post.remote(job.id, event.event, event.where)

    with console.observed(_log_to(post, job, where)):
        return run_job(job, {name: by_id[need] for name, need in job.needs.items()}, Store(Path(store)), post, where)


def _log_to(post: JobObserver, job: Job, where: str) -> console.Observer:
    """Return an observer of this process's console that posts warnings, and a line of the log now and then."""
    last = 0.0

    def observe(event: dict[str, object]) -> None:
        nonlocal last
        kind, now = event["event"], time.monotonic()
        if kind == "warning":
            post(_line("warning", event))
        elif kind == "log" and now - last >= LOG_EVERY_SECONDS:
            last = now
            post(_line("log", event))

    def _line(kind: EventKind, event: dict[str, object]) -> JobEvent:
        text = str(event["text"]).strip()
        return JobEvent(job, StageEvent(kind, job.recipe.name, job.name, job.stage.verb.name, Path(), text=text), where)

    return observe
