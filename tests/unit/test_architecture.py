"""docs/architecture.md is what the tree is: its folders, and the direction of every import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import compress

ROOT = Path(compress.__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FOLDERS, LEVELS = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)[:2]
LEVEL = {name: number for number, line in enumerate(LEVELS.splitlines()) for name in line.split(", ")}
SOURCES = sorted((ROOT / "compress").rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def package_of(module: str) -> str:
    """Return the package, or the module at the top, that a module belongs to."""
    name = module.partition(".")[2].partition(".")[0]
    return "compress" if name in ("", "__main__") else name


@cache
def imports(module: str) -> frozenset[str]:
    """Return the modules of this package that a module imports, at its top or in its functions."""
    return frozenset(_imports(module) - {module})


def _imports(module: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "compress":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def test_the_folder_map_is_the_tree() -> None:
    shown = set(re.findall(r"^  (\w+)(?:/|\.py) ", FOLDERS, re.MULTILINE))
    tree = {path.name for path in (ROOT / "compress").iterdir() if (path / "__init__.py").is_file()} | {
        path.stem for path in (ROOT / "compress").glob("*.py") if not path.stem.startswith("__")
    }
    assert shown == tree
    top = set(re.findall(r"^(\w+)/ ", FOLDERS, re.MULTILINE))
    assert all((ROOT / name).is_dir() for name in top)


def test_every_package_has_a_level() -> None:
    assert set(LEVEL) == {package_of(module) for module in MODULES}


def test_imports_point_downwards() -> None:
    """So that no two packages import each other."""
    assert [f"{module} -> {name}" for module in MODULES for name in imports(module) if _points_upwards(module, name)] == []


def _points_upwards(module: str, imported: str) -> bool:
    package, other = package_of(module), package_of(imported)
    return other != package and LEVEL[other] <= LEVEL[package]


def cycles(path: list[str], done: set[str]) -> Iterator[list[str]]:
    """Yield the import circles that a depth-first search from the end of `path` meets."""
    for name in imports(path[-1]):
        if name in path:
            yield [*path[path.index(name) :], name]
        elif name not in done:
            yield from cycles([*path, name], done)
    done.add(path[-1])


def test_no_files_import_each_other_in_a_circle() -> None:
    done: set[str] = set()
    assert [circle for module in MODULES if module not in done for circle in cycles([module], done)] == []


def test_nothing_imports_from_the_package_itself() -> None:
    importers = [module for module in MODULES if "compress" in imports(module)]
    assert importers == []


def test_the_modules_of_recipes_are_named() -> None:
    section = TEXT.partition("## Recipes")[2].partition("## ")[0]
    named = {name for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == {path.stem for path in (ROOT / "compress" / "recipe").glob("*.py")} - {"__init__"}
