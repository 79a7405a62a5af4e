"""Start the command line: what must happen before other modules are imported.

Without it, closed standard streams, a locale other than UTF-8 and an early Ctrl-C would fail inside some library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from compress.core.signal_names import SIGNAL_NAMES


def main() -> None:
    """Run the command line and exit with the documented exit code."""
    for number in SIGNAL_NAMES:
        signal.signal(number, _leave)
    open_standard_streams()
    use_utf8()
    from compress.cli import signals
    from compress.cli.main import main as run

    try:
        run()
    except SystemExit as stop:
        signals.ignore()
        sys.exit(flushed(int(stop.code or 0)))


def _leave(number: int, frame: FrameType | None) -> None:
    message, code = SIGNAL_NAMES[signal.Signals(number)], 128 + number
    os.write(2, f"error: {message}\n".encode())
    if "--json" in sys.argv:
        os.write(1, f'{{"error": "{message}", "hint": null, "exit_code": {code}}}\n'.encode())
    os._exit(code)


def open_standard_streams() -> None:
    """Open closed standard streams on /dev/null; otherwise the next opened file would get their number, and the output with it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115


def use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the locale has another encoding: file names and texts are UTF-8."""
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    with contextlib.suppress(OSError):  # continue in the locale's encoding
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def flushed(code: int) -> int:
    """Flush stdout and return the exit code: 5 instead of 0 if the output cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code == 0:
            with contextlib.suppress(OSError):  # stderr is full or closed, too
                print(f"error: cannot write to stdout: {error.strerror}", file=sys.stderr, flush=True)
            return 5
    except ValueError:  # closed
        return code
    return code
