"""How models are served, and the clock that times them in a separate process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.timing_worker import open_served
from compress.core.errors import ResourceError, UsageError
from compress.export import RUNTIME_HINTS
from compress.inference.forward import torch_forward
from compress.models.layout import GRAPH
from compress.prune.serving_clock import Serving, ServingClock, check_serving
from tests import tiny


@pytest.mark.parametrize("serving", [Serving(), Serving(precision="int8", threads=2)], ids=str)
def test_what_is_timed_is_the_model(serving: Serving, tmp_path: Path) -> None:
    model = tiny.make_model()
    folder = serving.write(model, tmp_path / "graph")
    batch = random_batch(np.random.default_rng(0), model.config.vocab_size, 3, 9)
    found = open_served(folder, {"runtime": serving.runtime, "threads": serving.threads, "hints": RUNTIME_HINTS})(batch)
    np.testing.assert_allclose(found, torch_forward(model)(batch), atol=1.0 if serving.precision != "fp32" else 1e-4)
    assert serving.precision in serving.describe()


@pytest.mark.parametrize(("runtime", "precision"), [("onnxruntime", "bf16"), ("openvino", "int8"), ("pytorch", "int8")])
def test_what_a_runtime_cannot_do_is_a_usage_error(runtime: str, precision: str) -> None:
    with pytest.raises(UsageError, match=f"{runtime} runs no {precision}"):
        check_serving(Serving(runtime, precision))


def test_a_clock_of_pytorch_tells_seconds_and_a_ratio_with_its_interval() -> None:
    clock = ServingClock(tiny.make_model(), Serving("pytorch", "bf16", batch_size=3))
    assert clock.seconds > 0
    ratio, (low, high) = clock.speedup(tiny.make_model("distilbert"), rounds=5)
    assert 0 < low <= ratio <= high


def test_a_clock_of_graphs_leaves_neither_files_nor_a_process() -> None:
    clock = ServingClock(tiny.make_model(), Serving(seq_len=8))
    ratio, (low, high) = clock.speedup(tiny.make_model("distilbert"), rounds=5)
    assert 0 < low <= ratio <= high
    process, scratch = clock._worker._process, clock._scratch
    assert process is not None
    assert not [path for path in scratch.rglob("*") if path.is_file()]  # both graphs are open, and gone
    assert process.poll() is None
    assert clock.seconds > 0
    del clock
    assert process.poll() is not None
    assert not scratch.exists()


def test_a_clock_that_is_let_go_of_in_the_middle_of_a_request_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started beside a file with the name of a module, which does not take its place."""
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    clock = ServingClock(tiny.make_model(), Serving(seq_len=8))
    assert clock.seconds > 0
    process = clock._worker._process
    assert process is not None
    assert process.stdin is not None
    folder = str(clock._folder)
    process.stdin.write(json.dumps({"folder": folder, "against": folder, "rounds": 10**9}) + "\n")
    process.stdin.flush()
    del clock
    assert process.poll() is not None


def test_a_graph_that_does_not_open_and_a_process_that_was_killed_are_said_so() -> None:
    clock = ServingClock(tiny.make_model(), Serving(seq_len=8))
    broken = clock._folder.parent / "broken"
    broken.mkdir()
    (broken / GRAPH).write_bytes(b"no graph")
    with pytest.raises(ResourceError, match="could not be timed: .*cannot be opened"):
        clock._worker.speedup(clock._folder, broken, 2)
    assert clock.seconds > 0  # others still open
    process = clock._worker._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(ResourceError, match="process that times models ended"):
        clock.speedup(tiny.make_model())
