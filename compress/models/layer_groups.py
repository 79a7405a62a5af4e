"""Groups of layers that are used several times (ALBERT, Lan et al. 2020, arXiv 1909.11942), as `config.json` counts them.

A checkpoint stores each layer once: `num_hidden_groups` groups of `inner_group_num` layers. A group runs `num_hidden_layers /
num_hidden_groups` times in a row, then the next one. In memory every use is a layer of its own, whose parameters are those of the first use
(compress.models.sharing): there is one group, of all layers. No torch in this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from compress.models.family import Family
from compress.models.types import Config

GROUPS = {"num_hidden_layers": None, "num_hidden_groups": 1, "inner_group_num": 1}  # keys of config.json, and their defaults
Owners = tuple[int, ...]  # for each layer, the first layer that has the same weights
Grouping = tuple[int, int, int]  # values of these keys
Place = tuple[int, int]  # of a stored layer: its group, and its position there
ValueT = TypeVar("ValueT")


def grouping_of_config(config: Config) -> Grouping:
    """Return how many groups run, how many there are, and how many layers each has."""
    return config["num_hidden_layers"], config.get("num_hidden_groups", 1), config.get("inner_group_num", 1)


def count_layers(config: Config, family: Family) -> int:
    """Return how many layers a config describes, each use of a layer counted."""
    if not family.grouped:
        return config[family.layers_key]
    runs, _, inner = grouping_of_config(config)
    return runs * inner


def config_owners(config: Config, family: Family) -> Owners:
    """Return each layer's owner; () if no layers share their weights."""
    return owners_of_grouping(grouping_of_config(config)) if family.grouped else ()


def stored_places(grouping: Grouping) -> list[Place]:
    """Return for each layer where its weights are stored.

    >>> stored_places((2, 1, 2)), stored_places((3, 2, 1))
    ([(0, 0), (0, 1), (0, 0), (0, 1)], [(0, 0), (0, 0), (1, 0)])
    """
    runs, groups, inner = grouping
    return [(int(run / (runs / groups)), position) for run in range(runs) for position in range(inner)]  # as transformers counts


def owners_of_grouping(grouping: Grouping) -> Owners:
    """Return each layer's owner; () if each layer has weights of its own.

    >>> owners_of_grouping((3, 1, 1)), owners_of_grouping((3, 3, 1))
    ((0, 0, 0), ())
    """
    first: dict[Place, int] = {}
    owners = tuple(first.setdefault(place, number) for number, place in enumerate(stored_places(grouping)))
    return owners if len(first) < len(owners) else ()


def grouping_of_owners(owners: Owners, layers: int) -> Grouping | None:
    """Return the groups in which so many layers have these owners; None if no config can say so.

    >>> grouping_of_owners((0, 0, 2), 3), grouping_of_owners((0, 1, 1), 3), grouping_of_owners((0, 1, 0), 3)
    ((3, 2, 1), None, None)
    """
    for inner in range(1, layers + 1):
        for groups in range(1, layers // inner + 1) if layers % inner == 0 else ():
            if owners_of_grouping((layers // inner, groups, inner)) == owners:
                return layers // inner, groups, inner
    return None


def stored_names(state: Mapping[str, ValueT], family: Family, grouping: Grouping) -> dict[str, ValueT]:
    """Rename what is named after the owners' layers in memory to the places where a checkpoint stores them."""
    if not family.grouped:
        return dict(state)
    before, _, inner = family.layers.partition(".0.")
    pattern, places = re.compile(rf"(.*\b{re.escape(before)})\.0\.{re.escape(inner)}\.(\d+)\.(.*)"), stored_places(grouping)

    def renamed(name: str) -> str:
        match = pattern.fullmatch(name)
        if match is None:
            return name
        group, position = places[int(match[2])]
        return f"{match[1]}.{group}.{inner}.{position}.{match[3]}"

    return {renamed(name): value for name, value in state.items()}


def share_as_before(owners: Owners, kept: Sequence[int]) -> Owners:
    """Return the owners of some layers of a model, numbered anew; () if no two of them share.

    >>> share_as_before((0, 0, 2, 2), [1, 2, 3]), share_as_before((0, 0, 2, 2), [0, 2])
    ((0, 1, 1), ())
    """
    first: dict[int, int] = {}
    chosen = tuple(first.setdefault(owners[number], position) for position, number in enumerate(kept)) if owners else ()
    return chosen if len(first) < len(chosen) else ()
