"""Delivery of a search: the answer's recipe, its run folder, and the model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml

from compress.core import files
from compress.recipe.resolve import resolved
from compress.search.candidates import Candidate
from compress.search.lab import StoreLab
from compress.search.run_folder import LINKED, write_run_folder
from compress.search.trials import Trials

RECIPE = "recipe.yaml"


def deliver(trials: Trials, lab: StoreLab, answer: Candidate, output: Path, within: bool) -> None:
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
        shutil.copytree(output / "run" / "model", temporary, dirs_exist_ok=True, copy_function=_link_weights)


def _link_weights(source: str, target: str) -> None:
    """Link weights, which nobody edits, and copy everything else."""
    if Path(source).suffix in LINKED:
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    shutil.copyfile(source, target)
