"""The tokenizer that transformers opens from a folder: `tokenizer.json` as `tokenizer_config.json` and its class change it.

transformers follows settings that `tokenizer.json` does not hold (`do_lower_case`, `strip_accents`, `truncation_side`, added tokens, …).
`resolve_tokenizer` opens a folder through transformers once, and returns everything as one `tokenizer.json`. Folders that we write
hold that document already, with a digest of the files that it was resolved from, so that they open without transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from compress.core import console, files
from compress.core.digests import digest_file, digest_json
from compress.models.token_types import without_types
from compress.models.types import Config

SETTINGS = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
MARKER = "compress"  # our entry in SETTINGS
DECIDING = (TOKENIZER, "special_tokens_map.json", "added_tokens.json")  # besides SETTINGS
SOURCES = (TOKENIZER, SETTINGS, "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt")
TYPES = "token_type_ids"
TokenizerSettings = dict[str, Any]  # a JSON object: tokenizer_config.json, tokenizer.json


@dataclass(frozen=True)
class ResolvedTokenizer:
    """A complete `tokenizer.json`, and the settings that its format has no place for."""

    document: str
    truncation_side: str = "right"
    split_special_tokens: bool = False  # whether special tokens in a text are read as ordinary text
    tokenizer_class: str | None = None  # in transformers; None: transformers did not open it


def resolve_tokenizer(folder: Path) -> ResolvedTokenizer:
    """Return the tokenizer that transformers opens from a folder; cached by the files' times and sizes.

    Raises:
        Exception: of `tokenizers`, which raises no narrower ones: the files are damaged.
    """
    stats = [(name, path.stat()) for name in (*SOURCES, "config.json") if (path := folder / name).is_file()]
    return _resolve(folder, tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats))


@lru_cache(maxsize=4)
def _resolve(folder: Path, _: tuple[tuple[str, int, int, int], ...]) -> ResolvedTokenizer:
    settings = read_settings(folder)
    if is_resolved(folder, settings):
        text = (folder / TOKENIZER).read_text(encoding="utf-8")
        return ResolvedTokenizer(text, settings.get("truncation_side", "right"), settings.get("split_special_tokens") is True)
    try:
        return _by_transformers(folder, settings, _config(folder))
    except Exception as error:
        if not (folder / TOKENIZER).is_file():
            raise
        if settings:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            console.warn(f"{folder}: transformers cannot open this tokenizer ({reason[:120]}): {TOKENIZER} is used as it is")
        return ResolvedTokenizer((folder / TOKENIZER).read_text(encoding="utf-8"))


def read_settings(folder: Path) -> TokenizerSettings:
    """Return `tokenizer_config.json`; empty if there is none or it is damaged."""
    return _read(folder / SETTINGS)


def is_resolved(folder: Path, settings: TokenizerSettings) -> bool:
    """Return whether `tokenizer.json` was written by `mark_resolved` and nothing was edited since."""
    entry = settings.get(MARKER)
    recorded = entry.get("resolved") if isinstance(entry, dict) else None
    return recorded is not None and (folder / TOKENIZER).is_file() and recorded == _digest(folder, settings)


def mark_resolved(folder: Path, settings: TokenizerSettings) -> None:
    """Write `tokenizer_config.json` with the digest that `is_resolved` checks; `tokenizer.json` is already written."""
    unmarked = {key: value for key, value in settings.items() if key != MARKER}
    marked = unmarked | {MARKER: {"resolved": _digest(folder, unmarked)}}
    (folder / SETTINGS).write_text(json.dumps(marked, indent=2, ensure_ascii=False), encoding="utf-8")


def _digest(folder: Path, settings: TokenizerSettings) -> str:
    digests = {name: digest_file(folder / name) for name in DECIDING if (folder / name).is_file()}
    return digest_json({"settings": {key: value for key, value in settings.items() if key != MARKER}, **digests})


def _by_transformers(folder: Path, settings: TokenizerSettings, config: Config) -> ResolvedTokenizer:
    """Open the tokenizer as `AutoTokenizer` does: local files only, no code from the folder."""
    from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

    named = {"tokenizer_class": config["tokenizer_class"]} if isinstance(config.get("tokenizer_class"), str) else {}
    try:  # the rest of config.json, which nobody has checked here, does not matter for the tokenizer
        known = AutoConfig.for_model(config["model_type"], **named)
    except (KeyError, ValueError):
        known = PreTrainedConfig(**named)
    opened: Any = AutoTokenizer.from_pretrained(str(folder), config=known, local_files_only=True, trust_remote_code=False)
    document = json.loads(opened.backend_tokenizer.to_str())
    _drop_default_tokens(document, folder, settings, config)
    if TYPES not in opened.model_input_names:
        document["post_processor"] = without_types(document.get("post_processor"))
    name = type(opened).__name__
    return ResolvedTokenizer(
        json.dumps(document, ensure_ascii=False),
        opened.truncation_side,
        bool(opened.split_special_tokens),
        "PreTrainedTokenizerFast" if name == "TokenizersBackend" else name,
    )


def _drop_default_tokens(document: TokenizerSettings, folder: Path, settings: TokenizerSettings, config: Config) -> None:
    """Drop special tokens that a class of transformers adds by default, and that the model has no embeddings for, in place."""
    size = config.get("vocab_size")
    if not isinstance(size, int):
        return
    file = _read(folder / TOKENIZER)
    named = {str(token.get("content")) for token in file.get("added_tokens") or []} | set(_read(folder / "added_tokens.json"))
    named |= {str(token["content"]) for token in (settings.get("added_tokens_decoder") or {}).values() if isinstance(token, dict)}
    for key in ("additional_special_tokens", "extra_special_tokens"):
        named |= {str(token.get("content") if isinstance(token, dict) else token) for token in settings.get(key) or []}
    added = document.get("added_tokens") or []
    document["added_tokens"] = [token for token in added if token["id"] < size or token["content"] in named]


def _config(folder: Path) -> Config:
    return _read(folder / "config.json")


def _read(path: Path) -> TokenizerSettings:
    try:
        document = files.read_json(path)
    except (OSError, ValueError, RecursionError):  # missing or damaged: loading the tokenizer reports it
        return {}
    return document if isinstance(document, dict) else {}
