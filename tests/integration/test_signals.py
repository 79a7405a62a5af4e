"""Ctrl-C and SIGTERM at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "compress"]
MODULE = """
import pathlib, time
pathlib.Path(__file__).with_name("begun").touch()
try:
    time.sleep(0.6)
except BaseException as error:
    raise ImportError("cannot import the core") from None
"""
# The API is replaced before it is imported, which takes seconds: the import that is interrupted is that of `slow`.
DRIVER = """
import sys, time, types
from pathlib import Path
import compress
compress.api = sys.modules["compress.api"] = api = types.ModuleType("compress.api")
from compress.cli import main as module
from compress.core import locks
def bench(*args, **kwargs):
    if {held}:
        with locks.locked(Path({folder!r}) / "out"):
            import slow
    else:
        import slow
    time.sleep(5)
api.bench = bench
module.main(["--json", "bench", "x"])
"""


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_import_is_no_error(tmp_path: Path, held: bool, number: int, code: int) -> None:
    (tmp_path / "slow.py").write_text(MODULE, encoding="utf-8")
    script = DRIVER.format(held=held, folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, text=True, env=environment) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:  # the import has begun
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert "bug" not in err
    assert json.loads(out)["exit_code"] == code
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.parametrize("delay", [0.08, 0.2, 0.4])
def test_ctrl_c_while_starting(tmp_path: Path, delay: float) -> None:
    with subprocess.Popen(
        [*COMMAND, "predict", str(tmp_path), "a text"], stdout=-1, stderr=-1, text=True, start_new_session=True
    ) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert "bug" not in err
    assert process.returncode in (130, 4, -signal.SIGINT)  # 4: it was ready before; the signal: Python itself was starting
    if process.returncode == 130:
        assert "Traceback" not in err
