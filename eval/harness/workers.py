"""The caller's end of a worker process: requests over a pipe, with deadlines."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from compress.core.errors import CompressError

Batch = dict[str, np.ndarray]
OPEN_SECONDS = 300
BUILD_SECONDS = 1200
FIRST_RUN_SECONDS = 600  # torch.compile compiles in it
RUN_SECONDS = 120
LARGEST_ANSWER = 64 << 20


class WorkerFailed(CompressError):
    """The process of a candidate failed, died or did not answer in time; the message is shown in its row."""


class Worker:
    """A process that answers one request at a time, one JSON document a line.

    Args:
        name: of the candidate, for messages.
        command: that starts it.
        log: the file for what it prints.
        variables: its environment variables.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self._buffer = b""
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, env=dict(variables), bufsize=0
            )
        self._requests, self._answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        os.set_blocking(self._answers.fileno(), False)

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerFailed: an error, the end of the process, or no answer within `timeout` seconds (the process is killed).
        """
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._line(time.monotonic() + timeout, request["do"]))
        except BrokenPipeError:
            raise WorkerFailed(self._end()) from None
        except ValueError:
            self.close()
            raise WorkerFailed(f"no JSON answer to '{request['do']}'") from None
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def open(self, module: str, variant: str, folder: Path, threads: int) -> dict[str, Any]:
        """Open a model; returns its environment's versions and facts about how it runs."""
        return self.ask(OPEN_SECONDS, do="open", module=module, variant=variant, folder=str(folder), threads=threads)

    def prepare(self, key: str, batch: Batch, warm_ups: int) -> None:
        """Hand over a batch, run it a few times."""
        self.ask(FIRST_RUN_SECONDS, do="prepare", key=key, batch=_lists(batch), warm_ups=warm_ups)

    def seconds(self, key: str) -> float:
        """Run a prepared batch twice; returns the seconds of the second run, measured inside the process."""
        return float(self.ask(RUN_SECONDS, do="time", key=key)["seconds"])

    def logits(self, batch: Batch) -> np.ndarray:
        """Run a batch; returns its logits, (batch, classes) float32."""
        return np.array(self.ask(FIRST_RUN_SECONDS, do="logits", batch=_lists(batch))["logits"], dtype=np.float32)

    def close(self) -> None:
        """End the process: it ends by itself when its input is closed, and is killed if it does not."""
        self._requests.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _line(self, deadline: float, what: str) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._process.kill()
                    self._process.wait()
                    raise WorkerFailed(f"no answer to '{what}' within its time limit")
                read = self._answers.read(1 << 16)
                if not read:
                    raise WorkerFailed(self._end())
                self._buffer += read
                if len(self._buffer) > LARGEST_ANSWER:
                    self._process.kill()
                    raise WorkerFailed(f"an answer to '{what}' beyond {LARGEST_ANSWER >> 20} MiB")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _end(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"the process was killed by signal {-code}" if code < 0 else f"the process ended with code {code}"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without pipes")
    return stream


def _lists(batch: Batch) -> dict[str, list[Any]]:
    return {name: array.tolist() for name, array in batch.items()}
