"""Load and save tokenizers: as transformers opens them, through the `tokenizers` library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core import files
from compress.core.errors import ModelError
from compress.data.encoding import cut_on_the_left
from compress.data.tokenizing import is_panic
from compress.models.family import FAMILIES
from compress.models.resolved_tokenizer import SOURCES, TOKENIZER, TYPES, ResolvedTokenizer, mark_resolved, read_settings, resolve_tokenizer
from compress.models.token_types import largest_type, processor_document, set_processor, without_types

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MASK_TOKENS = ("[MASK]", "<mask>")


def load_tokenizer(folder: Path, vocab_size: int | None = None) -> Tokenizer:
    """Open the tokenizer of a model folder as transformers does, without padding.

    Its token types are those that the model gets: 0 if `model_input_names` lacks them or the model has one type. It truncates nothing;
    if the folder says `truncation_side: left`, `cut_texts` will cut texts on the left.

    Raises:
        ModelError: no tokenizer, an unreadable one, or one with more tokens than the model has embeddings (`vocab_size`).
    """
    resolved = _resolve(folder)
    tokenizer = _opened(folder, resolved)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if vocab_size is not None and largest >= vocab_size:
        raise ModelError(
            f"the tokenizer in {folder} has ids up to {largest}, but the model has {vocab_size} embeddings",
            "the tokenizer belongs to another model",
        )
    return cut_on_the_left(tokenizer) if resolved.truncation_side == "left" else tokenizer


def truncation_side(folder: Path) -> str:
    """Return the side on which long texts are cut, `left` or `right`."""
    return _resolve(folder).truncation_side


def splits_special_tokens(folder: Path) -> bool:
    """Return whether special tokens in a text are read as ordinary text."""
    return _resolve(folder).split_special_tokens


def splits_bytes(folder: Path) -> bool:
    """Return whether the tokenizer is a byte-level one, which tells words by the space before them."""
    from tokenizers.pre_tokenizers import ByteLevel

    return isinstance(load_tokenizer(folder).pre_tokenizer, ByteLevel)


def _resolve(folder: Path) -> ResolvedTokenizer:
    if not any((folder / name).is_file() for name in (TOKENIZER, "vocab.txt", "vocab.json")):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json or vocab.txt)", "copy the tokenizer files of its base model into it")
    try:
        return resolve_tokenizer(folder)
    except Exception as error:  # the library raises bare Exception
        raise _unreadable(folder, error) from error


def _opened(folder: Path, resolved: ResolvedTokenizer) -> Tokenizer:
    """Return a new tokenizer, which its caller may change."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(resolved.document)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise _unreadable(folder, error) from error
    _bound_types(folder, tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = resolved.split_special_tokens
    return tokenizer


def _unreadable(folder: Path, error: BaseException) -> ModelError:
    return ModelError(f"the tokenizer in {folder} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}")


def _bound_types(folder: Path, tokenizer: Tokenizer) -> None:
    """Let a tokenizer give no more token types than the model has embeddings of types.

    Raises:
        ModelError: it gives types that the model has no embeddings for, and the model has several.
    """
    config = _model_config(folder)
    family, types = FAMILIES.get(str(config.get("model_type"))), config.get("type_vocab_size")
    if family is None or not family.token_types or not isinstance(types, int) or types < 1:
        return
    largest = largest_type(processor_document(tokenizer))
    if largest >= types > 1:
        raise ModelError(f"the tokenizer in {folder} gives tokens the type {largest}, and the model has {types} types")
    if largest >= types:
        set_processor(tokenizer, without_types(processor_document(tokenizer)))


def mask_token(tokenizer: Tokenizer) -> str | None:
    """Return the mask token of a masked language model's tokenizer, or None if it has none."""
    return next((mask for mask in MASK_TOKENS if tokenizer.token_to_id(mask) is not None), None)


def pad_id(folder: Path) -> int:
    """Return the id of the padding token in `config.json`; 0 if it names none."""
    value = _model_config(folder).get("pad_token_id")
    return value if isinstance(value, int) else 0


def _model_config(folder: Path) -> dict[str, Any]:
    try:
        config = files.read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError):  # missing or damaged: `read_config` reports it
        return {}
    return config if isinstance(config, dict) else {}


def save_tokenizer(source: Path, target: Path) -> None:
    """Write the tokenizer of `source` into `target`: its files, with a complete `tokenizer.json` and every setting."""
    resolved = _resolve(source)
    for name in SOURCES:
        if (source / name).is_file() and name != TOKENIZER:
            (target / name).write_bytes((source / name).read_bytes())
    tokenizer = _opened(source, resolved)
    tokenizer.save(str(target / TOKENIZER))
    settings = read_settings(source) or _new_settings(tokenizer, resolved)
    if resolved.tokenizer_class:
        settings.setdefault("tokenizer_class", resolved.tokenizer_class)
    if resolved.truncation_side != "right":
        settings["truncation_side"] = resolved.truncation_side
    mark_resolved(target, settings)


def limit_length(folder: Path, tokens: int) -> None:
    """Write the longest input of a model into `tokenizer_config.json`, where other clients look for it, unless it names a shorter one.

    Args:
        folder: that `save_tokenizer` has written.
        tokens: the longest input.
    """
    settings = read_settings(folder)
    named = settings.get("model_max_length")
    if not isinstance(named, int) or isinstance(named, bool) or not 0 < named <= tokens:
        mark_resolved(folder, {**settings, "model_max_length": tokens})


def _new_settings(tokenizer: Tokenizer, resolved: ResolvedTokenizer) -> dict[str, Any]:
    """Return a `tokenizer_config.json` for a tokenizer that has none."""
    settings: dict[str, Any] = {"tokenizer_class": resolved.tokenizer_class or "PreTrainedTokenizerFast"}
    if resolved.tokenizer_class is None and largest_type(processor_document(tokenizer)):
        settings["model_input_names"] = ["input_ids", TYPES, "attention_mask"]
    names = tokenizer.get_vocab()
    for role, options in {"pad_token": ("[PAD]", "<pad>"), "unk_token": ("[UNK]", "<unk>")}.items():
        known = [name for name in options if name in names]
        if known:
            settings[role] = known[0]
    return settings
