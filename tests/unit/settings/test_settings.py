"""Settings: defaults, types, bounds, and options that the other settings make meaningless."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compress.core.errors import UsageError
from compress.core.validation import validate
from compress.recipe.verbs import VERBS
from compress.settings import DistillSettings, PruneSettings, QuantizeSettings

LEAST: dict[str, dict[str, Any]] = {"prune": {"target_flops": 0.5}, "factorize": {"rank": 8}, "share": {"layers": 2}}


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_defaults_are_sound_described_and_survive_json(verb: Any) -> None:
    settings = verb.settings.model_validate(LEAST.get(verb.name, {}))
    assert verb.settings.model_validate(settings.in_use()) == settings
    assert all(field.description and field.description.endswith(".") for field in verb.settings.model_fields.values())


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_settings_do_not_change(verb: Any) -> None:
    settings = verb.settings.model_validate(LEAST.get(verb.name, {}))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, next(iter(verb.settings.model_fields)), None)


@given(st.sampled_from(sorted(VERBS)), st.data())
def test_no_value_of_a_wrong_kind_is_taken(name: str, data: st.DataObject) -> None:
    """Neither NaN nor infinity nor a list nor a mapping is ever a number of ours."""
    model = VERBS[name].settings
    numbers = [
        key
        for key, field in model.model_fields.items()
        if field.annotation in (int, float) or str(field.annotation) in {"float | None", "int | None"}
    ]
    if not numbers:
        return
    key = data.draw(st.sampled_from(numbers))
    value = data.draw(st.sampled_from([float("nan"), float("inf"), float("-inf"), [], {}, "1", True, b"1"]))
    with pytest.raises(ValidationError):
        model.model_validate({**LEAST.get(name, {}), key: value})


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.5, float("nan")])
def test_shares_lie_between_nothing_and_everything(share: float) -> None:
    for key in ("target_flops", "target_params"):
        with pytest.raises(ValidationError):
            PruneSettings.model_validate({key: share})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": "cuda", "method": "bf16"}, "target goes with method auto, .* or fp16, not bf16"),
        ({"target": "tensorrt", "method": "int4"}, "target goes with method auto, .* or fp16, not int4"),
        ({"target": "avx2", "method": "fp16"}, "target avx2 goes with int8"),
        ({"target": "arm64", "method": "fp16"}, "target arm64 goes with int8"),
        ({"target": "cuda", "tune": True}, "do not go with target cuda"),
        ({"target": "tensorrt", "runtime": "auto"}, "do not go with target tensorrt"),
    ],
)
def test_targets_that_are_gpus(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validate(QuantizeSettings, given, "quantize", UsageError)


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_scores_of_weights_alone_need_no_calibration_unless_accuracy_is_recovered(method: str) -> None:
    document = {"method": method, "target_flops": 0.5, "calib_samples": 64}
    with pytest.raises(ValidationError, match="calib_samples goes with method obs"):
        PruneSettings.model_validate(document)
    PruneSettings.model_validate({**document, "recover_epochs": 1})


def test_a_budget_names_tinybert() -> None:
    with pytest.raises(UsageError, match="tinybert"):
        validate(DistillSettings, {"method": ["tinybert"], "budget": "5m"}, "distill", UsageError)
