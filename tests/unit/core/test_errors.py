"""Failures: exit codes, hints and suggestions."""

from __future__ import annotations

import pickle

import pytest

from compress.core import errors
from compress.prune.targets import OutOfReach


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CompressError, 1),
        (errors.UsageError, 2),
        (errors.RecipeError, 3),
        (errors.ModelError, 4),
        (errors.DataError, 4),
        (errors.ResourceError, 5),
        (errors.GateMissed, 6),
        (errors.Diverged, 7),
        (errors.Locked, 75),
    ],
)
def test_exit_codes(error: type[errors.CompressError], code: int) -> None:
    raised = error("what", "do this")
    assert (raised.exit_code, raised.message, raised.hint, str(raised)) == (code, "what", "do this", "what")


def test_a_missed_gate_carries_its_document() -> None:
    assert errors.GateMissed("too slow").document == {}
    assert errors.GateMissed("too slow", document={"gates": []}).document == {"gates": []}


@pytest.mark.parametrize(
    ("name", "expected"), [("epoch", " (did you mean 'epochs'?)"), ("epochs", " (did you mean 'epochs'?)"), ("zzz", ""), ("", "")]
)
def test_suggestions(name: str, expected: str) -> None:
    assert errors.did_you_mean(name, ["epochs", "lr"]) == expected


@pytest.mark.parametrize("error", [errors.GateMissed("slow", "wait", {"a": 1}), OutOfReach("far", "ask for less", 3.5)])
def test_errors_cross_processes(error: errors.CompressError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
