"""Tokenizers without transformers: `tokenizer.json` opened by the `tokenizers` library, in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core import files
from compress.core.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MASKS = ("[MASK]", "<mask>")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")


def load_tokenizer(folder: Path, vocab_size: int | None = None) -> Tokenizer:
    """Open the tokenizer of a model folder, without truncation or padding.

    Raises:
        ModelError: none there, unreadable, or with more tokens than the model has embeddings (`vocab_size`).
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _converted(folder)
    except ModelError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"the tokenizer in {folder} cannot be read: {str(error).splitlines()[0]}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    largest = max(tokenizer.get_vocab().values(), default=0)
    if vocab_size is not None and largest >= vocab_size:
        raise ModelError(
            f"the tokenizer in {folder} has ids up to {largest}, but the model has {vocab_size} embeddings",
            "the tokenizer belongs to another model",
        )
    return tokenizer


def _converted(folder: Path) -> Tokenizer:
    """Convert an old-style tokenizer (vocab.txt, or vocab.json with merges.txt) by transformers."""
    if not any((folder / name).is_file() for name in ("vocab.txt", "vocab.json")):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json or vocab.txt)", "copy the tokenizer's files of its base model there")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False).backend_tokenizer


def mask_of(tokenizer: Tokenizer) -> str | None:
    """Return the token that hides a word from a masked language model, or None where there is none."""
    return next((mask for mask in MASKS if tokenizer.token_to_id(mask) is not None), None)


def pad_id(folder: Path) -> int:
    """Return the id that pads, from `config.json` (0 where it does not say)."""
    try:
        value = files.read_json(folder / "config.json").get("pad_token_id")
    except (OSError, ValueError, AttributeError):
        value = None
    return value if isinstance(value, int) else 0


def save_tokenizer(source: Path, target: Path) -> None:
    """Write the tokenizer of `source` into `target`, always with a `tokenizer.json`."""
    for name in FILES:
        if (source / name).is_file() and name != "tokenizer.json":
            (target / name).write_bytes((source / name).read_bytes())
    tokenizer = load_tokenizer(source)
    tokenizer.save(str(target / "tokenizer.json"))
    config = target / "tokenizer_config.json"
    if not config.is_file():
        entries: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        names = tokenizer.get_vocab()
        for role, options in {"pad_token": ("[PAD]", "<pad>"), "unk_token": ("[UNK]", "<unk>")}.items():
            known = [name for name in options if name in names]
            if known:
                entries[role] = known[0]
        config.write_text(json.dumps(entries, indent=2), encoding="utf-8")
