"""What every part is given, and what it returns."""

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

    `scale` multiplies the number of cases: 1 is the full run. `only` is a pattern (`fnmatch`) of the names of cases. Everything is
    written below `folder`, by at most `jobs` processes at a time.
    """

    seed: int
    scale: float
    folder: Path
    only: str | None = None
    jobs: int = 1

    def count(self, full: int, least: int = 1) -> int:
        """Return how many cases to run of those that a full run has."""
        return max(least, round(full * self.scale))

    def wanted(self, name: str) -> bool:
        """Return whether a case was asked for."""
        return self.only is None or fnmatch.fnmatchcase(name, self.only)

    def random(self, name: str) -> random.Random:
        """Return the random numbers of a case: the same for the same seed, whatever else runs."""
        return random.Random(f"{self.seed}:{name}")  # noqa: S311

    def sample(self, cases: Iterable[T], least: int = 1) -> list[T]:
        """Return the share of a list of cases that the scale asks for, in their order."""
        known = list(cases)
        if self.scale >= 1 or self.only is not None:
            return known
        chosen = set(self.random("sample").sample(range(len(known)), min(len(known), self.count(len(known), least))))
        return [case for number, case in enumerate(known) if number in chosen]


@dataclass(frozen=True)
class Failure:
    """A case that did not end as it should."""

    case: str
    what: str


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

    def add(self, case: str, problems: Iterable[str]) -> None:
        """Count a case; it failed if there are problems."""
        self.cases += 1
        found = [problem for problem in problems if problem]
        if found:
            self.failures.append(Failure(case, "\n".join(found)))
