"""Every setting has a section, and one that the other settings make meaningless is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import Field, ValidationError

from compress.recipe.verbs import VERBS
from compress.settings import PruneSettings, Settings
from compress.settings.base import METHOD, SECTIONS, AnyOf, Only, Without, conditions_of, help_of, listed, seconds_of, section_of

LEAST: dict[str, dict[str, Any]] = {"prune": {"target_flops": 0.5}, "factorize": {"rank": 8}, "share": {"layers": 2}}
VALUES: dict[str, Any] = {  # of settings whose type does not give one
    "target_speedup": [2.0], "steps": 4, "unlabeled": "texts.txt", "augment_model": "writer", "match": "last", "calib_samples": 100,
}  # fmt: skip
TABLE = [
    (verb, name, condition)
    for verb in VERBS
    for name, field in VERBS[verb].settings.model_fields.items()
    for condition in conditions_of(field)
]


def value_of(verb: str, name: str) -> Any:
    """Return a value that a field accepts, other than its default."""
    if name in VALUES:
        return VALUES[name]
    field = VERBS[verb].settings.model_fields[name]
    kind = field.annotation
    while get_origin(kind) not in (None, Literal, list):
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return next(choice for choice in reversed(get_args(kind)) if choice != field.default)
    return (
        [2] if get_origin(kind) is list else {bool: not field.default, int: 3 if field.default == 2 else 2, float: 0.25, str: "auto"}[kind]
    )


def others(verb: str, condition: Only) -> list[Any]:
    """Return values of the condition's field with which the condition does not hold."""
    field = VERBS[verb].settings.model_fields[condition.field]
    if isinstance(condition, Without):
        return list(condition.values) or [value_of(verb, condition.field)]
    if not condition.values:
        return [False if field.annotation is bool else 0 if field.annotation is int else None]
    if condition.field == "groups":
        return [None]
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ("hidden", "logits", "theseus")
    return [choice for choice in choices if choice not in condition.values]


@pytest.mark.parametrize(("verb", "name", "condition"), TABLE, ids=lambda part: part if isinstance(part, str) else "")
def test_a_setting_that_is_ignored_is_refused(verb: str, name: str, condition: Only | AnyOf) -> None:
    parts = condition.conditions if isinstance(condition, AnyOf) else (condition,)
    for value in others(verb, parts[0]):
        document = {name: value_of(verb, name), **{part.field: None for part in parts}, parts[0].field: value}
        if not (
            verb == "prune" and (name.startswith(("target", "max_drop")) or value in ("vocab", "sparse") or parts[0].field == "max_drop")
        ):
            document = {**LEAST.get(verb, {}), **document}
        with pytest.raises(ValidationError, match=rf"({name}|{parts[0].field}) (goes|does not go) with "):
            VERBS[verb].settings.model_validate({key: value for key, value in document.items() if value is not None})


def test_the_table_covers_what_each_verb_can_ignore() -> None:
    conditional = {(verb, name) for verb, name, _ in TABLE}
    assert {
        ("prune", "recover_epochs"), ("prune", "pattern"), ("prune", "steps"), ("prune", "augment"), ("prune", "refit_epochs"),
        ("quantize", "calib_method"), ("quantize", "smooth_alpha"), ("quantize", "tune"), ("export", "threads"), ("share", "calib_samples"),
        ("distill", "relation_heads"), ("distill", "temperature"), ("distill", "match"), ("finetune", "lora_rank"), ("bench", "tokenize"),
    } <= conditional  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_has_a_section_and_help(verb: str) -> None:
    for name, field in VERBS[verb].settings.model_fields.items():
        assert section_of(field) in SECTIONS, name
        assert bool(help_of(VERBS[verb].settings, name)) == bool(conditions_of(field)), name


@pytest.mark.parametrize(
    ("verb", "document"),
    [
        ("prune", {"method": "sparse", "sparsity": 0.3}),
        ("prune", {"max_drop": 1.0, "recover_epochs": 2, "augment": 1}),
        ("distill", {"method": "hidden"}),
        ("distill", {"augment": 2}),
        ("distill", {"method": "tinybert"}),
        ("finetune", {"mode": "lora"}),
        ("quantize", {"method": "int4"}),
        ("quantize", {"runtime": "auto", "threads": [1, 2]}),
    ],
)
def test_settings_in_use_give_equal_settings(verb: str, document: dict[str, Any]) -> None:
    settings = VERBS[verb].settings.model_validate(document)
    assert settings.model_validate(settings.in_use()) == settings
    assert all(settings.in_use()[name] is not None for name in document)


class _Toy(Settings):
    method: Literal["a", "b", "c"] = "a"
    count: int = 0
    budget: float | None = None
    depth: Annotated[int | None, METHOD, Only("method", "b", "c"), Field(description="Depth.")] = None
    size: Annotated[int, METHOD, AnyOf(Only("method", "c"), Only("count")), Field(description="Size.")] = 1
    steps: Annotated[int | None, METHOD, Without("budget"), Field(description="Steps.")] = None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"depth": 3}, "depth goes with method b or c, not a"),
        ({"size": 2}, "size goes with method c, or with count"),
        ({"steps": 2, "budget": 0}, "steps does not go with budget"),
    ],
)
def test_messages_name_the_choices(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _Toy.model_validate(document)


@pytest.mark.parametrize("document", [{}, {"depth": None}, {"method": "c", "depth": 3, "size": 2}, {"count": 1, "size": 2}, {"steps": 2}])
def test_what_is_not_given_or_goes_together_is_accepted(document: dict[str, Any]) -> None:
    _Toy.model_validate(document)


@pytest.mark.parametrize(
    ("verb", "document"),
    [
        ("prune", {"method": "taylor", "target_flops": 0.5, "uniform": False, "refit": True, "recover": "after", "augment": 0}),
        ("prune", {"method": "vocab", "device": "auto", "calib_samples": None}),
        ("distill", {"method": ["theseus"], "augment": 0}),
        ("quantize", {"method": "fp16", "target": "auto", "calib_method": "minmax", "runtime": "onnxruntime"}),
        ("export", {"threads": [1], "precision": "auto"}),
    ],
)
def test_a_default_that_is_written_out_is_accepted(verb: str, document: dict[str, Any]) -> None:
    """Programs that call the Python API pass every keyword."""
    settings = VERBS[verb].settings
    assert settings.model_validate(document) == settings.model_validate(
        {key: value for key, value in document.items() if key in ("method", "target_flops")}
    )


@pytest.mark.parametrize("verb", VERBS)
def test_all_defaults_written_out_are_accepted(verb: str) -> None:
    settings = VERBS[verb].settings.model_validate(LEAST.get(verb, {}))
    assert type(settings).model_validate(settings.model_dump()) == settings


def test_help_says_where_a_setting_belongs() -> None:
    assert help_of(_Toy, "depth") == "not with --method a"  # one choice left out, two that count
    assert help_of(_Toy, "size") == "only with --method c, or with --count"
    assert help_of(_Toy, "steps") == "not with --budget"
    assert help_of(_Toy, "count") == ""
    assert help_of(PruneSettings, "steps") == "only with --method obs or fisher; not with --max-drop"
    assert listed(("a",)) == "a"


def test_times_have_units() -> None:
    assert (seconds_of("90s"), seconds_of("5m"), seconds_of("1.5h")) == (90, 300, 5400)
    for text in ("", "5", "0s", "8d", "169h", "-1s"):
        with pytest.raises(ValueError, match="90s, 5m or 1.5h"):
            seconds_of(text)
