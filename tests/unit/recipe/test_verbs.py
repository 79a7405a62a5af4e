"""The table of verbs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from compress import cli
from compress.recipe import verbs as module
from compress.recipe.verbs import VERBS, code_version


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
    monkeypatch.setattr(module.fs, "digest_file", lambda path: "other" if path.parent.name == VERBS[verb].packages[-1] else "same")
    code_version.cache_clear()
    changed = code_version(verb)
    monkeypatch.setattr(module.fs, "digest_file", lambda path: "same")
    code_version.cache_clear()
    same = code_version(verb)
    code_version.cache_clear()
    assert len({before, changed, same}) == 3


@pytest.mark.parametrize("verb", VERBS)
def test_the_packages_of_a_verb_hold_all_the_code_that_it_runs(verb: str) -> None:
    """Import the verb's function in a fresh process: every module of ours that comes with it is in one of its packages."""
    code = (
        "import sys\n"
        "from compress.recipe.verbs import VERBS\n"
        f"before = set(sys.modules)\nVERBS[{verb!r}].load()\n"
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith('compress.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    packages = {name.split(".")[1] for name in done.stdout.split() if name.count(".") > 1}
    assert packages <= set(VERBS[verb].packages)
