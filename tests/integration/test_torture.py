"""A short form of `make torture`: a few cases of every part, always the same ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_a_short_torture(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.torture", "--scale", "0.004", "--seed", "17", "--jobs", "1"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert " 0 failed" in done.stdout
    assert not list(tmp_path.iterdir())
