"""Names of losses, weights and layers, as they are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compress.settings import DistillSettings
from compress.settings.distill_losses import METHODS, parse_match, parse_method, parse_methods


@pytest.mark.parametrize(
    ("text", "expected"),
    [("logits", ("logits", None)), (" hidden:0.5 ", ("hidden", 0.5)), ("gram:1e-3", ("gram", 1e-3)), ("cofi:2", ("cofi", 2.0))],
)
def test_methods(text: str, expected: tuple[str, float | None]) -> None:
    assert parse_method(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden", "did you mean 'hidden'"),
        ("", "unknown method ''"),
        ("hidden:", "positive number, not ''"),
        ("hidden:0", "positive number"),
        ("hidden:-1", "positive number"),
        ("hidden:nan", "positive number"),
        ("hidden:inf", "positive number"),
        ("hidden:1:2", "positive number"),
        ("theseus:2", "takes no weight"),
    ],
)
def test_malformed_methods(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_method(text)


def test_methods_that_do_not_go_together() -> None:
    for texts, message in (
        (["gram", "gram:2"], "given twice"),
        (["theseus", "logits"], "cannot be combined"),
        (["tinybert", "cka"], "cannot be combined"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_methods(texts)


def test_weights() -> None:
    assert parse_methods(["logits", "hidden:0.5", "gram:3"]) == {"logits": 1.0, "hidden": 0.5, "gram": 3.0}
    assert parse_methods(["cofi"]) == {"logits": 0.1, "cofi": 0.9}
    assert parse_methods(["cofi:2", "logits"]) == {"cofi": 2.0, "logits": 1.0}


def test_matches() -> None:
    names = ["hidden", "gram"]
    assert parse_match("last", names) == {"hidden": "last", "gram": "last"}
    assert parse_match("hidden:0-0, 6-2,12-4 ; gram:12-4", names) == {"hidden": ((0, 0), (6, 2), (12, 4)), "gram": ((12, 4),)}
    assert parse_match("uniform;gram:12-4", names) == {"hidden": "uniform", "gram": ((12, 4),)}
    assert parse_match("gram:all", names) == {"hidden": "last", "gram": "all"}
    assert parse_match(None, ["nmse", "gram"]) == {"nmse": "all", "gram": "last"}
    assert parse_match("uniform", ["nmse"]) == {"nmse": "uniform"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unifrom", "did you mean 'uniform'"),
        ("12-4", "name the loss"),
        ("", "is not valid for match"),
        ("hidden:12", "not a pair of layers"),
        ("hidden:a-b", "not a pair of layers"),
        ("hidden:1-", "not a pair of layers"),
        ("hidden:", "not a pair of layers"),
        ("hidden:1-1,1-1", "twice"),
        ("hidden:1-1;hidden:2-2", "two entries"),
        ("gram:1-1", "not among the methods"),
        ("logits:1-1", "matches no layers"),
    ],
)
def test_malformed_matches(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_match(text, ["hidden"])


@given(st.text(alphabet="hidengram:;,-0123 lastuf", max_size=30))
def test_any_text_is_a_match_or_a_value_error(text: str) -> None:
    try:
        found = parse_match(text, ["hidden", "gram"])
    except ValueError:
        return
    assert set(found) == {"hidden", "gram"}


def test_every_method_alone_makes_settings() -> None:
    for method in METHODS:
        assert DistillSettings.model_validate({"method": method}).losses


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "hidden", "hard_weight": 0.0}, "no loss trains the head"),
        ({"relation_heads": 4}, "goes with method relations"),
        ({"dkd_beta": 2.0}, "goes with method dkd"),
        ({"method": "logits", "layer_epochs": 2}, "layer_epochs goes with method hidden, nmse, .* or cofi, not logits"),
        ({"layer_lr": 1e-4}, "goes with layer_epochs"),
        ({"method": []}, "at least 1"),
        ({"method": ["logits", 3]}, "valid string"),
        ({"match": "gram:1-1"}, "not among the methods"),
        ({"method": "logits", "match": "all"}, "match goes with method hidden, nmse, .* or cka, not logits"),
        ({"method": "theseus", "temperature": 4.0}, "temperature goes with method logits, dkd or listwise, not theseus"),
        ({"method": "theseus", "hard_weight": 0.5}, "hard_weight does not go with method theseus"),
        ({"method": "theseus", "augment": 1}, "augment does not go with method theseus"),
        ({"augment": 1, "hard_weight": 0.5}, "hard_weight does not go with augment"),
        ({"method": "hidden", "augment": 1}, "no loss trains the head"),
        ({"method": "hidden", "unlabeled": "texts.txt"}, "no loss trains the head"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DistillSettings.model_validate(settings)
