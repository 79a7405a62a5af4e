"""The settings of data augmentation, which `prune` and `distill` share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Augment = Annotated[int, Field(ge=0, le=100)]
AugmentModel = Annotated[str, Field(min_length=1, max_length=4096)] | None
AUGMENT_MODEL = "A masked language model (a folder or hub id) that makes the variants instead: words replaced by likely others."


def check_augment(augment: int, model: str | None) -> None:
    """Check that a model that makes variants is told how many.

    Raises:
        ValueError: it is not.
    """
    if model and not augment:
        raise ValueError("augment_model makes variants of the texts: say how many of each, such as augment 3")
