"""Many recipes, each shared stage once; what fails does not stop the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ModelError, RecipeError
from compress.recipe import artifact
from compress.search.executor import JobEvent, LocalExecutor, check_recipes, run_recipes
from compress.search.store import Store
from tests.unit.search.recipes import build, write_document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_document(tmp_path_factory.mktemp("inputs"))


def test_recipes_share_stages(document: dict[str, Any], tmp_path: Path) -> None:
    events: list[JobEvent] = []
    recipes = {"half": build(document), "quarter": build(document, slim={"target_flops": 0.25})}
    done = run_recipes(recipes, Store(tmp_path), LocalExecutor(), upto=["slim"], observer=events.append)
    assert {label: list(outcome.stages) for label, outcome in done.items()} == {label: ["teacher", "slim"] for label in recipes}
    assert [outcome.error for outcome in done.values()] == [None, None]
    assert done["half"].stages["teacher"].folder == done["quarter"].stages["teacher"].folder
    assert [event.job.name for event in events if event.event.kind == "started"] == ["teacher", "slim", "slim"]


def fail_at(monkeypatch: pytest.MonkeyPatch, error: Exception, **settings: object) -> None:
    """Let stages with these settings fail."""
    call = artifact.call_stage

    def failing(stage: Any, *rest: Any) -> Any:
        if all(getattr(stage.settings, name, None) == value for name, value in settings.items()):
            raise error
        return call(stage, *rest)

    monkeypatch.setattr(artifact, "call_stage", failing)


@pytest.mark.parametrize(("error", "code"), [(RecipeError("no", "yes"), 3), (ZeroDivisionError("x"), 1)])
def test_a_failing_stage_stops_only_what_depends_on_it(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    fail_at(monkeypatch, error, target_flops=0.25)
    recipes = {"quarter": build(document, slim={"target_flops": 0.25}), "half": build(document)}
    done = run_recipes(recipes, Store(tmp_path), LocalExecutor())
    failed = done["quarter"]
    assert list(failed.stages) == ["teacher"]
    assert failed.error is not None
    assert (failed.failed_stage, failed.error.exit_code) == ("slim", code)
    assert done["half"].error is None
    assert list(done["half"].stages) == ["teacher", "slim", "proof"]


def test_a_missing_model_is_found_before_anything_runs(document: dict[str, Any], tmp_path: Path) -> None:
    recipes = {"good": build(document), "bad": build({**document, "model": "./nowhere"})}
    with pytest.raises(ModelError):
        check_recipes(list(recipes.values()), Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
