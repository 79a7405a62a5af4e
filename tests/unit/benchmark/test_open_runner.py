"""Models are opened in a runtime for the clock, or refused where the machine cannot run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.benchmark.open_runner import open_runner
from compress.core.errors import CompressError, ResourceError, UsageError
from compress.export import RUNTIME_HINTS
from tests import tiny

Maker = Callable[..., Path]


def test_sessions_that_are_timed_stop_spinning_when_a_run_ends(checkpoint: Maker, artifact: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.inference import artifact as artifact_module

    folder, seen = artifact(checkpoint()), []
    real = artifact_module.open_session

    def spy(graph: Any, threads: Any, device: str, hints: dict[str, Any]) -> Any:
        seen.append(hints)
        return real(graph, threads, device, hints)

    monkeypatch.setattr(artifact_module, "open_session", spy)
    runner, _ = open_runner(folder, "onnxruntime", "fp32", "cpu", 2)
    runner.seconds(tiny.encoded().batch([0, 3]))
    (hints,) = seen
    assert hints["session_config"]["session.force_spinning_stop"] == "1"
    assert {key: hints[key] for key in RUNTIME_HINTS} == RUNTIME_HINTS  # besides what the artifact records


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (("pytorch", "fp32", "tensorrt"), ResourceError),
        (("pytorch", "fp16", "cpu"), UsageError),
        (("pytorch", "fp32", "cuda"), ResourceError),
    ],
    ids=str,
)
def test_what_this_machine_cannot_run(checkpoint: Maker, settings: tuple[str, str, str], error: type[CompressError]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine can")
    with pytest.raises(error):
        open_runner(checkpoint(), *settings, threads=1)
