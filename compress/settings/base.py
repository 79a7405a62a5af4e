"""What the settings of all verbs share: the strict base class, and types with their bounds."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Split = Literal["auto", "train", "validation", "test"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Speedup = Annotated[float, Field(gt=1, le=100)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
LONGEST = 7 * 24 * 3600  # seconds


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as `90s`, `5m`, `1.5h`.

    Raises:
        ValueError: written otherwise, nothing at all, or more than a week.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST:
        raise ValueError("write a time of at most a week as 90s, 5m or 1.5h")
    return seconds


class Settings(BaseModel):
    """Base of every verb's settings: strict types, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @property
    def reads_train(self) -> bool:
        """Whether a verb of no certain split needs the training split, or has texts in its place."""
        return not getattr(self, "unlabeled", None)
