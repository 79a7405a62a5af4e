"""Recipes as checked objects: every bad one is a RecipeError (exit 3) that says where."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.core.errors import CompressError, RecipeError
from compress.recipe import load as loading
from compress.recipe.resolve import resolved
from compress.recipe.schema import Recipe

BASE: dict[str, Any] = {
    "schema": 1,
    "name": "sst2-fast",
    "seed": 17,
    "model": "google-bert/bert-base-uncased",
    "task": "sst2",
    "gates": {"max_drop": 1.0, "min_speedup": 8.0},
    "stages": {
        "teacher": {"do": "finetune", "from": "model", "epochs": 3, "lr": 2.0e-5},
        "slim": {"do": "prune", "from": "teacher", "target_flops": 0.5},
        "student": {"do": "distill", "from": "slim", "teacher": "teacher", "epochs": 3},
        "shallow": {"do": "distill", "student": "layers=3", "teacher": "teacher"},
        "graph": {"do": "export", "from": "student"},
        "int8": {"do": "quantize", "from": "graph", "method": "dynamic", "max_drop": 0.5},
        "proof": {"do": "eval", "from": ["teacher", "slim", "student", "int8"]},
        "speed": {"do": "bench", "from": ["teacher", "student", "int8"], "threads": [1], "seq_len": [32, 128]},
    },
}


def build(document: dict[str, Any]) -> Recipe:
    """Check a document."""
    return loading.build(document, "my.yaml", Path("/here"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the base recipe with one value set (or, with `...`, removed)."""
    document = copy.deepcopy(BASE)
    place: Any = document
    *parents, last = path.split("/")
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def refused(document: dict[str, Any]) -> str:
    """Check a document that must be refused; returns message and hint."""
    with pytest.raises(RecipeError) as caught:
        build(document)
    assert caught.value.exit_code == 3
    assert "my.yaml" in caught.value.message or "task" in caught.value.message
    return f"{caught.value.message} | {caught.value.hint}"


def test_the_base_recipe_is_sound() -> None:
    recipe = build(BASE)
    assert (recipe.name, recipe.seed, recipe.model) == ("sst2-fast", 17, "google-bert/bert-base-uncased")
    assert recipe.task is not None
    assert recipe.task.name == "sst2"
    assert list(recipe.stages) == list(BASE["stages"])
    student, shallow, proof = recipe.stages["student"], recipe.stages["shallow"], recipe.stages["proof"]
    assert (student.sources, student.teacher, student.student) == (("slim",), "teacher", None)
    assert (shallow.sources, shallow.teacher, shallow.student) == (("teacher",), "teacher", "layers=3")
    assert student.references() == ["slim", "teacher"]
    assert shallow.references() == ["teacher"]
    assert proof.sources == ("teacher", "slim", "student", "int8")
    assert {stage.seed for stage in recipe.stages.values()} == {17}


def test_the_recipe_of_the_design_document_is_sound() -> None:
    """As the design shows it, but for a target and a method that this version words otherwise."""
    text = """
    schema: 1
    name: sst2-fast
    seed: 17
    model: google-bert/bert-base-uncased
    task: sst2
    gates: {max_drop: 1.0, min_speedup: 8.0}
    stages:
      teacher: {do: finetune, from: model, epochs: 3, lr: 2.0e-5}
      slim:    {do: prune, from: teacher, target_flops: 0.3}
      student: {do: distill, from: slim, teacher: teacher, epochs: 3}
      graph:   {do: export, from: student}
      int8:    {do: quantize, from: graph, method: dynamic, max_drop: 0.5}
      proof:   {do: eval, from: [teacher, slim, student, int8]}
      speed:   {do: bench, from: [teacher, student, int8], threads: [1], seq_len: [32, 128]}
    """
    assert len(build(yaml.safe_load(text)).stages) == 7


