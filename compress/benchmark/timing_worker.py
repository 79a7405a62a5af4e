"""Time graphs in a separate process that does nothing else, like a server: `python -m compress.benchmark.timing_worker`.

Earlier work of a process slows small graphs in it, because it leaves the memory fragmented. After pruning and training in the
same process a MiniLM at a sixth of the latency was 5.7 times as fast as the whole model, and 6.3 times in a fresh process.

Requests and replies are lines of JSON. This module does not import torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from compress.benchmark.microbenchmark import measure_speedup, median_seconds, random_batch
from compress.core.errors import CompressError, ResourceError
from compress.inference.batches import Forward
from compress.inference.onnx_session import open_session, session_forward
from compress.inference.openvino_session import openvino_forward
from compress.inference.routes import OPENVINO
from compress.models.layout import GRAPH
from compress.results.graphs import RuntimeHints


class ServingSettings(TypedDict):
    """How graphs are served, and the random tokens that they are timed on."""

    runtime: str
    precision: str
    threads: int
    hints: RuntimeHints
    batch_size: int
    seq_len: int
    vocab_size: int
    seed: int


class TimingWorker:
    """A process that opens graphs and times them; it starts with the first request and ends when this object is deleted.

    Args:
        serving: how graphs are served, as keywords.
    """

    def __init__(self, **serving: Unpack[ServingSettings]) -> None:
        self.serving = serving
        self._process: subprocess.Popen[str] | None = None

    def seconds(self, folder: Path) -> float:
        """Return the median seconds of a graph, with warm caches.

        Raises:
            ResourceError: the process ended, or could not open the graph.
        """
        return self._request({"folder": str(folder)})["seconds"]

    def speedup(self, before: Path, after: Path, rounds: int) -> tuple[float, list[float]]:
        """Return the speedup of the second graph over the first, timed in turns, with its 95 % interval; the first stays open.

        Raises:
            ResourceError: the process ended, or could not open a graph.
        """
        reply = self._request({"folder": str(before), "against": str(after), "rounds": rounds})
        return reply["speedup"], reply["interval"]

    def _request(self, request: dict[str, str | int]) -> dict[str, Any]:
        if self._process is None:
            command = fresh_python("compress.benchmark.timing_worker", json.dumps(self.serving))
            # In its own process group, so that Ctrl-C reaches the owner only.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 (both are pipes)
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise ResourceError("the process that times models ended", "free some memory and try again")
        reply = json.loads(line)
        if "error" in reply:
            raise ResourceError(f"a model could not be timed: {reply['error']}", reply["hint"])
        return reply

    def __del__(self) -> None:
        """End the process, even in the middle of a request, as when the owner is interrupted."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):  # a request that was only partly sent
                self._process.__exit__(None, None, None)


def fresh_python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a new process.

    The current folder, which `python -m` would search first, is left out: a file there may have the name of a module. The folder
    of this package is added in case the new process does not find it.
    """
    root = str(Path(__file__).parents[2])
    code = f"import runpy, sys; {root!r} in sys.path or sys.path.insert(0, {root!r}); runpy.run_module({module!r}, run_name='__main__')"
    return [sys.executable, "-P", "-c", code, *arguments]


def open_served(folder: Path, serving: ServingSettings) -> Forward:
    """Open a graph as it will be served."""
    if serving["runtime"] == OPENVINO:
        return openvino_forward(folder, serving["precision"], "cpu", serving["threads"])
    return session_forward(open_session(folder / GRAPH, serving["threads"], "cpu", serving["hints"]))


def main() -> None:
    """Answer requests on standard input until it ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not write into the replies
    serving: ServingSettings = json.loads(sys.argv[1])
    batch = random_batch(np.random.default_rng(serving["seed"]), serving["vocab_size"], serving["batch_size"], serving["seq_len"])
    opened: dict[str, Forward] = {}

    def reply_to(request: dict[str, Any]) -> dict[str, object]:
        folder = request["folder"]
        if folder not in opened:
            opened[folder] = open_served(Path(folder), serving)
        if "against" not in request:
            return {"seconds": median_seconds(opened[folder], batch)}
        ratio, interval = measure_speedup(opened[folder], open_served(Path(request["against"]), serving), batch, request["rounds"])
        return {"speedup": ratio, "interval": interval}

    for line in sys.stdin:
        try:
            reply = reply_to(json.loads(line))
        except CompressError as error:
            reply = {"error": error.message, "hint": error.hint}
        except Exception as error:  # the runtimes' exceptions share no base class
            reply = {"error": f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0]}", "hint": None}
        try:
            print(json.dumps(reply), file=replies, flush=True)
        except BrokenPipeError:  # the owner is gone
            return


if __name__ == "__main__":
    main()
