"""The process of a candidate, in the environment of its tool: answers requests, one JSON document a line.

Started as `python worker.py`; needs numpy and the tool, not this project. It blocks between requests. Requests:

- `build`: make the artifact of the peer; `open`: open it, and return versions and facts;
- `prepare`: keep a batch under a name; `time`: run it once to warm up and once on the clock;
- `logits`: run a batch and return the outputs.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

Document = dict[str, Any]


def arrays(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return a batch as (batch, length) int64 arrays."""
    return {name: np.array(values, dtype=np.int64) for name, values in batch.items()}


def versions() -> dict[str, str]:
    """Return the version of every package in this environment."""
    packages = {entry.metadata["Name"]: entry.version for entry in importlib.metadata.distributions()}
    return {"python": platform.python_version(), **dict(sorted(packages.items(), key=lambda entry: str(entry[0]).lower()))}


class Service:
    """The state of the process between requests: one model, and the batches that it is timed on."""

    def __init__(self) -> None:
        self.forward: Any = None
        self.batches: dict[str, dict[str, np.ndarray]] = {}

    def build(self, request: Document) -> Document:
        """Make an artifact in the folder `output`; `calibration` names a file of token batches."""
        calibration = json.loads(Path(request["calibration"]).read_text(encoding="utf-8"))
        module = importlib.import_module(request["module"])
        module.build(request["variant"], Path(request["teacher"]), Path(request["output"]), [arrays(batch) for batch in calibration])
        return {"versions": versions()}

    def open(self, request: Document) -> Document:
        """Open the model in `folder`."""
        module = importlib.import_module(request["module"])
        self.forward, facts = module.open_model(request["variant"], Path(request["folder"]), request["threads"])
        return {"versions": versions(), "facts": facts}

    def prepare(self, request: Document) -> Document:
        """Keep a batch, and run it `warm_ups` times."""
        batch = self.batches[request["key"]] = arrays(request["batch"])
        for _ in range(request["warm_ups"]):
            self.forward(batch)
        return {}

    def time(self, request: Document) -> Document:
        """Run a kept batch once to warm the caches, then once timed, without the garbage collector."""
        batch = self.batches[request["key"]]
        gc.disable()
        try:
            self.forward(batch)
            start = time.perf_counter()
            self.forward(batch)
            return {"seconds": time.perf_counter() - start}
        finally:
            gc.enable()

    def logits(self, request: Document) -> Document:
        """Run a batch; returns the outputs as nested lists."""
        return {"logits": np.asarray(self.forward(arrays(request["batch"])), dtype=np.float64).tolist()}


HANDLERS = ("build", "open", "prepare", "time", "logits")


def main() -> None:
    """Reply to requests until the caller closes the pipe."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries goes to the log
    service = Service()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if request["do"] not in HANDLERS:
                raise ValueError(f"unknown request {request['do']!r}")
            reply = getattr(service, request["do"])(request)
        except Exception as error:  # the failure of a tool is the result of its row
            traceback.print_exc()
            message = (str(error).strip().splitlines() or [""])[0]
            reply = {"error": f"{type(error).__name__}: {message}" if message else type(error).__name__}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
