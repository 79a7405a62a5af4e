"""The event log of a run: one JSON document a line, each with its time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from compress.core import console
from compress.core.errors import CompressError


@contextmanager
def logged_events(path: Path) -> Iterator[None]:
    """Append every event of this context to a file, failures included."""
    with path.open("a", encoding="utf-8") as stream:

        def write(event: dict[str, object]) -> None:
            stream.write(json.dumps(console.finite({"time": datetime.now(UTC).isoformat(), **event}), default=str) + "\n")
            stream.flush()

        with console.observed(write):
            try:
                yield
            except CompressError as error:
                console.event("failed", message=error.message, exit_code=error.exit_code)
                raise
            except KeyboardInterrupt:
                console.event("interrupted")
                raise