BAD: list[tuple[str, Any, str]] = [
    ("schema", ..., "'schema' is missing"),
    ("schema", 2, "schema 2 is newer"),
    ("schema", 99, "upgrade compress"),
    ("schema", 0, "schema"),
    ("schema", "1", "schema"),
    ("name", ..., "'name' is missing"),
    ("name", "../x", "name"),
    ("name", "", "name"),
    ("name", "x" * 65, "name"),
    ("name", 5, "name"),
    ("nmae", "x", "unknown key 'nmae' (did you mean 'name'?)"),
    ("stage", {}, "did you mean 'stages'"),
    ("seed", -1, "seed"),
    ("seed", 1.5, "seed"),
    ("seed", 2**32, "seed"),
    ("model", 5, "model"),
    ("model", ..., "it starts from 'model' and the recipe names none"),
    ("task", ..., "needs a task"),
    ("task", "sst", "did you mean 'sst2'"),
    ("task", [], "task"),
    ("task", {"text": ["a"]}, "exactly one of"),
    ("gates", {"max_dorp": 1.0}, "did you mean 'max_drop'"),
    ("gates", {"max_drop": -1.0}, "gates.max_drop"),
    ("gates", {"max_drop": float("nan")}, "gates.max_drop"),
    ("gates", {"min_speedup": 0}, "gates.min_speedup"),
    ("gates", None, "gates"),
    ("stages", ..., "'stages' is missing"),
    ("stages", {}, "stages"),
    ("stages", [], "stages"),
    ("stages", None, "stages"),
    ("stages/slim", None, "stages.slim"),
    ("stages/slim", [], "stages.slim"),
    ("stages/../../x", {"do": "export", "from": "teacher"}, "cannot name a stage"),
    ("stages/model", {"do": "export", "from": "teacher"}, "cannot name a stage"),
    ("stages/Slim 2", {"do": "export", "from": "teacher"}, "cannot name a stage"),
    ("stages/-x", {"do": "export", "from": "teacher"}, "cannot name a stage"),
    ("stages/" + "x" * 41, {"do": "export", "from": "teacher"}, "cannot name a stage"),
    ("stages/slim/do", ..., "stage slim: the key 'do' is missing"),
    ("stages/slim/do", "prun", "unknown verb 'prun' (did you mean 'prune'?)"),
    ("stages/slim/do", 5, "unknown verb '5'"),
    ("stages/slim/do", ["prune"], "unknown verb"),
    ("stages/slim/do", {"prune": 1}, "unknown verb"),
    ("stages/slim/epochs", 3, "unknown key 'epochs'"),
    ("stages/teacher/epoch", 3, "unknown key 'epoch' (did you mean 'epochs'?)"),
    ("stages/teacher/form", "x", "did you mean 'from'"),
    ("stages/teacher/teacher", "model", "unknown key 'teacher'"),
    ("stages/teacher/lr", "1e-5", "lr: should be a valid number, not '1e-5'"),
    ("stages/teacher/lr", float("nan"), "lr"),
    ("stages/teacher/lr", float("inf"), "lr"),
    ("stages/teacher/lr", -1e-5, "lr"),
    ("stages/teacher/lr", 0, "lr"),
    ("stages/teacher/epochs", 0, "epochs"),
    ("stages/teacher/epochs", True, "epochs"),
    ("stages/teacher/seed", -1, "seed must be a whole number"),
    ("stages/teacher/seed", True, "seed must be a whole number"),
    ("stages/teacher/seed", "1", "seed must be a whole number"),
    ("stages/teacher/device", "tpu", "device"),
    ("stages/slim/target_flops", 0, "target_flops"),
    ("stages/slim/target_flops", 1.5, "target_flops"),
    ("stages/slim/target_flops", 1, "target_flops"),
    ("stages/slim/target_flops", ..., "exactly one target"),
    ("stages/slim/target_params", 0.5, "exactly one target"),
    ("stages/slim/from", ..., "'from' must name"),
    ("stages/slim/from", [], "'from' must name"),
    ("stages/slim/from", 5, "'from' must name"),
    ("stages/slim/from", [["teacher"]], "'from' must name"),
    ("stages/slim/from", "", "'from' must name"),
    ("stages/slim/from", ["teacher", "model"], "starts from one model, not 2"),
    ("stages/slim/from", "teecher", "there is no stage 'teecher' (did you mean 'teacher'?)"),
    ("stages/slim/from", "student", "comes later: stages must not form a cycle"),
    ("stages/slim/from", "slim", "refers to itself"),
    ("stages/slim/from", "proof", "comes later"),
    ("stages/graph/from", "int8", "comes later"),
    ("stages/student/teacher", ..., "'teacher' is missing"),
    ("stages/shallow/teacher", ..., "'teacher' is missing"),
    ("stages/student/teacher", "", "teacher"),
    ("stages/student/teacher", 5, "'teacher' must be a name"),
    ("stages/student/teacher", "graph", "comes later"),
    ("stages/student/student", "layers=3", "not both"),
    ("stages/shallow/student", 3, "'student' must be a name"),
    ("stages/shallow/student", "layer", "there is no stage 'layer'"),
    ("stages/shallow/student", "statc", "there is no stage 'statc' (did you mean 'static'?)"),
    ("stages/int8/method", "dynamc", "(did you mean 'dynamic'?)"),
    ("stages/shallow/student", "", "must be a name"),
    ("stages/proof/from", ["teacher", "nobody"], "there is no stage 'nobody'"),
    ("stages/proof/split", "dev", "split"),
    ("stages/speed/threads", 1, "threads"),
    ("stages/speed/threads", [], "threads"),
    ("stages/int8/method", "magic", "method"),
    ("stages/last", {"do": "prune", "from": "graph", "target_flops": 0.5}, "'prune' cannot start from 'graph'"),
    ("stages/last", {"do": "export", "from": "int8"}, "'export' cannot start from 'int8'"),
    ("stages/last", {"do": "export", "from": "proof"}, "'export' cannot start from 'proof'"),
    ("stages/last", {"do": "eval", "from": ["speed"]}, "'eval' cannot start from 'speed'"),
    ("stages/last", {"do": "distill", "student": "student", "teacher": "graph"}, "cannot start from 'graph'"),
    ("stages/proof", ..., "the gate 'max_drop' needs a stage that does 'eval'"),
    ("stages/speed", ..., "the gate 'min_speedup' needs a stage that does 'bench'"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=[f"{path}={value}"[:60] for path, value, _ in BAD])
def test_bad_recipes_are_recipe_errors(path: str, value: Any, message: str) -> None:
    document = copy.deepcopy(BASE)
    if path.startswith("stages/../"):
        document["stages"]["../../x"] = value
        assert message in refused(document)
    else:
        assert message in refused(changed(path, value))


def test_faults_name_their_stage() -> None:
    assert "my.yaml, stage teacher: " in refused(changed("stages/teacher/epochs", 0))


def test_a_stage_has_its_own_seed() -> None:
    recipe = build(changed("stages/slim/seed", 3))
    assert [stage.seed for stage in recipe.stages.values()][:3] == [17, 3, 17]


@pytest.mark.parametrize("reference", ["./teacher", "/models/x", "owner/name", "owner/name@v1", "builtin:minilm-l6"])
def test_models_are_named_by_a_slash_or_a_colon(reference: str) -> None:
    assert build(changed("stages/slim/from", reference)).stages["slim"].sources[0].endswith(reference.removeprefix("."))


def test_local_models_start_at_the_recipes_folder() -> None:
    document = changed("stages/proof/from", ["teacher", "./mine", "../other/one", "/absolute", "owner/name"])
    document["model"], document["gates"] = "./base", {}
    document["stages"]["student"]["teacher"] = "./big"
    recipe = build(document)
    assert recipe.model == "/here/base"
    assert recipe.stages["student"].teacher == "/here/big"
    assert recipe.stages["proof"].sources == ("teacher", "/here/mine", "/other/one", "/absolute", "owner/name")


@pytest.mark.parametrize("path", ["stages/graph", "stages/int8"])
def test_verbs_that_need_no_task(path: str) -> None:
    stage = path.split("/")[1]
    document = {"schema": 1, "name": "x", "stages": {stage: {**BASE["stages"][stage], "from": "./m"}}}
    del document["stages"][stage]["max_drop" if stage == "int8" else "do"]
    document["stages"][stage]["do"] = BASE["stages"][stage]["do"]
    assert build(document).task is None


def same(first: Recipe, second: Recipe) -> bool:
    """Compare two recipes but for the text they were read from."""
    return all(getattr(first, name) == getattr(second, name) for name in ("name", "seed", "model", "task", "gates", "stages"))


@pytest.mark.parametrize(
    "document",
    [
        BASE,
        changed("gates", {}),
        changed("task", {"text": ["a", "b"], "train": "x.csv", "labels": ["n", "y"]}),
        changed("stages/slim/seed", 3),
    ],
)
def test_a_resolved_recipe_is_the_same_recipe(document: dict[str, Any]) -> None:
    recipe = build(document)
    written = yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True)
    again = loading.build(yaml.safe_load(written), "resolved.yaml", Path("/elsewhere"))
    assert same(recipe, again)
    assert resolved(again) == resolved(recipe)


