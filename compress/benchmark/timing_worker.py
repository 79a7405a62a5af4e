"""Time graphs in a process that does nothing else, as one that serves: `python -m compress.benchmark.timing_worker`.

What a process did before slows small graphs in it. After pruning and training, which leave its memory in pieces, a MiniLM at a
sixth of its time was 5.7 times as fast as the whole one in that process, and 6.3 times in a fresh one.

Requests and answers are lines of JSON. This module does not import torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from compress.benchmark.microbenchmark import measure_speedup, median_seconds, random_batch
from compress.core.errors import CompressError, ResourceError
from compress.inference.batches import Forward
from compress.inference.onnx_session import open_session, session_forward
from compress.inference.openvino_session import openvino_forward
from compress.inference.routes import OPENVINO
from compress.models.layout import GRAPH


class TimingWorker:
    """A process that opens graphs and times them; it starts with the first request, and ends when its owner lets go of it."""

    def __init__(self, **serving: Any) -> None:
        """Note how graphs are served.

        Args:
            serving: `runtime`, `precision`, `threads`, `hints` (of the session); `batch_size`, `seq_len`, `vocab_size` and `seed` of
                the random tokens.
        """
        self.serving = serving
        self._process: subprocess.Popen[str] | None = None

    def seconds(self, folder: Path) -> float:
        """Return the median seconds of a graph, caches warm.

        Raises:
            ResourceError: the process ended.
        """
        return self._ask({"folder": str(folder)})["seconds"]

    def speedup(self, before: Path, after: Path, rounds: int) -> tuple[float, list[float]]:
        """Return how much faster the second graph is, timed in turns, with its 95 % interval; the first one stays open.

        Raises:
            ResourceError: the process ended.
        """
        found = self._ask({"folder": str(before), "against": str(after), "rounds": rounds})
        return found["speedup"], found["interval"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            command = fresh_python("compress.benchmark.timing_worker", json.dumps(self.serving))
            # of its own group: Ctrl-C is its owner's
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
        found = json.loads(line)
        if "error" in found:
            raise ResourceError(f"a model could not be timed: {found['error']}", found["hint"])
        return found

    def __del__(self) -> None:
        """End the process, also in the middle of a request, as when the owner is interrupted."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):  # a request that was not sent to the end
                self._process.__exit__(None, None, None)


def fresh_python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a new process.

    The current folder, which `python -m` would look into first, is left out: a file there may have the name of a module. This
    package's own folder is added where the new process would not find it.
    """
    root = str(Path(__file__).parents[2])
    code = f"import runpy, sys; {root!r} in sys.path or sys.path.insert(0, {root!r}); runpy.run_module({module!r}, run_name='__main__')"
    return [sys.executable, "-P", "-c", code, *arguments]


def opened(folder: Path, serving: dict[str, Any]) -> Forward:
    """Open a graph as it is to be served."""
    if serving["runtime"] == OPENVINO:
        return openvino_forward(folder, serving["precision"], "cpu", serving["threads"])
    return session_forward(open_session(folder / GRAPH, serving["threads"], "cpu", serving["hints"]))


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    serving = json.loads(sys.argv[1])
    batch = random_batch(np.random.default_rng(serving["seed"]), serving["vocab_size"], serving["batch_size"], serving["seq_len"])
    kept: dict[str, Forward] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        folder = request["folder"]
        if folder not in kept:
            kept[folder] = opened(Path(folder), serving)
        if "against" not in request:
            return {"seconds": median_seconds(kept[folder], batch)}
        ratio, interval = measure_speedup(kept[folder], opened(Path(request["against"]), serving), batch, request["rounds"])
        return {"speedup": ratio, "interval": interval}

    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except CompressError as error:
            found = {"error": error.message, "hint": error.hint}
        except Exception as error:  # runtimes' exceptions share no base class
            found = {"error": f"{type(error).__name__}: {(str(error).splitlines() or ['?'])[0]}", "hint": None}
        try:
            print(json.dumps(found), file=answers, flush=True)
        except BrokenPipeError:  # nobody waits for it any more
            return


if __name__ == "__main__":
    main()
