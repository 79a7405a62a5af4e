"""Groups of layers as ALBERT's config counts them: the way there and back."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ModelError
from compress.models.checkpoint import load_model
from compress.models.family import FAMILIES
from compress.models.layer_groups import (
    config_owners,
    count_layers,
    grouping_of_owners,
    owners_of_grouping,
    share_as_before,
    stored_names,
    stored_places,
)
from compress.models.shape import shape_of_config
from tests import tiny

SMALL = [grouping for grouping in itertools.product(range(1, 8), range(1, 8), range(1, 4)) if grouping[1] <= grouping[0]]


@pytest.mark.parametrize("grouping", SMALL, ids=str)
def test_owners_lead_back_to_groups_that_mean_the_same(grouping: Any) -> None:
    owners, layers = owners_of_grouping(grouping), grouping[0] * grouping[2]
    found = grouping_of_owners(owners, layers)
    assert found is not None
    assert owners_of_grouping(found) == owners
    assert len(stored_places(found)) == layers


def test_a_config_without_the_keys_has_one_group_of_one_layer() -> None:
    config = {"num_hidden_layers": 3}
    assert (count_layers(config, FAMILIES["albert"]), config_owners(config, FAMILIES["albert"])) == (3, (0, 0, 0))
    assert (count_layers(config, FAMILIES["bert"]), config_owners(config, FAMILIES["bert"])) == (3, ())


def test_flops_count_every_use_and_parameters_each_layer_once() -> None:
    config = {"model_type": "albert", **tiny.CONFIGS["albert"]}
    shared, own = shape_of_config(config), shape_of_config({**config, "num_hidden_groups": 3})
    assert shared.shared == (0, 0, 0)
    assert shared.flops(9) == own.flops(9)
    assert 3 * shared.params() == own.params()


def test_names_in_memory_become_those_of_the_checkpoint() -> None:
    inside = "albert.encoder.albert_layer_groups.{}.albert_layers.{}.ffn.weight"
    state = {inside.format(0, 0): 1, inside.format(0, 2): 2, "classifier.weight": 3}
    found = stored_names(state, FAMILIES["albert"], (4, 2, 1))
    assert found == {inside.format(0, 0): 1, inside.format(1, 0): 2, "classifier.weight": 3}
    assert stored_names(state, FAMILIES["bert"], (4, 2, 1)) == state


def test_some_layers_share_as_before() -> None:
    assert share_as_before((0, 0, 0, 3), [0, 1, 3]) == (0, 0, 2)
    assert share_as_before((), [0, 1]) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_groups": 0}, "num_hidden_groups is 0"),
        ({"num_hidden_groups": 4}, "num_hidden_groups is more than num_hidden_layers"),
        ({"inner_group_num": "1"}, "inner_group_num is '1'"),
        ({"num_hidden_layers": 200, "inner_group_num": 200}, "more than 256 layers"),
    ],
)
def test_hostile_groups_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "albert")
    tiny.edit_config(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)
