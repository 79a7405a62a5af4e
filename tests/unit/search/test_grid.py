"""Grids: how they are written, and the points that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import RecipeError, UsageError
from compress.search.grid import grid_points, parse_grid
from tests.unit.search.recipes import write_document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_document(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("slim.target_speedup=2,3,4.5", "slim.target_speedup", [2, 3, 4.5]),
        ("slim.steps=auto, 3", "slim.steps", ["auto", 3]),
        ("bench.seq_len=[32],[32, 128]", "bench.seq_len", [[32], [32, 128]]),
        ("student.student='layers=3,hidden=96','layers=2'", "student.student", ["layers=3,hidden=96", "layers=2"]),
        ("teacher.lr=2e-5", "teacher.lr", [2e-5]),
    ],
)
def test_values_are_yaml(text: str, path: str, values: list[object]) -> None:
    assert parse_grid([text]) == {path: values}


@pytest.mark.parametrize("texts", [["slim"], ["=1,2"], ["a.=1"], ["slim.steps="], ["slim.steps=1", "slim.steps=2"]])
def test_what_is_not_a_grid_is_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--grid"):
        parse_grid(texts)


def test_a_value_that_is_not_yaml_is_refused() -> None:
    with pytest.raises(RecipeError, match="--grid a.b="):
        parse_grid(["a.b=[1,2"])


def test_paths_multiply_and_seeds_are_innermost(document: dict[str, Any]) -> None:
    points = grid_points(document, "r.yaml", {"slim.target_flops": [0.5, 0.25], "teacher.epochs": [1, 2]}, [0, 7])
    assert [point.label for point in points[:3]] == [
        "slim.target_flops=0.5, teacher.epochs=1, seed 0",
        "slim.target_flops=0.5, teacher.epochs=1, seed 7",
        "slim.target_flops=0.5, teacher.epochs=2, seed 0",
    ]
    assert len(points) == 8
    last = points[-1].recipe
    assert (last.stages["slim"].settings.target_flops, last.stages["teacher"].settings.epochs) == (0.25, 2)  # pyright: ignore
    assert {stage.seed for stage in last.stages.values()} == {7}
    assert len({point.folder for point in points}) == 8
    assert points[0].folder == "points/slim.target_flops=0.5_teacher.epochs=1/seed-0"


def test_without_a_grid_or_seeds_the_recipe_is_as_it_is(document: dict[str, Any]) -> None:
    (point,) = grid_points(document, "r.yaml", {}, None)
    assert (point.label, point.folder, point.recipe.seed) == ("seed 3", "points/seed-3", 3)


def test_names_of_folders_are_plain_and_different(document: dict[str, Any]) -> None:
    document = {**document, "stages": {**document["stages"], "speed": {"do": "bench", "from": ["teacher", "slim"]}}}
    values = [[8] * count for count in range(1, 16)]
    folders = [point.folder for point in grid_points(document, "r.yaml", {"speed.seq_len": values}, None)]
    assert len(set(folders)) == 15
    assert all(len(Path(folder).parts[1]) <= 120 and Path(folder).parts[1].isascii() and " " not in folder for folder in folders)


def test_a_wrong_point_is_named(document: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"r.yaml with slim.target_flops=2, stage slim: target_flops"):
        grid_points(document, "r.yaml", {"slim.target_flops": [0.5, 2]}, None)
    with pytest.raises(RecipeError, match=r"--grid slm.target_flops: there is no 'slm' \(did you mean 'slim'\?\)"):
        grid_points(document, "r.yaml", {"slm.target_flops": [0.5]}, None)


@pytest.mark.parametrize(
    ("grid", "seeds", "message"),
    [
        ({"seed": [1, 2]}, None, "--seeds"),
        ({"slim.target_flops": []}, None, "no value"),
        ({"slim.target_flops": [0.5, 0.5]}, None, "given twice"),
        ({"slim.target_flops": [0.5, "0.5"]}, None, "given twice"),
        ({}, [1, 1], "seed 1 was given twice"),
    ],
)
def test_what_makes_no_sense_is_refused(
    document: dict[str, Any], grid: dict[str, list[object]], seeds: list[int] | None, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        grid_points(document, "r.yaml", grid, seeds)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_seeds_that_no_stage_takes_are_refused(document: dict[str, Any]) -> None:
    stages = {name: {**stage, "seed": 1} for name, stage in document["stages"].items()}
    with pytest.raises(RecipeError, match="own seed"):
        grid_points({**document, "stages": stages}, "r.yaml", {}, [0, 1])
