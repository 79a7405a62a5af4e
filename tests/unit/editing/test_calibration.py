"""Batches and losses of calibration texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from compress.data.examples import Examples
from compress.editing.calibration import BATCH_SIZE, Calibration
from compress.models.device import to_tensors
from tests import tiny

CPU = torch.device("cpu")


def calibration_of(count: int = 100, labeled: bool = True, seed: int = 0) -> Calibration:
    return Calibration(Examples([], np.zeros(0)), tiny.encoded("bert", count), labeled, "class", seed)


def test_batches_hold_every_text_once_sorted_by_length() -> None:
    calibration = calibration_of()
    batches = calibration.batches()
    assert sorted(np.concatenate(batches).tolist()) == list(range(100))
    assert max(map(len, batches)) == BATCH_SIZE
    lengths = calibration.data.lengths
    spans = [lengths[batch].max() - lengths[batch].min() for batch in batches]
    assert max(spans) < lengths.max() - lengths.min()


def test_a_share_is_a_random_sample_of_one_batch_at_least() -> None:
    half, other = calibration_of().batches(0.5), calibration_of(seed=1).batches(0.5)
    assert sum(map(len, half)) == 50
    assert set(np.concatenate(half).tolist()) != set(np.concatenate(other).tolist())
    assert sum(map(len, calibration_of().batches(0.01))) == BATCH_SIZE
    assert set(np.concatenate(calibration_of().batches(0.5)).tolist()) == set(np.concatenate(half).tolist())


def test_shuffled_batches_are_the_same_in_another_order() -> None:
    calibration = calibration_of()
    plain = sorted(tuple(batch) for batch in calibration.batches())
    assert sorted(tuple(batch) for batch in calibration.shuffled_batches()) == plain
    assert len(calibration_of(5).shuffled_batches()) == 2  # one batch is split, so that one part can be held out


def test_the_loss_is_that_of_the_labels() -> None:
    model, calibration, positions = tiny.make_model(), calibration_of(), np.arange(6)
    logits = model(**to_tensors(calibration.data.batch(positions), model, CPU)).logits
    labels = torch.from_numpy(calibration.data.labels[positions])
    for summed, reduction in ((True, "sum"), (False, "mean")):
        loss = calibration.loss(model, sampled=False, summed=summed)(positions)
        torch.testing.assert_close(loss, functional.cross_entropy(logits, labels, reduction=reduction))


def test_sampled_labels_start_anew_with_each_loss() -> None:
    model, positions = tiny.make_model().requires_grad_(False), np.arange(30)
    first = calibration_of().loss(model, sampled=True)
    losses = [float(first(positions)), float(first(positions))]
    assert losses[0] != losses[1]  # other labels
    assert float(calibration_of().loss(model, sampled=True)(positions)) == losses[0]
    assert float(calibration_of(seed=1).loss(model, sampled=True)(positions)) != losses[0]


def test_texts_without_labels_always_have_sampled_ones() -> None:
    model, positions = tiny.make_model().requires_grad_(False), np.arange(30)
    calibration = calibration_of(labeled=False)
    expected = float(replace(calibration, labeled=True).loss(model, sampled=True)(positions))
    assert float(calibration.loss(model, sampled=False)(positions)) == expected
