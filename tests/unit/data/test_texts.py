"""Examples from texts alone."""

from __future__ import annotations

from typing import Any

import pytest

from compress.core.errors import DataError
from compress.data.input_spec import InputSpec, Target
from compress.data.texts import examples_from_texts


@pytest.mark.parametrize("target", ["class", "value", "tags", "span", "vector"])
@pytest.mark.parametrize(("wrong", "kind"), [(1, "int"), (None, "NoneType"), (b"text", "bytes"), (("a", 2.5), "float")])
def test_what_is_no_text_is_named_by_its_position(target: Target, wrong: Any, kind: str) -> None:
    right: Any = ("a question", "its context") if target == "span" else "a text"
    with pytest.raises(DataError, match=f"input 2 is not a text but of type {kind}"):
        examples_from_texts([right, wrong], InputSpec(32, target))
