"""Results of the Python API."""

from __future__ import annotations

import copy
import json
import math

import pytest

from compress.results import objects
from compress.results.result import Result


def test_keys_are_attributes_and_the_result_is_json() -> None:
    result = Result({"output": "slim", "metrics": {"accuracy": 0.9}, "loss": math.nan})
    assert result.output == result["output"] == "slim"
    assert {**result}["metrics"] == result.metrics
    assert json.loads(json.dumps({"all": result}))["all"]["output"] == "slim"
    assert json.loads(result.to_json()) == {"output": "slim", "metrics": {"accuracy": 0.9}, "loss": None}
    assert "metrics" in dir(result)
    assert copy.deepcopy(result) == result


def test_a_missing_key_is_an_attribute_error_that_names_the_others() -> None:
    with pytest.raises(AttributeError, match="PruneResult has no 'curve'; it has: output, params"):
        objects.PruneResult({"output": "x", "params": 3}).curve  # noqa: B018 (read on purpose)
    assert not hasattr(Result(), "metrics")


def test_no_key_hides_a_method_of_dictionaries() -> None:
    for name, kind in vars(objects).items():
        if isinstance(kind, type) and issubclass(kind, Result):
            assert not set(kind.__annotations__) & set(dir(dict)), name
