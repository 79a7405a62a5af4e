"""What every part is given, what it prints while it runs, and what it returns."""

from __future__ import annotations

import fnmatch
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """A run of the torture.

    `scale` multiplies the number of cases: 1 is the full run. `only` holds patterns (`fnmatch`) of names of cases (none: all).
    Everything is written below `folder`, by at most `jobs` processes at a time.
    """

    seed: int
    scale: float
    folder: Path
    only: tuple[str, ...] = ()
    jobs: int = 1

    def count(self, full: int, least: int = 1) -> int:
        """Return how many cases to run of those that a full run has."""
        return max(least, round(full * self.scale))

    def wanted(self, name: str) -> bool:
        """Return whether a case was asked for."""
        return not self.only or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.only)

    def random(self, name: str) -> random.Random:
        """Return the random numbers of a case: the same for the same seed, whatever else runs."""
        return random.Random(f"{self.seed}:{name}")  # noqa: S311

    def sample(self, cases: Iterable[T], least: int = 1) -> list[T]:
        """Return the share of a list of cases that the scale asks for, in their order."""
        known = list(cases)
        if self.scale >= 1 or self.only:
            return known
        chosen = set(self.random("sample").sample(range(len(known)), min(len(known), self.count(len(known), least))))
        return [case for number, case in enumerate(known) if number in chosen]


@dataclass(frozen=True)
class Failure:
    """A case that did not end as it should; of those of one `kind` three are printed and all are counted ("": its own kind)."""

    case: str
    what: str
    kind: str = ""


@dataclass
class Report:
    """What a part found: the number of its cases, those that failed, further figures, and a reason if it could not run."""

    part: str
    cases: int = 0
    failures: list[Failure] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    skipped: str | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def add(self, case: str, problems: Iterable[str], kind: str = "") -> None:
        """Count a case; it failed if there are problems."""
        self.cases += 1
        found = [problem for problem in problems if problem]
        if found:
            self.failures.append(Failure(case, "\n".join(found), kind))


@dataclass
class Progress:
    """A line a minute while cases run: how many are done of all, how many failed."""

    part: str
    total: int
    every: float = 60.0  # seconds
    started: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Return whether a minute has passed since the last line."""
        return time.monotonic() - self.printed >= self.every

    def show(self, done: int, failed: int, last: str = "") -> None:
        """Print the line if a minute has passed; `last` names the last failure."""
        if not self.due():
            return
        self.printed = now = time.monotonic()
        named = f" (last: {last})" if last else ""
        print(f"{self.part:<10} {done:>7} of {self.total} cases, {failed} failed{named}, {now - self.started:.0f} s", flush=True)
