"""Pydantic's errors as sentences."""

from __future__ import annotations

from typing import Any

import pytest

from compress.core.errors import RecipeError, UsageError
from compress.core.validation import known_keys, validate
from compress.settings import BenchSettings, DistillSettings, FinetuneSettings, PruneSettings


def message(model: Any, document: Any) -> str:
    """Validate a document that must be refused; returns the message."""
    with pytest.raises(RecipeError) as caught:
        validate(model, document, "here", RecipeError)
    assert caught.value.message.startswith("here: ")
    return caught.value.message


@pytest.mark.parametrize(
    ("model", "document", "expected"),
    [
        (FinetuneSettings, {"epoch": 3}, "unknown key 'epoch' (did you mean 'epochs'?)"),
        (FinetuneSettings, {"zzz": 3}, "unknown key 'zzz'"),
        (FinetuneSettings, {"epochs": 0}, "epochs: should be greater than or equal to 1, not 0"),
        (FinetuneSettings, {"epochs": "3"}, "epochs: should be a valid integer, not '3'"),
        (FinetuneSettings, {"epochs": 2.5}, "epochs: "),
        (FinetuneSettings, {"epochs": True}, "epochs: "),
        (FinetuneSettings, {"lr": -1e-5}, "lr: should be greater than 0, not -1e-05"),
        (FinetuneSettings, {"lr": float("nan")}, "lr: should be a finite number, not nan"),
        (FinetuneSettings, {"lr": float("inf")}, "lr: should be a finite number, not inf"),
        (FinetuneSettings, {"lr": "fast"}, "lr: should be a valid number, not 'fast'"),
        (FinetuneSettings, {"device": "gpu"}, "device: should be 'auto', 'cpu' or 'cuda', not 'gpu'"),
        (FinetuneSettings, {"device": "cudda"}, "device: should be 'auto', 'cpu' or 'cuda', not 'cudda' (did you mean 'cuda'?)"),
        (PruneSettings, {"target_flops": 0}, "target_flops: should be greater than 0, not 0"),
        (PruneSettings, {"target_flops": 1.5}, "target_flops: should be less than 1, not 1.5"),
        (PruneSettings, {}, "give exactly one target: target_speedup, target_latency_ms, target_flops"),
        (PruneSettings, {"target_flops": 0.5, "target_params": 0.5}, "give exactly one target"),
        (BenchSettings, {"threads": []}, "threads: "),
        (BenchSettings, {"threads": [0]}, "threads.0: should be greater than or equal to 1, not 0"),
        (BenchSettings, {"threads": 1}, "threads: should be a valid list, not 1"),
        (DistillSettings, {"hard_weight": 2.0}, "hard_weight: "),
        (DistillSettings, [], "should be a valid dictionary"),
    ],
)  # fmt: skip
def test_sentences(model: Any, document: Any, expected: str) -> None:
    assert expected in message(model, document)


def test_every_fault_has_its_line() -> None:
    text = message(FinetuneSettings, {"epochs": 0, "lr": -1.0, "zzz": 1})
    assert len(text.splitlines()) == 4
    assert all(f"\n  - {key}" in text for key in ("epochs", "lr", "unknown key 'zzz'"))


def test_the_error_is_of_the_class_asked_for() -> None:
    with pytest.raises(UsageError):
        validate(FinetuneSettings, {"zzz": 1}, "here", UsageError)


def test_known_keys_are_written_as_in_a_document() -> None:
    from compress.recipe.schema import RecipeDocument

    assert known_keys(RecipeDocument)[:3] == ["schema", "name", "description"]
