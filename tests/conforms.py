"""Checks that a JSON document has exactly the keys and types of a TypedDict."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict


def faults(value: object, kind: Any, where: str = "$", open_ended: bool = False) -> Iterator[str]:
    """Yield what of a value does not conform to a type; with `open_ended` unknown keys at the top are allowed."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return
    if is_typeddict(kind):
        yield from _mapping_faults(value, kind, where, open_ended)
    elif origin in (Union, types.UnionType):
        if all(list(faults(value, option, where)) for option in arguments):
            yield f"{where}: {value!r:.80} is none of {kind}"
    elif origin is Literal:
        if value not in arguments:
            yield f"{where}: {value!r:.80} is none of {arguments}"
    elif origin is list:
        if not isinstance(value, (list, tuple)):
            yield f"{where}: {value!r:.80} is no list"
        else:
            for position, item in enumerate(value):
                yield from faults(item, arguments[0], f"{where}[{position}]")
    elif origin is dict:
        if not isinstance(value, Mapping):
            yield f"{where}: {value!r:.80} is no object"
        else:
            for key, item in value.items():
                yield from faults(item, arguments[1], f"{where}.{key}")
    elif not _is(value, kind):
        yield f"{where}: {value!r:.80} is no {getattr(kind, '__name__', kind)}"


def required_keys(kind: Any) -> set[str]:
    """Return the keys that a TypedDict requires; `__required_keys__` does not see through postponed annotations."""
    optional = {key for key, hint in get_type_hints(kind, include_extras=True).items() if get_origin(hint) is NotRequired}
    return set(get_type_hints(kind)) - optional if kind.__total__ else set()


def _mapping_faults(value: object, kind: Any, where: str, open_ended: bool) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where}: {value!r:.80} is no object"
        return
    hints = get_type_hints(kind)
    for key in sorted(required_keys(kind) - set(value)):
        yield f"{where}: the key '{key}' is missing"
    for key, item in value.items():
        if key in hints:
            yield from faults(item, hints[key], f"{where}.{key}")
        elif not open_ended:
            yield f"{where}: unknown key '{key}'"


def _is(value: object, kind: Any) -> bool:
    if kind in (None, type(None)):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def undocumented(result: Mapping[str, object], *kinds: Any) -> list[str]:
    """Return what of a document does not conform to several TypedDicts together: each key belongs to one of them."""
    parts = [{key: value for key, value in result.items() if key in get_type_hints(kind)} for kind in kinds]
    unknown = set(result) - {key for part in parts for key in part}
    known = [fault for part, kind in zip(parts, kinds, strict=True) for fault in faults(part, kind)]
    return [*known, *(f"unknown key '{key}'" for key in sorted(unknown))]
