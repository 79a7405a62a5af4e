"""Recognise the objects of the library `datasets`, without importing it: whoever holds one has done so."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

from compress.core import console

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


def is_dataset(value: object) -> TypeGuard[Dataset]:
    """Tell whether a value is a `datasets.Dataset`."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(value, library.Dataset)


def dataset_splits(data: object) -> dict[str, Dataset]:
    """Return the `Dataset` of each split, from a `DatasetDict` or another mapping, or from one `Dataset`.

    One `Dataset` is the split that it says it is (`load_dataset(…, split="test")`, or a part of it, `split="test[:500]"`), else the
    training split. Other splits than train, validation and test are left out with a warning.

    Raises:
        ValueError: something else, or no known split.
    """
    if is_dataset(data):
        split = str(data.split).partition("[")[0]
        return {split if split in SPLITS else "train": data}
    if not isinstance(data, Mapping) or not data or not all(map(is_dataset, data.values())):
        given = f"{type(data).__module__}.{type(data).__name__}"
        raise ValueError(f"data must be a datasets.Dataset or a DatasetDict, not {given}; save a stream to a file first")
    known = {split: data[split] for split in SPLITS if split in data}
    others = [str(split) for split in data if split not in known]
    if not known:
        raise ValueError(f"none of the splits ({', '.join(others)}) is called train, validation or test")
    if others:
        console.warn(f"these splits of the data are not used: {', '.join(others)}")
    return known
