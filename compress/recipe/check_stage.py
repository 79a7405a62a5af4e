"""Check one stage of a recipe: its verb, its settings, and the models that it refers to."""

from __future__ import annotations

import re
from typing import Any

from compress.core.errors import RecipeError, did_you_mean
from compress.core.validation import known_keys, validate
from compress.recipe.schema import MODEL, RecipeDocument, Stage, stage_of
from compress.recipe.verbs import VERBS, Verb, model_folders, reads, seeds_of
from compress.stage import STUDENTS, is_spec

STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
Keys = dict[str, Any]  # of a stage: its inputs and its seed, settings aside


def check_stage(name: str, fields: Keys, earlier: dict[str, Stage], top: RecipeDocument, recipe: str) -> Stage:
    """Check the document of a stage.

    Args:
        name: of the stage.
        fields: its document.
        earlier: the stages before it, which it may refer to.
        top: the whole recipe.
        recipe: the name of its file, for messages.

    Raises:
        RecipeError: something in it is wrong.
    """
    if not STAGE_NAME.fullmatch(name) or name == MODEL:
        raise RecipeError(f"{recipe}: '{name}' cannot name a stage", "use lower-case letters, digits, - and _")
    where = f"{recipe}, stage {name}"
    verb = _verb(fields.pop("do", None), where)
    keys = _input_keys(fields, verb, where)
    if verb.needs_task and top.task is None:
        raise RecipeError(f"{where}: '{verb.name}' needs a task and the recipe names none", "add 'task:' at the top")
    seed = _seed(keys.get("seed", top.seed), where)
    teachers = _teachers(keys, where)
    _expand_student(keys, earlier)
    sources = _sources(keys, verb, where)
    settings = validate(verb.settings, fields, where, RecipeError)
    stage = Stage(name, verb, sources, settings, seed, keys.get("teacher"), keys.get("student"), teachers[1:])
    if "seed" in keys and seeds_of(settings):
        raise RecipeError(f"{where}: give 'seed' or 'seeds', not both", "'seeds' replaces 'seed'")
    for reference in stage.references():
        _check_reference(reference, stage, earlier, top, where)
    return stage


def _verb(name: object, where: str) -> Verb:
    hint = f"one of: {', '.join(VERBS)}"
    if name is None:
        raise RecipeError(f"{where}: the key 'do' is missing", hint)
    if not isinstance(name, str) or name not in VERBS:
        raise RecipeError(f"{where}: unknown verb '{name}'{did_you_mean(str(name), VERBS)}", hint)
    return VERBS[name]


def _input_keys(fields: Keys, verb: Verb, where: str) -> Keys:
    """Move the keys that are no settings out of `fields`, and check that all others are settings."""
    known = {"from", "seed", *verb.roles}
    keys = {key: fields.pop(key) for key in list(fields) if key in known}
    unknown = next((key for key in fields if key not in verb.settings.model_fields), None)
    if unknown is not None:
        near = did_you_mean(unknown, [*known_keys(verb.settings), *known, "do"])
        raise RecipeError(
            f"{where}: unknown key '{unknown}'{near}", f"'{verb.name}' knows: {', '.join([*sorted(known), *known_keys(verb.settings)])}"
        )
    return keys


def _seed(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise RecipeError(f"{where}: seed must be a whole number from 0, not {value!r}")
    return value


def _teachers(keys: Keys, where: str) -> tuple[str, ...]:
    """Return the teachers of a stage that names a list of them; the first one replaces the list in `keys`."""
    given = keys.get("teacher")
    if not isinstance(given, list):
        return ()
    if not given or not all(isinstance(name, str) and name for name in given) or len(set(given)) < len(given):
        raise RecipeError(f"{where}: 'teacher' must name a model, or a list of different ones, not {given!r}")
    keys["teacher"] = given[0]
    return tuple(given)


def _expand_student(keys: Keys, earlier: dict[str, Stage]) -> None:
    """Replace the name of a SPEC by the SPEC, unless a stage has that name."""
    student = keys.get("student")
    if isinstance(student, str) and student in STUDENTS and student not in earlier:
        keys["student"] = STUDENTS[student]


def _sources(keys: Keys, verb: Verb, where: str) -> tuple[str, ...]:
    """Return what a stage starts from: `from`, else the student (of a SPEC the teacher)."""
    for role in verb.roles:
        if role in keys and not (isinstance(keys[role], str) and keys[role]):
            raise RecipeError(f"{where}: '{role}' must be a name, not {keys[role]!r}")
    if "teacher" in verb.roles and "teacher" not in keys:
        raise RecipeError(f"{where}: the key 'teacher' is missing", "the stage or model to learn from")
    given = keys.get("from")
    if given is None and "student" in keys:
        return (keys["student"],) if not is_spec(keys["student"]) else (keys["teacher"],)
    names: list[Any] = given if isinstance(given, list) else [given]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise RecipeError(f"{where}: 'from' must name what the stage starts from", "an earlier stage, 'model', or a model reference")
    if len(names) > 1 and not verb.many:
        raise RecipeError(f"{where}: '{verb.name}' starts from one model, not {len(names)}")
    if "student" in keys:
        raise RecipeError(f"{where}: give the student as 'from' or as 'student', not both")
    return tuple(names)


def _check_reference(reference: str, stage: Stage, earlier: dict[str, Stage], top: RecipeDocument, where: str) -> None:
    """Check that a reference is an earlier stage, `model`, or looks like a model reference; and that it is what the verb reads."""
    if reference not in earlier and "/" not in reference and ":" not in reference:
        _check_name(reference, stage.name, earlier, top, where, is_student=reference == stage.student)
    if reference in earlier and (folders := model_folders(earlier[reference].settings)):
        names = ", ".join(f"{reference}/{name}" for name in folders)
        raise RecipeError(f"{where}: the stage '{reference}' makes several models", f"name one of them: {names}")
    origin = earlier.get(stage_of(reference))
    if origin and origin.verb.makes not in reads(stage.verb, stage.settings):
        raise RecipeError(f"{where}: '{stage.verb.name}' cannot start from '{reference}', which makes no checkpoint")


def _check_name(reference: str, name: str, earlier: dict[str, Stage], top: RecipeDocument, where: str, is_student: bool) -> None:
    """Check a reference that is neither an earlier stage nor a path or hub id; a student may be the name of a SPEC, too."""
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
    known = [*earlier, MODEL, *(STUDENTS if is_student else ())]
    raise RecipeError(f"{where}: there is no stage '{reference}'{did_you_mean(reference, known)}")
