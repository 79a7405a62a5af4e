"""The same stage computes the same result: the tests of searches compute it once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from compress.recipe import artifact
from compress.recipe.cache_key import cache_key
from compress.recipe.schema import Stage
from compress.recipe.workspace import Workspace

Call = tuple[float, Mapping[str, object]]


@pytest.fixture(scope="session")
def computed_stages() -> dict[str, tuple[Path, Call]]:
    """The outputs of stages by their cache keys."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def _stages_are_computed_once(computed_stages: dict[str, tuple[Path, Call]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copy the output of a stage that has been computed before; everything around it happens each time."""
    call = artifact.call_stage

    def once(stage: Stage, workspace: Workspace, output: Path, resume: Path | None = None) -> Call:
        key = cache_key(stage, workspace)
        if key not in computed_stages:
            result = call(stage, workspace, output, resume)
            computed_stages[key] = (Path(shutil.copytree(output, tmp_path_factory.mktemp("stage") / "output")), result)
        folder, result = computed_stages[key]
        shutil.copytree(folder, output, dirs_exist_ok=True)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifact, "call_stage", once)
        yield
