"""docs/python-api.md names functions and results as they are. Its snippets are run by `tests/integration/test_snippets.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import compress
from compress.results import objects

PAGE = Path(compress.__file__).parent.parent / "docs" / "python-api.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("signature", re.findall(r"^\| `(\w+\(.*?\))` \|", TEXT, re.MULTILINE))
def test_signatures_are_those_of_the_functions(signature: str) -> None:
    name, _, arguments = signature.partition("(")
    parameters = inspect.signature(getattr(compress, name)).parameters.values()
    keyword_only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    shown: list[str] = []
    for parameter in parameters:
        if keyword_only and parameter.name == keyword_only[0]:
            shown.append("*")
        if parameter.kind is parameter.VAR_KEYWORD:
            shown.append(f"**{parameter.name}")
        else:
            shown.append(parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}")
    assert arguments.rstrip(")").replace("=()", "=(") == ", ".join(shown).rstrip(")").replace("=()", "=(")


def test_results_are_named_as_they_are() -> None:
    for name in re.findall(r"`(\w+Result)`", TEXT):
        assert hasattr(objects, name)
