"""What a benchmark reports of a model that does not depend on the cell: size on disk, cold start and peak memory."""

from __future__ import annotations

import json
import subprocess
from typing import TypedDict

from compress.benchmark.grid import Candidate
from compress.benchmark.timing_worker import fresh_python
from compress.core import console
from compress.models.layout import graph_file

WEIGHT_SUFFIXES = {".safetensors", ".onnx", ".data"}
TIMEOUT = 300  # seconds


class ColdStart(TypedDict):
    """Measurements in a fresh process; None if they were not made."""

    load_ms: float | None
    first_run_ms: float | None
    peak_rss_mb: float | None


class StaticFacts(ColdStart):
    """Facts of a candidate that do not depend on the cell."""

    size_mb: float
    runs_on: list[str]


NOT_MEASURED: ColdStart = {"load_ms": None, "first_run_ms": None, "peak_rss_mb": None}


def static_facts(candidate: Candidate, runs_on: list[str], device: str, memory: bool) -> StaticFacts:
    """Return the size of a model's weights on disk, and with `memory` its cold start and peak memory in a separate process."""
    size = sum(path.stat().st_size for path in graph_file(candidate.folder).parent.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    cold_start = measure_cold_start(candidate, device) if memory else NOT_MEASURED
    return {"size_mb": size / 1e6, **cold_start, "runs_on": runs_on}


def measure_cold_start(candidate: Candidate, device: str) -> ColdStart:
    """Load a model and run it once in a fresh process; a failure only warns."""
    facts = [str(candidate.folder), candidate.runtime, device, candidate.precision, *([candidate.pooling] if candidate.pooling else [])]
    command = fresh_python("compress.benchmark.cold_start", *facts)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        reason = done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired:
        reason = ["no result within five minutes"]
    console.warn(f"cold start and peak memory of {candidate.name} could not be measured: {reason}")
    return NOT_MEASURED
