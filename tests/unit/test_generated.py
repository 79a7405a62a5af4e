"""Generated files are current."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_type_hints

import pytest

from compress import api
from compress.recipe.verbs import VERBS
from compress.settings import keywords
from tests import update_types

FUNCTIONS = {name: "evaluate" if name == "eval" else name for name in VERBS}


@pytest.mark.parametrize(
    ("path", "source"), [(update_types.KEYWORDS, update_types.keywords), (update_types.OBJECTS, update_types.objects)], ids=lambda x: ""
)
def test_generated_sources_are_current(path: Path, source: object) -> None:
    assert callable(source)
    assert path.read_text(encoding="utf-8") == source(), "run: python tests/update_types.py"


@pytest.mark.parametrize("verb", VERBS)
def test_keywords_are_the_settings_of_the_verb(verb: str) -> None:
    settings = VERBS[verb].settings
    typed = getattr(keywords, f"{settings.__name__.removesuffix('Settings')}Keywords")
    assert set(get_type_hints(typed)) == set(settings.model_fields)
    parameter = inspect.signature(getattr(api, FUNCTIONS[verb])).parameters["settings"]
    assert parameter.annotation == f"Unpack[{typed.__name__}]"
