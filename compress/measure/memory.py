"""Run as `python -m compress.measure.memory FOLDER DEVICE`: load a model, run it once, print the peak memory."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from compress.model.scorer import open_model

LENGTH = 128


def main() -> None:
    """Print one JSON line with `peak_rss_mb`."""
    folder, device = Path(sys.argv[1]), sys.argv[2]
    forward = open_model(folder, device, threads=1)
    ids = np.full((1, LENGTH), 5, dtype=np.int64)
    forward({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
    print(json.dumps({"peak_rss_mb": peak_bytes() / 1e6}))


def peak_bytes() -> int:
    """Return this process's peak resident memory.

    Linux carries `ru_maxrss` over from the parent process at fork, so the kernel's own high-water mark is read there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
