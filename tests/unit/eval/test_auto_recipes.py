"""The comparison of searches with recipes that were chosen by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.data.presets import resolve
from compress.recipe.load import load
from eval import auto_recipes

SPEEDS = [None, {"ratio": 15.0, "ci95": [14.5, 15.5]}, {"ratio": 18.0, "ci95": [17.0, 19.0]}]
VERDICT = {"drop_points": 0.4, "drop_ci95": [-0.6, 1.4]}


@pytest.mark.parametrize("name", auto_recipes.RECIPE_OF)
def test_the_recipe_reads_what_the_search_reads(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    for split in ("train", "test"):
        (tmp_path / name / f"{split}.parquet").touch()
    document = auto_recipes.recipe_document(name, tmp_path, 3)
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    recipe = load(str(path))
    assert recipe.seed == 3
    assert recipe.task == resolve(document["task"])
    if name != "bbc-news":
        assert recipe.task.test == str(tmp_path / name / "test.parquet")
        assert recipe.task.validation is None


def test_both_are_timed_in_the_same_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, ...]] = []

    def ended(log: object, *command: str) -> tuple[int, Any]:
        asked.append(command)
        if command[0] == "run":
            for name, seconds in (("01-teacher", 300.0), ("02-slim", 330.0)):
                stage = tmp_path / "sst2-recipe" / "stages" / name
                stage.mkdir(parents=True, exist_ok=True)
                (stage / "compress.json").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
            return 6, {"gates": []}
        if command[0] == "auto":
            (tmp_path / "sst2-auto").mkdir()
            document = {"verdict": VERDICT, "spent_seconds": 1200.0, "kept": True}
            (tmp_path / "sst2-auto" / "auto.json").write_text(json.dumps(document), encoding="utf-8")
            return 0, document
        if command[0] == "eval":
            return 0, {"n": 1821, "results": [{}, {"vs_first": {"delta": -0.012, "ci95": [-0.022, -0.002]}}]}
        return 0, {"results": [{} if speed is None else {"speedup": speed} for speed in SPEEDS]}

    monkeypatch.setattr(auto_recipes, "compress", ended)
    given = ["sst2", "--data", str(tmp_path), "-o", str(tmp_path)]
    assert auto_recipes.main(given) == 0
    assert auto_recipes.main(given) == 0
    assert [command[0] for command in asked] == ["run", "auto", "eval", "bench", "run", "eval", "bench"]  # a search is not run again
    assert asked[1][asked[1].index("--budget") + 1] == "21m"
    assert asked[1][asked[1].index("--max-drop") + 1] == "1.0"
    assert [Path(model).name for model in asked[3][1:4]] == ["01-teacher", "model", "model"]
    row = (
        "| sst2 | 1 | 1,821 | 15.0x [14.5, 15.5] | 1.20 [0.2, 2.2] (missed) | 10.5 | 18.0x [17.0, 19.0] | 0.40 [-0.6, 1.4] | 20.0 | 1.20 |"
    )
    assert row in capsys.readouterr().out


def test_a_failed_command_ends_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_recipes, "compress", lambda log, *command: (4, None))
    with pytest.raises(SystemExit, match="run: exit code 4"):
        auto_recipes.main(["sst2", "--data", str(tmp_path), "-o", str(tmp_path)])
