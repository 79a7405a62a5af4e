"""The only module that prints: people read stderr and stdout, programs read one JSON document on stdout.

Three modes: human (default), `quiet` (results and errors only) and `json` (logs to stderr, one document to stdout).
In a library call (no `configure`) only warnings are printed.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

LOG_EVERY_SECONDS = 15.0
_STARTED = time.monotonic()
Observer = Callable[[dict[str, object]], None]


@dataclass
class _State:
    logs: bool = False
    json: bool = False
    debug: bool = False
    muted: bool = False
    observer: Observer | None = None
    shown: set[str] = field(default_factory=set)  # by `once`


_state = _State()


def configure(*, json_output: bool = False, quiet: bool = False, debug: bool = False) -> None:
    """Choose the output mode of this process."""
    _state.logs, _state.json, _state.debug = not quiet, json_output, debug


def mute() -> None:
    """Print nothing from now on: the main process of the same training prints."""
    _state.logs, _state.muted = False, True


def debugging() -> bool:
    """Return whether tracebacks are printed."""
    return _state.debug


def is_json() -> bool:
    """Return whether the result is printed as JSON."""
    return _state.json


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Send every event (log line, epoch, stage) to `observer` as well, for `events.jsonl`."""
    previous, _state.observer = _state.observer, observer
    try:
        yield
    finally:
        _state.observer = previous


def event(kind: str, **fields: object) -> None:
    """Record an event for programs; prints nothing."""
    if _state.observer is not None:
        _state.observer({"event": kind, **fields})


def info(text: str) -> None:
    """Print progress for the user."""
    event("log", text=text)
    if _state.logs:
        print(text, file=sys.stderr, flush=True)


def debug(text: str) -> None:
    """Print what only `--debug` shows."""
    if _state.debug:
        info(text)


def once(text: str) -> None:
    """Print a line only once in this process."""
    if text not in _state.shown:
        _state.shown.add(text)
        info(text)


def warn(text: str) -> None:
    """Print a warning."""
    event("warning", text=text)
    if _state.muted:
        return
    print(f"warning: {text}", file=sys.stderr, flush=True)


def warn_once(text: str) -> None:
    """Print a warning only once in this process."""
    if text not in _state.shown:
        _state.shown.add(text)
        warn(text)


def result(document: Mapping[str, object], human: Callable[[], None]) -> None:
    """Print the result of a command: `document` in JSON mode, else whatever `human` prints on stdout."""
    if _state.muted:
        return
    if _state.json:
        promised = {"output": None, "metrics": {}, "seconds": time.monotonic() - _STARTED}
        print(
            json.dumps(finite({**document} | {k: v for k, v in promised.items() if k not in document}), ensure_ascii=False, default=str),
            flush=True,
        )
    else:
        human()


def finite(value: object) -> object:
    """Replace NaN and infinities by None, at any depth: they are not JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def table(columns: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """Print a table on stdout: numbers aligned to the right, text to the left."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A redirected stdout has no width; a table in a log file must not be cut.
    console = Console(file=io.StringIO(), width=shutil.get_terminal_size().columns if sys.stdout.isatty() else 200, highlight=False)
    rich_table = Table(title=Text(title) if title else None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for position, column in enumerate(columns):
        numbers = all(re.match(r"$|-$|[-+]?\d", row[position]) for row in rows) and position > 0
        rich_table.add_column(Text(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        rich_table.add_row(*map(Text, row))  # Text: brackets in a cell are not markup
    console.print(rich_table)
    print(console.file.getvalue(), end="")  # pyright: ignore[reportAttributeAccessIssue] (rich itself exits on a closed pipe)


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show progress of `total` steps with an estimated time; yields `advance(steps=1, note="")`. `done` steps were done before.

    On a terminal this is a live bar; else one line every fifteen seconds, so that a log file stays readable.
    """
    if not _state.logs:
        yield lambda steps=1, note="": None
        return
    if sys.stderr.isatty():
        with _bar(label, total, done) as advance:
            yield advance
        return
    started = last = time.monotonic()
    before = done

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= LOG_EVERY_SECONDS and done < total:
            last = now
            left = (now - started) / max(1, done - before) * (total - done)
            print(f"  {label} {done}/{total} {note} (about {duration(left)} left)", file=sys.stderr, flush=True)

    yield advance


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total, completed=done, note="")
        yield lambda steps=1, note="": bars.update(task, advance=steps, note=note)


@contextmanager
def live_table(columns: list[str], rows: Callable[[], tuple[str, list[list[str]]]]) -> Iterator[bool]:
    """Show a table that is drawn again four times a second, below the other lines; `rows` returns its title and its rows.

    Yields whether it is shown: only on a terminal. What is printed meanwhile appears above it.
    """
    if not _state.logs or not sys.stderr.isatty():
        yield False
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def draw() -> Table:
        title, lines = rows()
        table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for column in columns:
            table.add_column(Text(column), overflow="ellipsis", no_wrap=True)
        for line in lines:
            table.add_row(*map(Text, line))
        return table

    with Live(get_renderable=draw, console=Console(stderr=True), refresh_per_second=4, transient=True, redirect_stdout=False):
        yield True


def duration(seconds: float) -> str:
    """Return a time span for people: `8 s`, `2 min 5 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
