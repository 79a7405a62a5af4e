"""Load and save tokenizers without transformers: the `tokenizers` library opens `tokenizer.json` in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from compress.core import files
from compress.core.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MASK_TOKENS = ("[MASK]", "<mask>")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt")


def load_tokenizer(folder: Path, vocab_size: int | None = None) -> Tokenizer:
    """Open the tokenizer of a model folder, without truncation or padding.

    Raises:
        ModelError: no tokenizer, an unreadable one, or one with more tokens than the model has embeddings (`vocab_size`).
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
    """Convert an older tokenizer format (vocab.txt, or vocab.json with merges.txt) through transformers."""
    if not any((folder / name).is_file() for name in ("vocab.txt", "vocab.json")):
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json or vocab.txt)", "copy the tokenizer files of its base model into it")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False).backend_tokenizer


def mask_token(tokenizer: Tokenizer) -> str | None:
    """Return the mask token of a masked language model's tokenizer, or None if it has none."""
    return next((mask for mask in MASK_TOKENS if tokenizer.token_to_id(mask) is not None), None)


def pad_id(folder: Path) -> int:
    """Return the id of the padding token in `config.json`; 0 if it names none."""
    try:
        value = files.read_json(folder / "config.json").get("pad_token_id")
    except (OSError, ValueError, AttributeError):
        value = None
    return value if isinstance(value, int) else 0


def save_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer of `source` into `target`, always with a `tokenizer.json`."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file() and name != "tokenizer.json":
            (target / name).write_bytes((source / name).read_bytes())
    tokenizer = load_tokenizer(source)
    tokenizer.save(str(target / "tokenizer.json"))
    config = target / "tokenizer_config.json"
    if not config.is_file():
        entries = {"tokenizer_class": "PreTrainedTokenizerFast"}
        names = tokenizer.get_vocab()
        for role, options in {"pad_token": ("[PAD]", "<pad>"), "unk_token": ("[UNK]", "<unk>")}.items():
            known = [name for name in options if name in names]
            if known:
                entries[role] = known[0]
        config.write_text(json.dumps(entries, indent=2), encoding="utf-8")
