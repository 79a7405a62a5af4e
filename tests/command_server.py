"""Run `compress …` in forked processes of one that has imported everything: a command then costs its own work, and no imports.

`python -m tests.command_server` reads requests and writes replies, one JSON document a line. It never computes anything itself,
because threads do not survive a fork. Streams, exit codes, signals and exit handlers are those of a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
LIBRARIES = (
    "torch",
    "transformers",
    "onnxruntime",
    "onnx",
    "pandas",
    "pyarrow.parquet",
    "datasets",
    "scipy.stats",
    "scipy.optimize",
    "peft",
)
TIMED_OUT = 124


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class CommandServer:
    """A process that runs commands; it starts with the first one.

    Args:
        environment: of the commands.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str], folder: Path, stdin: str = "", timeout: float = 280) -> Outcome:
        """Run `compress ARGUMENTS` in a folder."""
        return self._run(arguments, folder, stdin, timeout, [{}])[0]

    def run_together(self, arguments: Sequence[str], folder: Path, number: int, timeout: float = 280) -> list[Outcome]:
        """Run `compress ARGUMENTS` in several processes at once, with what a launcher of distributed training tells each of them."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            common = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        return self._run(arguments, folder, "", timeout, [{"RANK": str(rank), **common} for rank in range(number)])

    def _run(self, arguments: Sequence[str], folder: Path, stdin: str, timeout: float, environments: list[dict[str, str]]) -> list[Outcome]:
        if self._process is None:
            command = [sys.executable, "-m", "tests.command_server"]
            environment = self.environment | {"PYTHONPATH": str(ROOT)}
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=-1, stdout=-1, text=True)
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None
        assert replies is not None
        with tempfile.TemporaryDirectory() as scratch:
            processes = [
                {"environment": own, **{stream: str(Path(scratch) / f"{stream}{rank}") for stream in ("in", "out", "err")}}
                for rank, own in enumerate(environments)
            ]
            for process in processes:
                Path(process["in"]).write_text(stdin, encoding="utf-8")
            request = {"arguments": list(arguments), "folder": str(folder), "timeout": timeout, "processes": processes}
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            codes = json.loads(replies.readline())
            return [Outcome(code, _text(process["out"]), _text(process["err"])) for code, process in zip(codes, processes, strict=True)]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate(timeout=30)


def main() -> None:
    """Answer requests until standard input ends."""
    import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        pids = []
        for process in request["processes"]:
            pids.append(os.fork())
            if not pids[-1]:
                _command(request, process)
        deadline = time.monotonic() + request["timeout"]
        print([_wait(pid, deadline) for pid in pids], flush=True)


def import_everything() -> None:
    """Import the package and what its commands import."""
    import compress

    for module in pkgutil.walk_packages(compress.__path__, "compress."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LIBRARIES:
        importlib.import_module(name)


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _wait(pid: int, deadline: float) -> int:
    """Return the exit code of a process, as a shell does for a signal; one that takes too long is killed."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return TIMED_OUT


def _command(request: dict[str, Any], process: dict[str, Any]) -> NoReturn:
    """Run a command in this process, and end it."""
    code = 1
    try:
        for number, (stream, flags) in enumerate({"in": os.O_RDONLY, "out": os.O_WRONLY, "err": os.O_WRONLY}.items()):
            os.dup2(os.open(process[stream], flags | os.O_CREAT, 0o600), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.update(process["environment"])
        os.chdir(request["folder"])
        sys.argv = ["compress", *request["arguments"]]
        from compress.cli.start import main as compress_main

        compress_main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    for step in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(BaseException):
            step()
    os._exit(code)


if __name__ == "__main__":
    main()
