"""The table of verbs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from compress import cli
from compress.recipe import verbs as module
from compress.recipe.verbs import VERBS, has_budget, model_folders, named_by, seeds_of
from compress.settings import FinetuneSettings, PruneSettings, ShareSettings


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_functions_take_inputs_settings_and_an_output(verb: module.Verb) -> None:
    function = verb.load()
    assert list(inspect.signature(function).parameters) == ["inputs", "settings", "output"]
    assert inspect.signature(function).parameters["settings"].annotation == verb.settings.__name__


def test_every_verb_of_the_table_has_a_command() -> None:
    folder = Path(cli.__file__).parent
    assert all((folder / f"{ {'eval': 'evaluate'}.get(name, name) }.py").is_file() for name in VERBS)


def test_a_stage_names_its_models_if_it_writes_several() -> None:
    seeds = FinetuneSettings.model_validate({"seeds": [3, 1]})
    assert seeds_of(seeds) == [3, 1]
    assert model_folders(seeds) == ["best", "median", "seed-3", "seed-1"]
    assert model_folders(PruneSettings.model_validate({"target_speedup": [3.0, 2.0]})) == ["2x", "3x"]
    assert model_folders(PruneSettings.model_validate({"target_speedup": [3.0]})) == []
    assert model_folders(ShareSettings.model_validate({"layers": 3})) == []


def test_a_budget_is_the_machines() -> None:
    assert has_budget(FinetuneSettings.model_validate({"budget": "5m"}))
    assert not has_budget(FinetuneSettings.model_validate({}))
    assert not has_budget(ShareSettings.model_validate({"layers": 3}))


def test_settings_that_name_files_are_found_if_set() -> None:
    assert named_by(ShareSettings.model_validate({"layers": 3}), module.DATA_FILES) == {}
    values = PruneSettings.model_validate({"target_flops": 0.5, "unlabeled": "texts.txt"})
    assert named_by(values, module.DATA_FILES) == {"unlabeled": "texts.txt"}
