"""What the settings of all verbs share: the strict base class, markers on fields, and types with their bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator
from pydantic.fields import FieldInfo

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Split = Literal["auto", "train", "validation", "test"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
TargetSpeedup = Annotated[float, Field(gt=1, le=100)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
LONGEST = 7 * 24 * 3600  # seconds

DEVICE = "Where to compute; auto uses a GPU if there is one."
RAY = "Run stages on a Ray cluster: local starts one on this machine, auto uses the one that runs here, HOST:PORT that one."
CHECK = "Compare an artifact's outputs, when it is opened, with those that it carries."
UNLABELED = "a .txt file with one text per line, or a table with the task's columns."


@dataclass(frozen=True)
class Section:
    """Marks the section of the help page in which a field stands."""

    title: str


INPUT = Section("Input and output")
TASK = Section("Task")
OBJECTIVE = Section("Objective")
SERVING = Section("Serving point")
BUDGET = Section("Budget")
TARGET = Section("Target")
METHOD = Section("Method")
CALIBRATION = Section("Calibration")
TRAINING = Section("Training")
HARDWARE = Section("Hardware")
ADVANCED = Section("Advanced")
SECTIONS = (
    INPUT,
    OBJECTIVE,
    SERVING,
    BUDGET,
    TARGET,
    METHOD,
    TASK,
    CALIBRATION,
    TRAINING,
    HARDWARE,
    ADVANCED,
)  # in the order of a help page


@dataclass(frozen=True, init=False)
class Only:
    """Marks a field that is read only if another field has one of some values: `Only("method", "obs", "fisher")`.

    Without values: only if the other field is set, that is neither None nor false nor 0. `option` is the command-line option
    of the other field if it has another name.
    """

    field: str
    values: tuple[object, ...]
    option: str

    def __init__(self, field: str, *values: object, option: str = "") -> None:
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "option", option or flag(field))

    def holds(self, settings: Settings) -> bool:
        """Return whether these settings read the field."""
        return is_chosen(settings.chosen(self.field), self.values)

    def describe(self, option: bool = False) -> str:
        """Return the condition in words; `option`: as written on the command line."""
        name = self.option if option else self.field
        return f"{name} {listed(self.values)}" if self.values else name


class Without(Only):
    """Marks a field that is read only if another field has none of some values; without values: only if it is not set."""

    def holds(self, settings: Settings) -> bool:
        """Return whether these settings read the field."""
        return not super().holds(settings)


@dataclass(frozen=True, init=False)
class AnyOf:
    """Marks a field that is read if at least one of several conditions holds."""

    conditions: tuple[Only, ...]

    def __init__(self, *conditions: Only) -> None:
        object.__setattr__(self, "conditions", conditions)

    def holds(self, settings: Settings) -> bool:
        """Return whether these settings read the field."""
        return any(condition.holds(settings) for condition in self.conditions)

    def describe(self, option: bool = False) -> str:
        """Return the conditions in words; `option`: as written on the command line."""
        return ", or with ".join(condition.describe(option) for condition in self.conditions)


Condition = Only | AnyOf


def is_chosen(chosen: tuple[object, ...], values: tuple[object, ...]) -> bool:
    """Return whether one of the chosen values is among `values`; without these, whether one is set."""
    # A count of 0 means none, but an accuracy budget of 0.0 points is a budget.
    return bool(set(chosen) & set(values)) if values else any(value or type(value) is float for value in chosen)


def conditions_of(field: FieldInfo) -> list[Condition]:
    """Return the conditions under which a field is read; all of them must hold."""
    return [mark for mark in field.metadata if isinstance(mark, Condition)]


def section_of(field: FieldInfo) -> Section:
    """Return the help section of a field."""
    return next(mark for mark in field.metadata if isinstance(mark, Section))


def help_of(model: type[Settings], name: str) -> str:
    """Return where a field belongs, for its help text: `only with --method obs or fisher`; empty if it always counts."""
    return "; ".join(_note(model, condition) for condition in conditions_of(model.model_fields[name]))


def _note(model: type[Settings], condition: Condition) -> str:
    """Return a condition in words; of many choices those that are left out, if they are fewer."""
    if isinstance(condition, Without):
        return f"not with {condition.describe(option=True)}"
    if isinstance(condition, Only) and condition.values:
        annotation = model.model_fields[condition.field].annotation
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        others = tuple(value for value in choices if value not in condition.values)
        if 0 < len(others) < len(condition.values):
            return f"not with {flag(condition.field)} {listed(others)}"
    return f"only with {condition.describe(option=True)}"


def flag(field: str) -> str:
    """Return the command-line option of a field."""
    return f"--{field.replace('_', '-')}"


def listed(values: tuple[object, ...]) -> str:
    """Write alternatives: `a, b or c`."""
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as `90s`, `5m`, `1.5h`.

    Raises:
        ValueError: the text has another form, is zero, or is more than a week.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST:
        raise ValueError("write a time of at most a week as 90s, 5m or 1.5h")
    return seconds


class Settings(BaseModel):
    """Base of every verb's settings: strict types, no unknown keys, no NaN, and no setting that the others make meaningless."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _check_conditions(cls, document: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse a setting that was given and that the other settings make meaningless; defaults are never refused, written out or not."""
        settings = validate(document)
        if isinstance(document, Mapping):
            for name, field in cls.model_fields.items():
                if document.get(name) is not None and getattr(settings, name) != field.get_default(call_default_factory=True):
                    for condition in conditions_of(field):
                        settings.check_read(name, condition)
        return settings

    def check_read(self, name: str, condition: Condition) -> None:
        """Check that a setting that was given is read.

        Raises:
            ValueError: it is ignored; the message names the choices that it belongs to.
        """
        if condition.holds(self):
            return
        if isinstance(condition, Without):
            raise ValueError(f"{name} does not go with {condition.describe()}")
        chosen = ", ".join(map(str, self.chosen(condition.field))) if isinstance(condition, Only) and condition.values else ""
        other = (
            f" ({condition.option} on the command line)"
            if isinstance(condition, Only) and condition.option != flag(condition.field)
            else ""
        )
        raise ValueError(f"{name} goes with {condition.describe()}{other}" + (f", not {chosen}" if chosen else ""))

    def chosen(self, field: str) -> tuple[object, ...]:
        """Return the value, or the values, that a condition on `field` compares."""
        value = getattr(self, field)
        return tuple(value) if isinstance(value, list) else (value,)

    def in_use(self) -> dict[str, object]:
        """Return the settings that are read, as JSON: a document that gives equal settings."""
        fields = type(self).model_fields
        document = self.model_dump(mode="json")
        return {name: value for name, value in document.items() if all(each.holds(self) for each in conditions_of(fields[name]))}

    @property
    def reads_train(self) -> bool:
        """Whether the verb reads the training split; unlabeled texts, if given, replace it."""
        return not getattr(self, "unlabeled", None)
