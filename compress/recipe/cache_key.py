"""The cache key of a stage: a digest of everything that its result depends on."""

from __future__ import annotations

from compress.core import digests, machine
from compress.data.tables import existing_file
from compress.models.reference import digest_model, locate
from compress.recipe.code_version import code_version
from compress.recipe.schema import Stage
from compress.recipe.verbs import DATA_FILES, MODEL_SETTINGS, has_budget, named_by
from compress.recipe.workspace import Workspace


def cache_key(stage: Stage, workspace: Workspace) -> str:
    """Return the SHA-256 of a stage's settings, inputs, data, seed, code and libraries, and (if it matters) of the machine."""
    facts: dict[str, object] = {
        "verb": stage.verb.name,
        "settings": stage.settings.model_dump(mode="json"),
        "inputs": {name: workspace.digest(name) for name in stage.references()},
        "roles": [list(stage.sources), stage.teacher, stage.student, *stage.more_teachers],
        "data": workspace.task.fingerprint if workspace.task else None,
        "seed": stage.seed,
        "code": code_version(stage.verb.name),
        "libraries": machine.versions(),
    }
    facts |= {name: digests.digest_file(existing_file(file)) for name, file in named_by(stage.settings, DATA_FILES).items()}
    facts |= {name: digest_model(locate(model)) for name, model in named_by(stage.settings, MODEL_SETTINGS).items()}
    if stage.verb.makes == "measurement":
        facts["runtimes"] = {name: workspace.runtime(name) for name in stage.references()}
    if stage.verb.machine_bound or has_budget(stage.settings):
        facts["machine"] = machine.identity()
    return digests.digest_json(facts)