def test_a_resolved_recipe_writes_out_every_setting_that_is_read() -> None:
    recipe = build(BASE)
    for name, stage in resolved(recipe)["stages"].items():
        assert set(recipe.stages[name].settings.in_use()) <= set(stage), name
        assert stage["seed"] == 17


def test_the_ready_recipes_are_sound() -> None:
    ready = loading.ready_recipes()
    assert "demo" in ready
    for name, path in ready.items():
        recipe = loading.load(name)
        assert recipe.name == path.stem
        assert same(recipe, loading.build(resolved(recipe), name, path.parent))


NAMES = ["model", "teacher", "slim", "layers=3", "a=b", "eval", "../x", "./x", "owner/name", "builtin:x", "sst2", "x.yaml"]
ODD = st.one_of(
    st.sampled_from([None, True, False, [], {}, *NAMES]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.lists(st.sampled_from(["teacher", "model", ""]), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
PLACES = [
    "",
    *BASE,
    *(f"stages/{name}" for name in BASE["stages"]),
    *(f"stages/{name}/{key}" for name, stage in BASE["stages"].items() for key in stage),
]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["", "seed", "do", "from", "teacher", "student", "lr", "x"]), ODD),
        min_size=1,
        max_size=3,
    )
)
def test_any_change_gives_a_recipe_or_a_typed_error(changes: list[tuple[str, str, Any]]) -> None:
    document: Any = copy.deepcopy(BASE)
    for path, key, value in changes:
        *parents, last = [part for part in f"{path}/{key}".split("/") if part] or ["x"]
        place = document
        for part in parents:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = value
    try:
        recipe = build(document)
    except CompressError as error:
        assert error.exit_code == 3  # noqa: PT017 (any other exception fails the test)
    else:
        assert same(recipe, loading.build(resolved(recipe), "again", Path("/here")))


