"""The Python API: the same path as the command line."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest

import compress
from compress import api
from compress.core.errors import CompressError, ModelError, RecipeError, UsageError
from compress.inference.artifact import load_onnx
from compress.recipe.one_stage import as_reference, one_stage
from compress.recipe.verbs import VERBS
from compress.results import RunDocument
from tests.conforms import undocumented

Maker = Callable[..., Path]


class Output(TypedDict):
    """What the Python API adds to a manifest."""

    output: str
    up_to_date: bool


FAST: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"}


@pytest.mark.parametrize("name", sorted(set(compress.__all__) - {"__version__"}))
def test_what_is_promised_is_there_and_documented(name: str) -> None:
    assert callable(getattr(compress, name))
    assert inspect.getdoc(getattr(compress, name))


@pytest.mark.parametrize("name", ["prune", "distill", "export", "quantize"])
def test_a_verb_stays_a_verb_when_its_package_is_imported(name: str) -> None:
    package = importlib.import_module(f"compress.{name}")
    assert inspect.ismodule(package)
    assert getattr(compress, name) is getattr(api, name)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'compress' has no attribute 'nothing'"):
        compress.nothing  # noqa: B018 (asked for on purpose)


def test_every_verb_is_a_function() -> None:
    names = {{"eval": "evaluate"}.get(name, name) for name in VERBS}
    assert names <= set(compress.__all__)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("teacher", "./teacher"),
        ("my teacher", "./my teacher"),
        ("./teacher", "./teacher"),
        ("/a/teacher", "/a/teacher"),
        (Path("teacher"), "./teacher"),
        ("owner/name", "owner/name"),
        ("owner/name@v1", "owner/name@v1"),
        ("builtin:minilm-l6", "builtin:minilm-l6"),
        ("layers=3", "layers=3"),
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
    ],
)
def test_references_are_written_as_a_recipe_takes_them(given: str | Path, expected: str) -> None:
    assert as_reference(given) == expected


def test_a_local_folder_goes_before_an_old_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bert-base-uncased").mkdir()
    monkeypatch.chdir(tmp_path)
    assert as_reference("bert-base-uncased") == "./bert-base-uncased"


def test_a_verb_is_a_recipe_of_one_stage() -> None:
    recipe = one_stage("prune", ["teacher"], "sst2", 5, {"target_flops": 0.5})
    (stage,) = recipe.stages.values()
    assert (stage.verb.name, stage.sources, stage.seed) == ("prune", ("model",), 5)
    assert (recipe.model or "").endswith("teacher")
    recipe = one_stage("distill", [], "sst2", 0, {}, teacher="a", student="layers=2")
    (stage,) = recipe.stages.values()
    assert (stage.student, stage.references()) == ("layers=2", [stage.teacher])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("prune", ["m"], "sst2", 0, {"target_flop": 0.5}), UsageError, "did you mean 'target_flops'"),
        (("prune", ["m"], "sst2", 0, {}), UsageError, "exactly one target"),
        (("prune", ["m"], None, 0, {"target_flops": 0.5}), UsageError, "needs a task"),
        (("finetune", ["m"], "sst2", 0, {"lr": "1e-5"}), UsageError, "lr"),
        (("finetune", ["m"], "sst2", -1, {}), RecipeError, "seed"),
        (("finetune", ["m"], "sst", 0, {}), RecipeError, "did you mean 'sst2'"),
        (("eval", ["m", "./m"], "sst2", 0, {}), UsageError, "given twice"),
        (("eval", [], "sst2", 0, {}), CompressError, "from"),
    ],
    ids=str,
)
def test_calls_that_make_no_sense(arguments: Any, error: type[CompressError], message: str) -> None:
    with pytest.raises(error, match=message):
        one_stage(*arguments)


def test_a_misspelt_student_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no student 'statc' \(did you mean 'static'\?\)"):
        compress.distill("teacher", "statc", "sst2", tmp_path / "out")


def test_run_takes_overrides(checkpoint: Maker, tmp_path: Path) -> None:
    recipe = tmp_path / "my recipe.yaml"
    recipe.write_text(f"schema: 1\nname: x\nmodel: {checkpoint()}\nstages: {{graph: {{do: export, from: model}}}}\n", encoding="utf-8")
    document = compress.run(recipe, tmp_path / "run", ["graph.tolerance=0.5"])
    assert document.stages_run == 1
    assert undocumented(document, RunDocument) == []
    assert load_onnx(tmp_path / "run" / "model")


def test_runs_go_below_runs_by_default(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(
        f"schema: 1\nname: mine\nmodel: {checkpoint()}\nstages: {{graph: {{do: export, from: model}}}}\n", encoding="utf-8"
    )
    compress.run("x.yaml")
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_a_library_call_prints_nothing(checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compress.export(checkpoint(), tmp_path / "out")
    assert capsys.readouterr() == ("", "")


def test_errors_are_typed(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        compress.export(tmp_path / "nowhere", tmp_path / "out")
    assert isinstance(caught.value, compress.CompressError)
    assert not (tmp_path / "out").exists()
