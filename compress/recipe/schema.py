"""A recipe as a checked object: top-level keys, gates, and stages whose settings are typed by their verb."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from compress.data.spec import TaskSpec
from compress.recipe.verbs import Verb
from compress.settings import Settings
from compress.stage import is_spec

MODEL = "model"  # how a stage's `from` names the recipe's own model
SCHEMA = 1


class Gates(BaseModel):
    """Limits that the result must keep; else the run ends with exit code 6."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    max_drop: float | None = Field(None, ge=0, le=100, description="points of the main metric, first against last evaluated model")
    min_speedup: float | None = Field(None, gt=0, description="first against last benchmarked model, in the first cell")


class RecipeDocument(BaseModel):
    """The top level of a recipe file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**32)
    model: str | None = None
    task: str | dict[str, object] | None = None
    gates: Gates = Field(default_factory=lambda: Gates.model_validate({}))
    stages: dict[str, dict[str, object]] = Field(min_length=1)


@dataclass(frozen=True)
class Stage:
    """One stage: a verb, its input models by name, and its settings.

    `sources` are names of earlier stages, `model`, or model references. A verb with these roles also has a `teacher` (and
    `more_teachers`) and a `student`, which is the name of a source or a SPEC.
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
    document: Mapping[str, object]


def stage_of(reference: str) -> str:
    """Return the stage part of a reference: `slim` of `slim`, and of `slim/2x`, one of its models."""
    return reference.partition("/")[0]
