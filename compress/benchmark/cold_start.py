"""The cold start and peak memory of a model: `python -m compress.benchmark.cold_start FOLDER RUNTIME DEVICE PRECISION [POOLING]`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

LENGTH = 128


def main() -> None:
    """Print one JSON line with `load_ms` (imports and opening), `first_run_ms` and `peak_rss_mb`."""
    folder, runtime, device, precision = Path(sys.argv[1]), *sys.argv[2:5]
    pooling = sys.argv[5] if len(sys.argv) > 5 else None
    start = time.perf_counter()
    from compress.benchmark.open_runner import open_runner
    from compress.models.config import max_tokens, read_config

    runner, _ = open_runner(folder, runtime, precision if runtime != "onnxruntime" else "fp32", device, 1, check=False, pooling=pooling)
    import numpy as np

    loaded = time.perf_counter()
    ids = np.full((1, min(LENGTH, max_tokens(read_config(folder)))), 5, dtype=np.int64)
    runner.seconds(runner.prepare({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}))
    done = time.perf_counter()
    measured = {"load_ms": 1e3 * (loaded - start), "first_run_ms": 1e3 * (done - loaded), "peak_rss_mb": peak_bytes() / 1e6}
    print(json.dumps(measured))


def peak_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    On Linux `ru_maxrss` includes the parent process at the time of the fork, so the kernel's high-water mark is read instead.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
