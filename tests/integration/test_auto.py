"""`auto` as a user calls it, on a tiny encoder: answer, recipe, report, reuse; and a search that prunes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import compress as package
from compress.search import space, strategy
from tests import tiny
from tests.integration.conftest import Command


@pytest.fixture(scope="module")
def inputs(home: Path) -> list[str]:
    tiny.write_encoder(home / "auto-encoder")
    document = tiny.write_task(home / "auto-task", 120, 60, 60)
    files = [part for split in ("train", "validation", "test") for part in (f"--{split}", document[split])]
    return [str(home / "auto-encoder"), *files, "--text", "text", "--label", "label", "--max-length", "32"]


@pytest.fixture(scope="module")
def found(compress: Command, inputs: list[str]) -> dict[str, Any]:
    return compress("--json", "auto", *inputs, "--max-drop", "60", "--budget", "4m", "-o", "auto").document


def test_the_answer_is_delivered_and_judged(home: Path, found: dict[str, Any]) -> None:
    assert found["kept"]
    assert found["verdict"]["split"] == "test"
    assert found["answer"]["candidate"].startswith("static, ")
    assert found["spent_seconds"] < 1.1 * found["budget_seconds"]
    model = package.load_onnx(home / "auto" / "model")
    assert model("a dog")
    text = (home / "auto" / "report.html").read_text(encoding="utf-8")
    assert "chart-search" in text
    assert all(candidate["candidate"] in text for candidate in found["candidates"])
    assert json.loads((home / "auto" / "auto.json").read_text(encoding="utf-8"))["answer"] == found["answer"]


def test_the_numbers_are_those_of_the_run_that_the_model_card_shows(home: Path, found: dict[str, Any]) -> None:
    def results(stage: str) -> dict[str, Any]:
        (manifest,) = (home / "auto" / "run" / "stages").glob(f"*-{stage}/compress.json")
        return json.loads(manifest.read_text(encoding="utf-8"))["results"][-1]

    timed, judged = results("speed"), results("proof")["vs_first"]
    assert found["answer"]["latency_ms"] == timed["latency_ms"]["p50"]
    assert found["speedup"]["ci95"] == timed["speedup"]["ci95"]
    low, high = judged["ci95"]
    assert found["verdict"]["drop_ci95"] == pytest.approx([-100 * high, -100 * low])
    assert found["verdict"]["drop_points"] == pytest.approx(-100 * judged["delta"])


def test_the_recipe_finds_every_stage_done(compress: Command, found: dict[str, Any]) -> None:
    plan = compress("--json", "run", "auto/recipe.yaml", "-o", "auto/run", "--dry-run").document
    assert {stage["plan"] for stage in plan["stages"]} == {"cached"}


def test_another_search_reuses_the_stages(compress: Command, inputs: list[str], found: dict[str, Any]) -> None:
    other = compress("--json", "auto", *inputs, "--max-drop", "50", "--budget", "5m", "-o", "auto-2", "--store", "auto/stages").document
    assert other["answer"]["model"] == found["answer"]["model"]
    assert other["reused_seconds"] > 0.5 * sum(candidate["seconds"] for candidate in found["candidates"])


def test_tags_are_pruned_trained_and_quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of task without a static student, so that the search prunes; with two sizes and short trainings."""
    monkeypatch.setattr(strategy, "FEWER_TARGETS", ((1.3, 2.0),))
    monkeypatch.setattr(space, "UNIT_STEPS", 4)
    model = tiny.write_encoder(tmp_path / "encoder")
    task = tiny.write_kind(tmp_path / "task", "tags", 60, 60)
    result = package.auto(model, task, tmp_path / "out", max_drop=90.0, budget="5m", seq_len=16)
    assert result.kept
    assert result.verdict is not None
    assert result.verdict["split"] == "test"  # held back from validation
    assert result.answer["model"].startswith(("int8", "baseline"))  # pruning may find that it cannot make so small a model faster
    again = package.auto(model, task, tmp_path / "out", max_drop=90.0, budget="5m", seq_len=16)
    assert again.answer == result.answer


def test_an_embedder_is_searched_on_texts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is its own teacher, and what counts is how near the vectors stay to its own."""
    monkeypatch.setattr(strategy, "FEWER_TARGETS", ((1.3, 2.0),))
    monkeypatch.setattr(strategy, "CLOCK_SECONDS", 1e9)  # no students of other shapes
    monkeypatch.setattr(space, "UNIT_STEPS", 4)
    embedder = tiny.write_embedder(tmp_path / "embedder")
    task = tiny.write_texts(tmp_path / "texts", 60, 60)
    result = package.auto(embedder, task, tmp_path / "out", max_drop=30.0, budget="20m", seq_len=16)
    assert result.kept
    assert result.metric == "cosine"
    assert result.baseline_score == pytest.approx(1.0)
    assert any(row["candidate"].endswith("trained, 1 unit") for row in result.candidates)
    assert package.evaluate([embedder, tmp_path / "out" / "model"], task).n == 60
