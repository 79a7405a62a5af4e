"""Call a tokenizer; a text that is none is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.core.errors import DataError, ModelError
from compress.core.system_errors import resource_errno

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

SHOWN = 60  # characters of a text in a message


def encode_batch(tokenizer: Tokenizer, inputs: Sequence[Any], fast: bool = False, **options: bool) -> list[Encoding]:
    """Tokenize texts, pairs of texts, or lists of words, as `Tokenizer.encode_batch`; with `fast` without offsets.

    Raises:
        DataError: a text has half of a surrogate pair, which is no character: it cannot be tokenized.
        ModelError: the tokenizer is damaged: it lacks a token that it needs.
    """
    call = tokenizer.encode_batch_fast if fast else tokenizer.encode_batch
    try:
        return call(list(inputs), **options)
    except TypeError as error:
        raise _half_a_character(inputs) or error from error
    except BaseException as error:
        if not (type(error) is Exception or is_panic(error)) or resource_errno(error) is not None:  # the library's own errors have no class
            raise
        raise ModelError(f"the tokenizer fails: {(str(error).splitlines() or ['?'])[0]}", "copy the tokenizer of its base model") from error


def cut_side(tokenizer: Tokenizer) -> str:
    """Return the side on which a tokenizer cuts long texts, `left` or `right`."""
    return tokenizer.truncation["direction"] if tokenizer.truncation else "right"


def is_panic(error: BaseException) -> bool:
    """Return whether a library in Rust failed on an assertion of its own, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


def _half_a_character(inputs: Sequence[Any]) -> DataError | None:
    """Return the error that names the first text with a lone surrogate, or None."""
    for number, entry in enumerate(inputs, start=1):
        for text in [entry] if isinstance(entry, str) else entry:
            at = next((place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
            if at is not None:
                return DataError(
                    f"text {number}, {text[max(0, at - SHOWN) : at + SHOWN]!a}, has half of a surrogate pair: it is no Unicode text",
                    "repair or drop it; in Python: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
                )
    return None
