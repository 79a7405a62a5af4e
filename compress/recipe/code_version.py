"""The code version of a verb: a digest of the source files that decide its result, derived from the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from compress.core.digests import digest_file, digest_json
from compress.recipe.verbs import VERBS

PACKAGE = Path(__file__).parent.parent
# These check, print, store and describe. Settings are in the cache key with their values, whatever their code says.
NEUTRAL = ("compress.core", "compress.settings", "compress.results", "compress.stage", "compress.recipe")
DECISIVE = ("compress.core.processes",)  # splits batches between processes
_DOTTED = re.compile(r"compress(\.\w+)+")


@cache
def code_version(verb: str) -> str:
    """Return a digest of the sources that decide the result of a verb: other code, another cache key."""
    return digest_json({path.relative_to(PACKAGE).as_posix(): digest_file(path) for path in sources(verb)})


def sources(verb: str) -> list[Path]:
    """Return the source files that the stage of a verb imports, directly or through others, except the neutral ones.

    A module of `compress.settings` counts if a stage imports that very module: it then computes with what it defines there.
    """
    reached: set[str] = set()
    waiting = {VERBS[verb].function.partition(":")[0]}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= {name for name in imported_modules(module) if decides(name)} - reached
    return sorted(source_of(module) for module in reached)


def decides(module: str) -> bool:
    """Return whether a module that a stage imports can change its result."""
    if module in DECISIVE or module.startswith("compress.settings."):
        return True
    return module != "compress" and not any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


@cache
def imported_modules(module: str) -> frozenset[str]:
    """Return the modules of this package that a module imports anywhere, or starts as a separate process (`compress.a.b`)."""
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    neutral = not decides(module) or module.startswith("compress.settings.")
    return frozenset() if neutral else frozenset(_named_modules(tree))


def _named_modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "compress":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if is_module(name) else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("compress."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value) and is_module(node.value):
            yield node.value


def source_of(module: str) -> Path:
    """Return the source file of a module, of a package its `__init__.py`."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_module(name: str) -> bool:
    """Return whether a dotted name is a module (not a function or class)."""
    return source_of(name).is_file()
