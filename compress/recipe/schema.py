"""The recipe as a checked object: top-level keys, gates, and stages whose settings are typed by their verb."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compress.core.errors import RecipeError, did_you_mean
from compress.core.validation import known_keys, validate
from compress.data.spec import TaskSpec
from compress.recipe.verbs import VERBS, Verb
from compress.settings import Settings
from compress.stage import STUDENTS, is_spec

MODEL = "model"  # how a stage's `from` names the recipe's own model
STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
SCHEMA = 1


class Gates(BaseModel):
    """What the result must keep, or the run ends with exit code 6."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    max_drop: float | None = Field(None, ge=0, le=100, description="points of the main metric, first against last evaluated model")
    min_speedup: float | None = Field(None, gt=0, description="first against last benchmarked model, in the first cell")


class _Document(BaseModel):
    """The top level of a recipe file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**32)
    model: str | None = None
    task: str | dict[str, Any] | None = None
    gates: Gates = Field(default_factory=lambda: Gates.model_validate({}))
    stages: dict[str, dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Stage:
    """One stage: a verb, its input models by name, and its settings.

    `sources` are names of earlier stages, `model`, or model references. A `distill` stage also has a `teacher`, perhaps
    `more_teachers`, and a `student` that is a source's name or a SPEC.
    """

    name: str
    verb: Verb
    sources: tuple[str, ...]
    settings: Settings
    seed: int
    teacher: str | None = None
    student: str | None = None
    more_teachers: tuple[str, ...] = ()

    def references(self) -> list[str]:
        """Return every model that the stage reads, each once."""
        extra = [name for name in (self.teacher, *self.more_teachers, self.student) if name and not is_spec(name)]
        return list(dict.fromkeys([*self.sources, *extra]))


@dataclass(frozen=True)
class Recipe:
    """A whole recipe, checked."""

    name: str
    seed: int
    model: str | None
    task: TaskSpec | None
    gates: Gates
    stages: dict[str, Stage]
    document: dict[str, Any]


def check(document: dict[str, Any], resolve_task: Any, where: str) -> Recipe:
    """Check a recipe's document.

    Args:
        document: as read from YAML.
        resolve_task: turns the document's task into a `TaskSpec`.
        where: the file's name, for messages.

    Raises:
        RecipeError: unknown or missing keys, wrong values, stages that refer to later or missing ones.
    """
    version = document.get("schema")
    if isinstance(version, int) and version > SCHEMA:
        raise RecipeError(f"{where}: schema {version} is newer than this compress understands ({SCHEMA})", "upgrade compress")
    top = validate(_Document, document, where, RecipeError)
    task = resolve_task(top.task) if top.task is not None else None
    stages: dict[str, Stage] = {}
    for name, fields in top.stages.items():
        if not STAGE_NAME.fullmatch(name) or name == MODEL:
            raise RecipeError(f"{where}: '{name}' cannot name a stage", "use lower-case letters, digits, - and _")
        stages[name] = _stage(name, dict(fields), stages, top, f"{where}, stage {name}")
    recipe = Recipe(top.name, top.seed, top.model, task, top.gates, stages, document)
    _check_gates(recipe, where)
    return recipe


def _stage(name: str, fields: dict[str, Any], earlier: dict[str, Stage], top: _Document, where: str) -> Stage:
    do = fields.pop("do", None)
    if not isinstance(do, str) or do not in VERBS:
        if do is None:
            raise RecipeError(f"{where}: the key 'do' is missing", f"one of: {', '.join(VERBS)}")
        raise RecipeError(f"{where}: unknown verb '{do}'{did_you_mean(str(do), VERBS)}", f"one of: {', '.join(VERBS)}")
    verb = VERBS[do]
    known = {"from", "seed"} | ({"teacher", "student"} if do == "distill" else set())
    own = {key: fields.pop(key) for key in list(fields) if key in known}
    unknown = [key for key in fields if key not in verb.settings.model_fields]
    if unknown:
        near = did_you_mean(unknown[0], [*known_keys(verb.settings), *known, "do"])
        raise RecipeError(
            f"{where}: unknown key '{unknown[0]}'{near}", f"'{do}' knows: {', '.join([*sorted(known), *known_keys(verb.settings)])}"
        )
    if verb.needs_task and top.task is None:
        raise RecipeError(f"{where}: '{do}' needs a task and the recipe names none", "add 'task:' at the top")
    seed = own.get("seed", top.seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise RecipeError(f"{where}: seed must be a whole number from 0, not {seed!r}")
    teachers = _teachers(own, where)
    student = own.get("student")
    if isinstance(student, str) and student in STUDENTS and student not in earlier:
        own["student"] = STUDENTS[student]
    sources = _sources(own.get("from"), verb, own, where)
    settings = validate(verb.settings, fields, where, RecipeError)
    stage = Stage(name, verb, sources, settings, seed, own.get("teacher"), own.get("student"), teachers[1:])
    if "seed" in own and getattr(settings, "seeds", None):
        raise RecipeError(f"{where}: give 'seed' or 'seeds', not both", "each of 'seeds' takes the place of 'seed'")
    for reference in stage.references():
        _check_reference(reference, name, earlier, top, where)
        _check_one_model(reference, earlier, where)
        origin = earlier.get(stage_of(reference))
        made = origin.verb.makes if origin else None
        if made == "measurement" or (made == "onnx" and do in {"finetune", "prune", "factorize", "share", "distill", "export"}):
            raise RecipeError(f"{where}: '{do}' cannot start from '{reference}', which makes no checkpoint")
    return stage


def stage_of(reference: str) -> str:
    """Return the stage that a reference names, if it names one: `slim`, or `slim/2x` for one of its models."""
    return reference.partition("/")[0]


def _teachers(own: dict[str, Any], where: str) -> tuple[str, ...]:
    """Return the teachers that a stage names, one or a list, and leave the first of them in `own`."""
    given = own.get("teacher")
    if not isinstance(given, list):
        return ()
    if not given or not all(isinstance(name, str) and name for name in given) or len(set(given)) < len(given):
        raise RecipeError(f"{where}: 'teacher' must name a model, or a list of different ones, not {given!r}")
    own["teacher"] = given[0]
    return tuple(given)


def _sources(given: Any, verb: Verb, own: dict[str, Any], where: str) -> tuple[str, ...]:
    for key in ("teacher", "student"):
        if key in own and not (isinstance(own[key], str) and own[key]):
            raise RecipeError(f"{where}: '{key}' must be a name, not {own[key]!r}")
    if verb.name == "distill" and "teacher" not in own:
        raise RecipeError(f"{where}: the key 'teacher' is missing", "the stage or model to learn from")
    if given is None and "student" in own:
        return (own["student"],) if not is_spec(own["student"]) else (own["teacher"],)
    names: list[Any] = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise RecipeError(f"{where}: 'from' must name what the stage starts from", "an earlier stage, 'model', or a model reference")
    if len(names) > 1 and not verb.many:
        raise RecipeError(f"{where}: '{verb.name}' starts from one model, not {len(names)}")
    if "student" in own:
        raise RecipeError(f"{where}: give the student as 'from' or as 'student', not both")
    return tuple(names)


def _check_reference(reference: str, name: str, earlier: dict[str, Stage], top: _Document, where: str) -> None:
    """Check that a name is an earlier stage, `model`, or looks like a model reference (it has a slash or a colon)."""
    if reference in earlier or "/" in reference or ":" in reference:
        return
    if reference == MODEL:
        if top.model is None:
            raise RecipeError(f"{where}: it starts from 'model' and the recipe names none", "add 'model:' at the top")
        return
    if reference == name:
        raise RecipeError(f"{where}: it refers to itself")
    if reference in top.stages:
        raise RecipeError(
            f"{where}: '{reference}' comes later: stages must not form a cycle", "order the stages so that each one's inputs come first"
        )
    raise RecipeError(f"{where}: there is no stage '{reference}'{did_you_mean(reference, [*earlier, MODEL])}")


def _check_one_model(reference: str, earlier: dict[str, Stage], where: str) -> None:
    """Check that a stage of several models is not named as if it had made one."""
    settings = earlier[reference].settings if reference in earlier else None
    seeds, targets = getattr(settings, "seeds", None) or (), getattr(settings, "target_speedup", None) or ()
    of_seeds = ["best", "median", *(f"seed-{seed}" for seed in seeds)]
    names = of_seeds if seeds else [f"{target:.3g}x" for target in sorted(set(targets))]
    if len(names) > 1:
        told = ", ".join(f"{reference}/{name}" for name in names)
        raise RecipeError(f"{where}: the stage '{reference}' makes several models", f"name one of them: {told}")


def _check_gates(recipe: Recipe, where: str) -> None:
    done = {stage.verb.name for stage in recipe.stages.values()}
    for gate, verb in (("max_drop", "eval"), ("min_speedup", "bench")):
        if getattr(recipe.gates, gate) is not None and verb not in done:
            raise RecipeError(f"{where}: the gate '{gate}' needs a stage that does '{verb}'")
    if recipe.gates.max_drop is not None and recipe.gates.min_speedup is not None:
        judged = {stage.verb.name: stage.sources for stage in recipe.stages.values() if stage.verb.many}
        for end, place in ((0, "first"), (-1, "last")):
            if judged["eval"][end] != judged["bench"][end]:
                raise RecipeError(
                    f"{where}: the gates compare the first model with the last, but the {place} is '{judged['eval'][end]}' in "
                    f"'eval' and '{judged['bench'][end]}' in 'bench'",
                    "let both start and end with the same models",
                )
