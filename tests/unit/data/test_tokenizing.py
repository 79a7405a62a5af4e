"""Texts that no tokenizer takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from compress.core.errors import DataError, ModelError
from compress.data.encoding import encode_examples
from compress.data.input_spec import InputSpec, Target
from compress.data.texts import examples_from_texts
from compress.data.tokenizing import encode_batch
from compress.models.tokenizer import load_tokenizer
from tests import tiny

HALF = "a \ud83d b"  # what remains of a dog if a program cuts between two UTF-16 units


@pytest.mark.parametrize("target", ["class", "tags", "span"])
def test_half_of_a_surrogate_pair_is_named(tmp_path: Path, target: Target) -> None:
    tiny.write_tokenizer(tmp_path)
    pairs = [("who ?", "the dog"), ("who ?", HALF)]
    texts = pairs if target == "span" else [" ".join(pair) for pair in pairs]
    spec = InputSpec(target, max_length=16)
    with pytest.raises(DataError, match=r"text 2, .*\\ud83d.*half of a surrogate pair") as caught:
        encode_examples(load_tokenizer(tmp_path), examples_from_texts(texts, spec), spec, 0)
    assert caught.value.exit_code == 4


def test_other_wrong_types_stay_errors_of_the_caller(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    spec = InputSpec("class", max_length=16)
    examples = examples_from_texts(["a", "b"], spec)
    examples.texts[0] = (3,)  # type: ignore[index]
    with pytest.raises(TypeError):
        encode_examples(load_tokenizer(tmp_path), examples, spec, 0)


def test_a_tokenizer_that_lacks_its_own_tokens_is_damaged() -> None:
    damaged = Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]"))  # noqa: S106
    with pytest.raises(ModelError, match=r"the tokenizer fails: .*\[UNK\]"):
        encode_batch(damaged, ["b"])


class PanicException(BaseException):
    """As pyo3 raises it."""


class Panicking:
    """A tokenizer that fails on an assertion of its own."""

    def encode_batch(self, inputs: list[str]) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")


def test_a_panic_of_the_library_is_a_damaged_tokenizer() -> None:
    with pytest.raises(ModelError, match="the tokenizer fails: called"):
        encode_batch(Panicking(), ["a"])  # type: ignore[arg-type]
