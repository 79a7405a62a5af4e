"""Hold out validation rows of a training split."""

from __future__ import annotations

import numpy as np

from compress.core.errors import DataError

HELD_OUT = 0.1  # of the training rows, if a task has no validation split
FEWEST = 10  # training rows that validation rows can be held out of


def held_out_positions(count: int, classes: np.ndarray | None = None, class_count: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` rows into those to train on and those to validate on: two ascending arrays of positions.

    The split is the same on every call: scikit-learn's `train_test_split` with seed 0. (`datasets` has a function of this name,
    too, which draws other rows.)

    Args:
        count: rows of the training split.
        classes: (count,) class of each row, to stratify by where every class has two rows and fits; None: not stratified.
        class_count: classes of the task.

    Raises:
        DataError: too few rows.
    """
    from sklearn.model_selection import train_test_split

    if count < FEWEST:
        raise DataError("too few training rows to hold out a validation split", "give a validation file")
    stratify = None
    if classes is not None:
        sizes = np.bincount(classes, minlength=class_count)
        stratify = classes if sizes[sizes > 0].min() > 1 and count * HELD_OUT >= len(sizes) else None
    kept, held_out = train_test_split(np.arange(count), test_size=HELD_OUT, random_state=0, stratify=stratify)
    return np.sort(kept), np.sort(held_out)


def held_back_positions(count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` validation rows into those that choose and those that judge: two ascending arrays of positions.

    The split is the same on every call.

    Raises:
        DataError: one of the parts would be empty.
    """
    judging = round(share * count)
    if not 0 < judging < count:
        raise DataError(f"hold_back {share:g} of {count} validation rows leaves one part empty", "give a test file")
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[judging:]), np.sort(order[:judging])
