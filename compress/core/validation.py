"""Validate documents; errors of pydantic become sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from compress.core.errors import CompressError, did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], document: object, where: str, error_class: type[CompressError]) -> Model:
    """Validate `document` against `model`.

    Raises:
        error_class: one line for each fault, with the path of its key and the nearest known key.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = [_sentence(model, fault) for fault in error.errors()]
        text = faults[0] if len(faults) == 1 else "".join(f"\n  - {fault}" for fault in faults)
        raise error_class(f"{where}: {text}") from error


def _sentence(model: type[BaseModel], fault: ErrorDetails) -> str:
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        owner = ".".join(path[:-1])
        return f"unknown key '{path[-1]}'{f' in {owner}' if owner else ''}{did_you_mean(path[-1], known_keys(_inner(model, path[:-1])))}"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = fault.get("input")
    shown = f", not {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    if fault["type"] == "literal_error" and isinstance(given, str):
        shown += did_you_mean(given, re.findall(r"'([^']*)'", fault.get("ctx", {}).get("expected", "")))
    return f"{key}: {message[0].lower()}{message[1:]}{shown}" if key else message + shown


def _inner(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """Return the model that a path of keys leads to, or the last model on the way."""
    for part in path:
        field = model.model_fields.get(part)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


def known_keys(model: type[BaseModel]) -> list[str]:
    """Return the keys that a document of this model may have, as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]