@given(st.dictionaries(st.sampled_from(list(BASE)) | st.text(max_size=5), ODD, max_size=7))
def test_any_document_gives_a_recipe_or_a_typed_error(document: dict[str, Any]) -> None:
    try:
        build(document)
    except CompressError as error:
        assert error.exit_code == 3  # noqa: PT017


@pytest.mark.parametrize(("stage", "place"), [(["int8", "teacher"], "first"), (["teacher", "student"], "last")])
def test_gates_judge_the_same_models_in_eval_and_bench(stage: list[str], place: str) -> None:
    document = changed("stages/proof/from", stage)
    document["gates"] = {"max_drop": 1.0, "min_speedup": 2.0}
    document["stages"]["speed"]["from"] = ["teacher", "int8"]
    with pytest.raises(RecipeError, match=f"the {place} is"):
        build(document)


def test_teachers_may_be_several_and_students_have_names() -> None:
    stages: dict[str, Any] = {
        "one": {"do": "finetune", "from": "model"},
        "two": {"do": "finetune", "from": "model", "seed": 1},
        "small": {"do": "distill", "student": "tinybert-4", "teacher": ["one", "two"], "method": ["logits", "hidden:0.5"]},
    }
    document = {"schema": 1, "name": "x", "model": "a/b", "task": "sst2", "stages": stages}
    recipe = loading.build(document, "x", Path())
    small = recipe.stages["small"]
    assert resolved(recipe)["stages"]["small"]["teacher"] == ["one", "two"]
    assert (small.teacher, small.more_teachers, small.student) == ("one", ("two",), "layers=4,hidden=312,heads=12,ffn=1200")
    assert small.references() == ["one", "two"]
    for teachers in ([], ["one", "one"], ["one", 3], "", ["one", "three"]):
        stages["small"]["teacher"] = teachers
        with pytest.raises(RecipeError):
            loading.build(document, "x", Path())
    stages["small"] |= {"teacher": "one", "method": "hiden"}
    with pytest.raises(RecipeError, match="did you mean 'hidden'"):
        loading.build(document, "x", Path())
