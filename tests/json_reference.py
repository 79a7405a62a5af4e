"""Write the tables of keys in docs/json.md from the types in `compress/results/`.

A table stands between `<!-- keys:NAME -->` and `<!-- /keys -->`, where NAME is a type. `python -m tests.update_docs` writes it and
`tests/unit/test_json_docs.py` checks that it is current.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from compress.results import checkpoints, graphs, measurements, runs, search, sweeps, values

PAGE = Path(__file__).parent.parent / "docs" / "json.md"
MODULES = (values, checkpoints, graphs, measurements, runs, search, sweeps)
BLOCK = re.compile(r"<!-- keys:(\w+) -->\n.*?<!-- /keys -->", re.DOTALL)
SHARED = {"LayerDocument": "layer", "Ratio": "ratio", "Speedup": "speedup", "InputSpecDocument": "input spec", "RuntimeHints": "runtime"}
NAMES = {int: "integer", float: "number", str: "string", bool: "boolean", object: "any", type(None): "null"}


def type_of(name: str) -> Any:
    """Return a TypedDict by its name."""
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


def descriptions(kind: Any) -> dict[str, str]:
    """Return the description of each key: the string below its annotation, also of the classes that it extends."""
    classes = {
        node.name: node
        for module in MODULES
        for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    return dict(_described(classes, kind.__name__))


def _described(classes: dict[str, ast.ClassDef], name: str) -> Iterator[tuple[str, str]]:
    if name not in classes:
        return
    for base in classes[name].bases:
        yield from _described(classes, ast.unparse(base))
    key = None
    for node in classes[name].body:
        if isinstance(node, ast.AnnAssign):
            key = ast.unparse(node.target)
        elif key and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield key, str(node.value.value)


def type_name(kind: Any) -> str:
    """Return a type as readers of JSON know it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return f"[{SHARED[kind.__name__]}](#shared-values)" if kind.__name__ in SHARED else "object"
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"object of {type_name(arguments[1])}"
    return NAMES[kind]


def rows(kind: Any, prefix: str = "", root: dict[str, Any] | None = None) -> Iterator[str]:
    """Yield a table row for each key of a TypedDict, and below it for the keys of objects within it.

    Keys that mean the same at the `root` of the table are not repeated.
    """
    texts, hints = descriptions(kind), get_type_hints(kind, include_extras=True)
    for key, hint in hints.items():
        if root is not None and root.get(key) == hint:
            continue
        optional = get_origin(hint) is NotRequired or not kind.__total__
        inner = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
        shown = f"{type_name(inner)}{', optional' if optional else ''}"
        yield f"| `{prefix}{key}` | {shown} | {texts.get(key, '').replace('|', chr(92) + '|')} |"
        nested, suffix = nested_type(inner)
        if nested is not None and nested.__name__ not in SHARED and nested is not kind:
            yield from rows(nested, f"{prefix}{key}{suffix}.", hints if root is None else root)


def nested_type(kind: Any) -> tuple[Any, str]:
    """Return the TypedDict within a type, and how its place is written: `[]` for a list, `.*` for an object of them."""
    if is_typeddict(kind):
        return kind, ""
    marks = {list: "[]", dict: ".*"}
    for argument in get_args(kind):
        nested, suffix = nested_type(argument)
        if nested is not None:
            return nested, marks.get(get_origin(kind), "") + suffix
    return None, ""


def table(name: str) -> str:
    """Return the block of a type, markers included."""
    lines = ["| key | type | what it holds |", "|---|---|---|", *rows(type_of(name))]
    return f"<!-- keys:{name} -->\n\n" + "\n".join(lines) + "\n\n<!-- /keys -->"


def updated(text: str) -> str:
    """Return the page with every table written again."""
    return BLOCK.sub(lambda match: table(match[1]), text)
