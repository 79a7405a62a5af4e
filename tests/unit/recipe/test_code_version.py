"""The code version covers all code that decides a verb's result, and no other."""

from __future__ import annotations

import ast
import sys

import pytest

from compress.recipe import code_version as module
from compress.recipe.code_version import PACKAGE, code_version, sources
from compress.recipe.verbs import VERBS

COUNTED_CORE = {"core/processes.py"}  # of the core, all else prints, checks and stores


def names(verb: str) -> set[str]:
    """Return the sources of a verb, relative to the package."""
    return {path.relative_to(PACKAGE).as_posix() for path in sources(verb)}


@pytest.mark.parametrize(
    ("verb", "inside", "outside"),
    [
        ("finetune", ["training/loop.py", "core/processes.py", "models/family.py"], ["distill/__init__.py", "quantize/method_search.py"]),
        ("prune", ["prune/search.py", "export/graph.py", "distill/losses.py", "training/loop.py"], ["report/card.py"]),
        ("distill", ["distill/losses.py", "training/loop.py", "settings/distill_losses.py"], ["prune/search.py"]),
        ("quantize", ["quantize/dynamic.py", "export/graph.py", "benchmark/tuning.py"], ["prune/search.py"]),
        ("bench", ["benchmark/latency.py", "benchmark/cold_start.py"], ["training/loop.py"]),
        ("eval", ["benchmark/accuracy.py", "data/metrics.py"], ["training/loop.py"]),
        ("factorize", ["factorize/__init__.py", "editing/reconstruction.py"], ["distill/losses.py", "prune/search.py"]),
        ("share", ["share/__init__.py", "share/layers.py"], ["distill/losses.py", "prune/search.py"]),
        ("export", ["export/graph.py", "export/tune.py"], ["training/loop.py", "quantize/dynamic.py"]),
    ],
)
def test_sources_follow_the_imports(verb: str, inside: list[str], outside: list[str]) -> None:
    """`cold_start` is started by its dotted name in a separate process."""
    assert all((PACKAGE / name).is_file() for name in [*inside, *outside])
    assert set(inside) <= names(verb)
    assert not set(outside) & names(verb)


def test_every_verb_is_covered() -> None:
    marks = test_sources_follow_the_imports.pytestmark  # pyright: ignore[reportFunctionMemberAccess]
    assert {row[0] for mark in marks for row in mark.args[1]} == set(VERBS)
    assert all((PACKAGE / name).is_file() for name in COUNTED_CORE)


@pytest.mark.parametrize("verb", VERBS)
def test_what_prints_checks_and_stores_does_not_count(verb: str) -> None:
    for name in names(verb):
        package = name.partition("/")[0]
        assert package not in {"cli", "report", "recipe", "results", "api.py", "__init__.py", "stage.py"}
        assert package != "core" or name in COUNTED_CORE
        assert name != "settings/__init__.py"


def test_all_of_a_stage_that_is_loaded_is_covered() -> None:
    """Import a stage in earnest: what it loads of the deciding packages, the stages of other verbs aside, is among its sources."""
    VERBS["factorize"].load()
    expected = {name for name in sys.modules if name.startswith(("compress.factorize", "compress.editing.reconstruction"))}
    covered = names("factorize")
    assert all(module.source_of(name).relative_to(PACKAGE).as_posix() in covered for name in expected)


def test_every_import_is_resolved() -> None:
    """No module of this package is imported in a way that the digest does not see."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} has a relative import"


def test_another_source_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(changed: str) -> str:
        assert changed == "none.py" or (PACKAGE / changed).is_file()
        monkeypatch.setattr(module, "digest_file", lambda path: "other" if path.match(changed) else "same")
        code_version.cache_clear()
        return code_version("distill")

    same = version("none.py")
    assert version("distill/losses.py") != same
    assert version("core/processes.py") != same
    assert version("core/console.py") == version("prune/search.py") == same
    monkeypatch.undo()
    code_version.cache_clear()
