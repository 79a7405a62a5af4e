"""A process that is killed while it trains, and the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import compress
from compress.cli.main import main

Maker = Callable[..., Path]
SETTINGS = {"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 2e-3, "epochs": 2}


def test_sigkill(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process, killed in its eleventh step; this one goes on, with six steps to go."""
    program = (
        "import os, signal\n"
        "from compress.training import loop, resume\n"
        "resume.EVERY_SECONDS, resume.MAX_SHARE, begun, original = 0.0, 1e9, 0, loop.to_tensors\n"
        "def counted(*args):\n"
        "    global begun\n"
        "    begun += 1\n"
        "    if begun == 11:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(*args)\n"
        "loop.to_tensors = counted\n"
        "from compress.cli.main import main\n"
        "main()\n"
    )
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(tiny_task), encoding="utf-8")
    options = [part for key, value in SETTINGS.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, "-c", program, "finetune", str(checkpoint()), "--task", str(tmp_path / "task.yaml"), *options]
    environment = os.environ | {"PYTHONPATH": str(Path(compress.__file__).parent.parent)}
    done = subprocess.run([*command, "-o", "out"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.setattr("signal.signal", lambda *args: None)
    with pytest.raises(SystemExit) as ended:
        main([*command[3:], "-o", str(tmp_path / "out")])
    assert ended.value.code == 0
    assert "resuming at step 10, epoch 2" in capsys.readouterr().err
    compress.finetune(checkpoint(), str(tmp_path / "task.yaml"), tmp_path / "whole", **SETTINGS)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert list(tmp_path.glob(".*")) == []
