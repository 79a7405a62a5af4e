"""The settings of data augmentation, which `prune` and `distill` share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.settings.base import TRAINING, Only

AUGMENT = "Variants to create from each text: spans, joined spans, masked tokens"
Augment = Annotated[int, TRAINING, Field(ge=0, le=100)]
AugmentModel = Annotated[Annotated[str, Field(min_length=1, max_length=4096)] | None, TRAINING, Only("augment")]
AUGMENT_MODEL = "A masked language model (folder or hub id) that creates the variants by replacing tokens with likely ones."
