"""One training with several seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import compress
from compress import training
from compress.cli.main import main
from compress.core import artifacts, files
from compress.core.errors import UsageError
from compress.core.validation import validate
from compress.data.presets import resolve
from compress.data.task import Task
from compress.models.config import read_config
from compress.models.inputs import input_spec_of
from compress.models.reference import digest_model
from compress.recipe import load as loading
from compress.recipe.run import run_recipe
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from compress.training.seeds import run_seeds, summarize_metrics
from tests import tiny

Maker = Callable[..., Path]
SETTINGS = {"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 2e-3, "epochs": 1}


def manifest_of(folder: Path) -> dict[str, Any]:
    return files.read_json(folder / artifacts.MANIFEST)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_statistics_are_those_of_a_sample(values: list[float]) -> None:
    summary = summarize_metrics([{"n": 10, "accuracy": value, "f1": 0.5} for value in values])
    assert set(summary) == {"accuracy", "f1"}
    assert summary["accuracy"]["mean"] == pytest.approx(sum(values) / len(values))
    assert summary["accuracy"]["std"] == pytest.approx(statistics.stdev(values))
    assert (summary["accuracy"]["min"], summary["accuracy"]["max"], summary["accuracy"]["n"]) == (min(values), max(values), len(values))
    assert summary["f1"]["std"] == 0


@pytest.mark.parametrize(
    ("scores", "best", "median"),
    [([0.5, 0.9, 0.7], 1, 2), ([0.5, 0.9], 1, 0), ([0.7, 0.7, 0.7, 0.7], 0, 2), ([0.1, 0.2, 0.3, 0.4], 3, 1)],
)
def test_best_and_median(scores: list[float], best: int, median: int, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    """With an even number of seeds the median is the lower of the two in the middle."""
    settings = FinetuneSettings(seeds=list(range(len(scores))))

    def stage(inputs: Inputs, alone: Any, folder: Path) -> dict[str, Any]:
        assert alone.seeds is None
        assert folder.is_dir()
        return {"metrics": {"validation": {"n": 4, "accuracy": scores[inputs.seed]}}, "params": inputs.seed}

    document = run_seeds(stage, Inputs({}, 77, Task(resolve(tiny_task))), settings, tmp_path)
    assert document["chosen"] == {"metric": "accuracy", "best": f"seed-{best}", "median": f"seed-{median}"}
    assert document["params"] == best
    assert document["metrics"]["validation"] == {"n": 4, "accuracy": pytest.approx(sum(scores) / len(scores))}


def test_each_seed_gives_the_model_of_a_single_run(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    document = compress.finetune(source, tiny_task, tmp_path / "all", seeds=[4, 1], **SETTINGS)
    assert [model["folder"] for model in document["models"]] == ["seed-4", "seed-1"]
    for model in document["models"]:
        compress.finetune(source, tiny_task, tmp_path / "alone" / model["folder"], seed=model["seed"], **SETTINGS)
        weights = [tmp_path / name / model["folder"] / "model.safetensors" for name in ("all", "alone")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    again = compress.finetune(source, tiny_task, tmp_path / "all", seeds=[4, 1], **SETTINGS)
    assert again["created"] == document["created"]  # up to date
    assert document["seeds"]["validation"]["accuracy"]["n"] == 2


def test_distill_on_the_command_line(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(tiny_task), encoding="utf-8")
    options = [part for key, value in SETTINGS.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    arguments = ["distill", "--teacher", str(checkpoint()), "--student", "layers=2", "--task", str(tmp_path / "task.yaml"), *options]
    for flags in ([], ["--json"]):
        with pytest.raises(SystemExit) as caught:
            main([*flags, *arguments, "--seeds", "0", "1", "2", "-o", str(tmp_path / "out")])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        if flags:
            document = json.loads(shown)
            assert set(document["seeds"]["validation"]) == {"accuracy", "before"}
            assert {path.name for path in (tmp_path / "out").iterdir()} == {"seed-0", "seed-1", "seed-2", "compress.json"}
        else:
            assert "validation (n = 24), 3 seeds:" in shown
            assert "standard deviation 0." in shown


def test_a_later_stage_uses_the_best_or_the_median(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    stages = {
        "teacher": {"do": "finetune", "from": "model", "seeds": [0, 1, 2], **SETTINGS},
        "graph": {"do": "export", "from": "teacher/median"},
        "proof": {"do": "eval", "from": ["teacher/best", "teacher/median", "teacher/seed-0"]},
    }
    source = tiny.write_encoder(tmp_path / "encoder")
    recipe = {"schema": 1, "name": "seeds", "model": str(source), "task": tiny_task, "stages": stages}
    document = run_recipe(loading.build(recipe, "seeds.yaml", Path("/")), tmp_path / "run")
    assert document["stages_run"] == 3
    assert (tmp_path / "run" / "report.html").is_file()
    folder = tmp_path / "run" / "stages" / "01-teacher"
    chosen = manifest_of(folder)["chosen"]["median"]
    for name in ("seed-0", "seed-1", "seed-2"):
        manifest = manifest_of(folder / name)
        assert manifest["digest"] == digest_model(folder / name)
        assert (manifest["seed"], manifest["lineage"][-1]["seed"]) == (int(name[-1]), int(name[-1]))
        assert input_spec_of(read_config(folder / name), manifest).max_length == 32  # which an export without a task keeps
    steps = manifest_of(tmp_path / "run" / "stages" / "02-graph")["lineage"]
    assert [step.get("verb") for step in steps] == [None, "finetune", "export"]
    assert (steps[0], steps[1]["seed"]) == ({"model": source.name}, int(chosen[-1]))
    assert document["delivered"] == "teacher/seed-0"  # the last one that was measured
    assert digest_model(tmp_path / "run" / "model") == digest_model(folder / "seed-0")
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "| teacher/seed-0 |" in card
    assert "base_model" not in card
    again = run_recipe(loading.build(recipe, "seeds.yaml", Path("/")), tmp_path / "run")
    assert (again["stages_skipped"], again["delivered"]) == (3, "teacher/seed-0")


def test_a_run_of_seeds_alone_delivers_the_best(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    stages = {"teacher": {"do": "finetune", "from": "model", "seeds": [0, 1], **SETTINGS}}
    recipe = {"schema": 1, "name": "seeds", "model": str(source), "task": tiny_task, "stages": stages}
    run_recipe(loading.build(recipe, "seeds.yaml", Path("/")), tmp_path / "run")
    assert compress.load_model(tmp_path / "run" / "model") is not None


@pytest.mark.parametrize("seeds", [[1], [1, 1], [], [-1, 0], [0, 2**32], [0.5, 1], "0 1"])
def test_invalid_seeds(seeds: Any) -> None:
    with pytest.raises(UsageError, match="seeds"):
        validate(FinetuneSettings, {"seeds": seeds}, "finetune", UsageError)


def test_a_stage_runs_without_seeds(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    document = training.run(Inputs({"model": checkpoint()}, 0, Task(resolve(tiny_task))), FinetuneSettings(**SETTINGS), tmp_path / "out")
    assert "seeds" not in document


def test_seed_and_seeds_together_are_refused(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="a seed or seeds, not both"):
        compress.finetune(checkpoint(), tiny_task, tmp_path / "out", seed=0, seeds=[0, 1])
    data = ["--train", tiny_task["train"], "--validation", tiny_task["validation"], "--text", "text", "--label", "label"]
    with pytest.raises(SystemExit, match="2"):
        main(["finetune", str(checkpoint()), *data, "--seeds", "0", "1", "--seed", "0", "-o", str(tmp_path / "out")])
    assert "a seed or seeds, not both" in capsys.readouterr().err
