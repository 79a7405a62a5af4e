"""The context of a run: its calibration texts, lengths and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ResourceError, UsageError
from compress.data.input_spec import InputSpec
from compress.data.presets import resolve
from compress.data.task import Task
from compress.editing import calibration
from compress.models.inputs import encode_for
from compress.prune import context as module
from compress.prune import refitter, scoring
from compress.prune.context import TIMED_LENGTH
from tests import tiny
from tests.unit.prune.fakes import Maker, context_of, context_without_validation


def test_texts_are_counted_at_their_mean_length_or_the_given_one(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    lengths = encode_for(checkpoint(), Task(resolve(tiny_task)).split("train"), InputSpec(max_length=32)).lengths
    by_data = context_of(checkpoint(), tiny_task, target_flops=0.5, calib_samples=60)
    assert (by_data.seq_len, by_data.serving.seq_len) == (round(lengths.mean()), TIMED_LENGTH)
    given = context_of(checkpoint(), tiny_task, target_flops=0.5, seq_len=100)
    assert (given.seq_len, given.serving.seq_len) == (100, 100)


def test_a_score_is_of_all_of_validation_or_of_its_first_examples(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5)
    assert context.validate(context.dense.model)["n"] == 24
    assert context.validate(context.dense.model, limit=5)["n"] == 5
    assert context.dense_score == context.validate(context.dense.model)["accuracy"]


def test_without_validation_there_is_no_score(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    context = context_without_validation(checkpoint(), tiny_task, tmp_path)
    assert context.validate(context.dense.model) == {}
    with pytest.raises(UsageError, match="needs labels"):
        _ = context.dense_score


def test_many_classes_are_calibrated_on_more_texts(tiny_task: dict[str, Any], checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny task has 60 training texts and three classes."""

    def texts(calib_samples: int | None = None) -> int:
        return len(context_of(checkpoint(), tiny_task, target_flops=0.5, calib_samples=calib_samples).calibration.data)

    monkeypatch.setattr(module, "TEXTS", 20)
    monkeypatch.setattr(module, "TEXTS_PER_CLASS", 5)
    assert texts() == 20
    monkeypatch.setattr(module, "TEXTS_PER_CLASS", 15)
    assert texts() == 45
    assert texts(calib_samples=30) == 30


def test_many_texts_are_fitted_jointly_and_a_share_is_scored(
    tiny_task: dict[str, Any], checkpoint: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (scoring, refitter, module):
        monkeypatch.setattr(name, "MAX_TOKENS", 200)
    monkeypatch.setattr(module, "MANY_CLASSES_TOKENS", 400)
    monkeypatch.setattr(calibration, "BATCH_SIZE", 2)
    for per_class, limit in ((1, 200), (1000, 400)):
        monkeypatch.setattr(module, "TEXTS_PER_CLASS", per_class)
        context = context_of(checkpoint(), tiny_task, target_flops=0.5, calib_samples=None)
        tokens = context.calibration.data.lengths
        assert 0.7 * limit < tokens.sum() < 1.3 * limit
        fitted = sum(tokens[batch].sum() for batch in context.refitter.head_positions)
        assert 0.7 * 200 < fitted < 1.3 * 200
        assert sum(map(len, scoring.scored_batches(context, context.dense.model))) < 0.6 * len(tokens)


def test_obs_and_fisher_refit_unless_told_not_to(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    refits = [
        context_of(checkpoint(), tiny_task, target_flops=0.5, **options).refits
        for options in ({}, {"method": "fisher"}, {"refit": False}, {"method": "taylor"}, {"method": "layers"})
    ]
    assert refits == [True, True, False, False, False]


def test_layers_keep_the_positions_that_they_had(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5)
    model = tiny.make_model()
    assert context.origins(model) == [0, 1, 2]
    context.set_origins(model, [0, 2])
    assert context.origins(model) == [0, 2]


def test_a_runtime_that_cannot_serve_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises((UsageError, ResourceError)):
        context_of(checkpoint(), tiny_task, target_flops=0.5, runtime="pytorch", precision="int8")


def test_an_embedder_is_fitted_jointly_on_more_texts_than_it_is_scored_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long texts a limit in tokens leaves few; each gives one vector."""
    for name in (scoring, refitter, module):
        monkeypatch.setattr(name, "MAX_TOKENS", 200)
    monkeypatch.setattr(module, "MAX_VECTOR_TOKENS", 1600)
    monkeypatch.setattr(calibration, "BATCH_SIZE", 2)
    embedder, task = tiny.write_embedder(tmp_path / "model"), tiny.write_texts(tmp_path / "texts", train=200)

    def tokens(**settings: Any) -> int:
        return int(context_of(embedder, task, target_flops=0.5, calib_samples=200, **settings).calibration.data.lengths.sum())

    assert 1400 < tokens() < 1800
    assert 150 < tokens(refit_epochs=0) < 260
    assert 150 < tokens(refit=False) < 260
    context = context_of(embedder, task, target_flops=0.5, calib_samples=200)
    lengths = context.calibration.data.lengths
    assert 100 < sum(lengths[batch].sum() for batch in context.refitter.head_positions) < 300
    shares: list[float] = []
    monkeypatch.setattr(type(context.calibration), "batches", lambda self, share=1.0: shares.append(share) or [])
    scoring.rank_units(context, context.dense.model)
    assert shares[0] * lengths.sum() == pytest.approx(scoring.DENSE_SHARE * 200)
