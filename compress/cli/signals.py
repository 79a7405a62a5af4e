"""Ctrl-C and SIGTERM at any moment: one message, exit code 130 or 143, no traceback.

A library that is being imported may turn an interrupt into an error of its own, or swallow it. So an interrupt during an import
ends the process at once if no output is being written, and else waits for the end of the import.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from compress.core import locks, scratch
from compress.core.signal_names import SIGNAL_NAMES

AGAIN = "run the same command again; it resumes after the finished stages and from the saved training state"
IMPATIENT_SECONDS = 1.0  # after the first signal, another one ends the process at once
RETRY_SECONDS = 0.05


@dataclass
class _State:
    signal: int = 0
    since: float = 0.0
    json: bool = False


_state = _State()


def install(json_output: bool) -> None:
    """Handle Ctrl-C and SIGTERM from here on."""
    _state.signal, _state.json = 0, json_output
    for number in SIGNAL_NAMES:
        signal.signal(number, _stop)
    sys.unraisablehook = _unraisable


def ignore() -> None:
    """Ignore Ctrl-C from here on: the result is written, and the process is ending."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def disarm() -> None:
    """Forget a signal that still waits for the end of an import: the work is done."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def stopped() -> int | None:
    """Return the exit code of the signal that this process got, or None; what failed after it, failed because of it."""
    return 128 + _state.signal if _state.signal else None


def name_of(code: int) -> str:
    """Return `interrupted` or `terminated` for an exit code."""
    return SIGNAL_NAMES[signal.Signals(code - 128)]


def _stop(number: int, frame: FrameType | None) -> None:
    now, importing = time.monotonic(), _imports(frame)
    impatient = _state.signal and now - _state.since > IMPATIENT_SECONDS
    if not _state.signal:
        _state.signal, _state.since = number, now
    if impatient or (importing and not locks.any_held()):
        _leave(number)
    if importing:
        signal.signal(signal.SIGALRM, lambda *_: _retry(number))
        signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        return
    _raise(number)


def _retry(number: int) -> None:
    """Try again after a moment; the handler is called in the frame that runs then."""
    frame = sys._getframe(1)
    if _imports(frame):
        signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
    else:
        _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _imports(frame: FrameType | None) -> bool:
    """Return whether a frame runs within an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(number: int) -> None:
    """End the process at once, with the message."""
    message, code = SIGNAL_NAMES[signal.Signals(number)], 128 + number
    os.write(2, f"error: {message}\n  try: {AGAIN}\n".encode())
    if _state.json:
        os.write(1, (json.dumps({"error": message, "hint": AGAIN, "exit_code": code}) + "\n").encode())
    scratch.remove()
    os._exit(code)


def _unraisable(problem: Any) -> None:
    """Repeat an interrupt that came in a destructor, where Python prints and forgets it."""
    kind: type[BaseException] = problem.exc_type
    trace: TracebackType | None = problem.exc_traceback
    if issubclass(kind, KeyboardInterrupt | SystemExit) and _state.signal:
        del trace
        signal.signal(signal.SIGALRM, lambda *_: _retry(_state.signal))
        signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        return
    sys.__unraisablehook__(problem)
