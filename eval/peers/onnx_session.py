"""ONNX Runtime, opened the same way for every graph, ours and the peers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Threads spin within a run, as by default, and stop when it ends: other candidates are timed in between.
SESSION_CONFIG = {"session.force_spinning_stop": "1"}


def session_options(threads: int) -> Any:
    """Return the session options of a graph that records none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    return options


def open_graph(graph: Path, threads: int) -> Any:
    """Open a graph on the CPU; no wrapper's time is counted."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(graph), session_options(threads), providers=["CPUExecutionProvider"])
