"""Closed and full standard streams, and locales that are not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"exec {sys.executable} -m compress"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a shell."""
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=60, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    done = shell(f"cd {tmp_path}; {COMMAND} tasks list {closed}")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert shell(f"{COMMAND} --json report /nowhere {closed}").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(("arguments", "code"), [("tasks list", 5), ("--json tasks list", 5), ("--json report /nowhere", 2), ("--help", 5)])
def test_a_full_stdout(arguments: str, code: int) -> None:
    done = shell(f"{COMMAND} {arguments} > /dev/full")
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert b"error: " in done.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_names_in_a_locale_without_utf8(tmp_path: Path, locale: str) -> None:
    folder = tmp_path / "modèle ü"
    folder.mkdir()
    done = shell(f"{COMMAND} report '{folder}'", LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 2
    assert "modèle ü" in done.stderr.decode("utf-8")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/a\xff"
    os.mkdir(folder)
    done = subprocess.run([sys.executable, "-m", "compress", "report", folder], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"is not a finished run folder" in done.stderr


EARLY = """
import os, signal
from compress.cli import start
start.use_utf8 = lambda: os.kill(os.getpid(), signal.{name})
start.main()
"""


@pytest.mark.parametrize(("name", "code", "message"), [("SIGINT", 130, b"interrupted"), ("SIGTERM", 143, b"terminated")])
def test_a_signal_before_the_first_import(name: str, code: int, message: bytes) -> None:
    done = subprocess.run([sys.executable, "-c", EARLY.format(name=name), "--json"], capture_output=True, timeout=60, check=False)
    assert done.returncode == code
    assert done.stderr == b"error: " + message + b"\n"
    assert json.loads(done.stdout) == {"error": message.decode(), "hint": None, "exit_code": code}
