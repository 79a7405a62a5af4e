"""The table of verbs."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from compress import cli
from compress.recipe import verbs as module
from compress.recipe.verbs import VERBS, code_version

ROOT = Path(cli.__file__).parent.parent


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_functions_take_inputs_settings_and_an_output(verb: module.Verb) -> None:
    function = verb.load()
    assert list(inspect.signature(function).parameters) == ["inputs", "settings", "output"]
    assert inspect.signature(function).parameters["settings"].annotation == verb.settings.__name__


def test_every_verb_of_the_table_has_a_command() -> None:
    folder = Path(cli.__file__).parent
    assert all((folder / f"{ {'eval': 'evaluate'}.get(name, name) }.py").is_file() for name in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_code_versions_follow_the_packages(verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another source in a package that the verb names: another key. Another one elsewhere: the same."""
    code_version.cache_clear()
    before = code_version(verb)
    monkeypatch.setattr(module.digests, "digest_file", lambda path: "other" if path.parent.name == VERBS[verb].packages[-1] else "same")
    code_version.cache_clear()
    changed = code_version(verb)
    monkeypatch.setattr(module.digests, "digest_file", lambda path: "same")
    code_version.cache_clear()
    same = code_version(verb)
    code_version.cache_clear()
    assert len({before, changed, same}) == 3


@pytest.mark.parametrize(
    ("verb", "file"),
    [("finetune", "processes.py"), ("distill", "processes.py"), ("distill", "distill_losses.py"), ("prune", "distill_losses.py")],
)
def test_code_versions_follow_single_files(verb: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for other in ("", file):
        monkeypatch.setattr(module.digests, "digest_file", lambda path, other=other: "other" if path.name == other else "same")
        code_version.cache_clear()
        found.append(code_version(verb))
    code_version.cache_clear()
    assert found[0] != found[1]


def imports(module_name: str) -> set[str]:
    """Return the modules of this package that a module imports, at its top or in its functions."""
    path = ROOT.joinpath(*module_name.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("compress"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("compress.")}
    return found - {"compress"}


def is_module(name: str) -> bool:
    """Tell a module's dotted name from a function's."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_the_packages_of_a_verb_hold_all_the_code_that_it_runs(verb: str) -> None:
    """Else a change of that code would not run the stage again."""
    reached, waiting = set(), {VERBS[verb].function.partition(":")[0]}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imports(name) - reached
    packages = {name.split(".")[1] for name in reached if (ROOT / name.split(".")[1]).is_dir()} - {"core", "settings"}
    assert packages <= set(VERBS[verb].packages)
