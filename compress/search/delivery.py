"""Delivery of a search: the answer's recipe, its run folder, and the model."""

from __future__ import annotations

from pathlib import Path

import yaml

from compress.core import files
from compress.recipe.resolve import resolved
from compress.search.candidates import SearchCandidate
from compress.search.lab import StoreLab
from compress.search.run_folder import copy_linked, write_run_folder
from compress.search.trials import Trials

RECIPE = "recipe.yaml"


def deliver_answer(trials: Trials, lab: StoreLab, answer: SearchCandidate, output: Path, within: bool) -> None:
    """Write `recipe.yaml`, `run/` and `model/`.

    Args:
        trials: of the search; the answer was judged.
        lab: has its finished stages.
        answer: the model.
        output: the folder of the search.
        within: whether the answer keeps the accuracy budget on the examples that judge: the recipe then has it as its gate.
    """
    space = trials.space
    stages = {**space.needed("proof"), "speed": space.stages[space.timing_of(answer.model)]}
    lab.run(stages, "speed")  # under its name in the recipe; it was run under another one
    gates = {"max_drop": trials.objective.max_drop} if within and trials.objective.max_drop is not None else {}
    description = f"found by compress auto: {trials.objective.describe()}"
    recipe = lab.recipe(stages, gates=gates, description=description)
    text = yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True)
    files.write_text(output / RECIPE, f"# {description}\n# compress run {output.name}/{RECIPE} -o {output.name}/run\n{text}")
    write_run_folder(recipe, lab.store, {name: lab.finished[name] for name in stages}, output / "run")
    with files.atomic_folder(output / "model") as temporary:
        copy_linked(output / "run" / "model", temporary)
