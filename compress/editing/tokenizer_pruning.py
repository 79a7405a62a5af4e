"""Remove tokens from a tokenizer.

Exact for the kept tokens: a text whose tokens are all kept is split into the same tokens as before. (WordPiece takes the longest
match, Unigram the likeliest path, BPE merges in a fixed order: the same choice, among fewer.) Single characters are always kept,
so no text becomes unknown that was not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core.errors import ModelError
from compress.core.files import Document
from compress.data.encoding import split_words
from compress.data.tokenizing import encode_batch
from compress.models.resolved_tokenizer import mark_resolved, read_settings
from compress.models.tokenizer import save_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

"""A `tokenizer.json` or a part of it; its keys differ by type of tokenizer."""


def token_counts(tokenizer: Tokenizer, texts: Iterable[tuple[str, ...]], words: bool = False) -> Counter[int]:
    """Return the number of occurrences of each token id in the texts.

    Args:
        tokenizer: of the model; with `words` it is changed to accept split texts.
        texts: of each example.
        words: whether the strings are the words of one text, as for token classification.
    """
    counts: Counter[int] = Counter()
    tokenizer = split_words(tokenizer) if words else tokenizer
    for parts in texts:
        inputs = [list(parts)] if words else list(parts)
        for encoding in encode_batch(tokenizer, inputs, is_pretokenized=words, add_special_tokens=True):
            counts.update(encoding.ids)
    return counts


def required_tokens(document: Document, used: set[int]) -> list[int]:
    """Return the ids to keep, ascending: used ones, special tokens, single characters, and the parts that BPE merges them from.

    Args:
        document: a `tokenizer.json`.
        used: ids that the data uses.

    Raises:
        ModelError: this type of tokenizer is not supported.
    """
    model = document["model"]
    names = _token_names(model)
    kept = {number for number in used if number in names}
    kept |= {token["id"] for token in document.get("added_tokens") or []}
    prefix = model.get("continuing_subword_prefix") or ""
    kept |= {number for number, name in names.items() if len(name.removeprefix(prefix).removeprefix("▁")) <= 1}
    unknown = model.get("unk_token")
    kept |= {number for number, name in names.items() if name == unknown}
    if model["type"] == "Unigram" and model.get("unk_id") is not None:
        kept.add(model["unk_id"])
    return sorted(_with_merged_parts(model, names, kept) if model["type"] == "BPE" else kept)


def _with_merged_parts(model: Document, names: dict[int, str], kept: set[int]) -> set[int]:
    """Add the tokens that the kept ones of a BPE model are merged from, and those that these are merged from, and so on."""
    kept, numbers = set(kept), {name: number for number, name in names.items()}
    merges: dict[str, list[tuple[str, str]]] = {}
    for pair in _merges(model):
        merges.setdefault("".join(pair), []).append(pair)
    waiting = [names[number] for number in kept if number in names]
    while waiting:
        for part in (part for pair in merges.get(waiting.pop(), []) for part in pair):
            if numbers.get(part) is not None and numbers[part] not in kept:
                kept.add(numbers[part])
                waiting.append(part)
    return kept


def _token_names(model: Document) -> dict[int, str]:
    """Map ids to tokens."""
    if model["type"] in ("WordPiece", "BPE", "WordLevel"):
        return {number: name for name, number in model["vocab"].items()}
    if model["type"] == "Unigram":
        return {number: entry[0] for number, entry in enumerate(model["vocab"])}
    raise ModelError(f"a tokenizer of type {model['type']} cannot be shrunk", "supported: WordPiece, BPE and Unigram")


def _merges(model: Document) -> list[tuple[str, str]]:
    """Return the merges of a BPE model; older files write a pair as one string."""
    pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in model["merges"]]
    return [(first, second) for first, second in pairs]


def shrink_tokenizer(source: Path, target: Path, kept: Sequence[int]) -> None:
    """Write the tokenizer of `source` into `target` with the kept tokens only; a token's new id is its position in `kept`.

    `tokenizer.json` is authoritative; `vocab.txt` is written to match, and older BPE files are omitted.
    """
    save_tokenizer(source, target)
    document = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    new_ids = {old: number for number, old in enumerate(kept)}
    _shrink_model(document["model"], new_ids, kept)
    for token in document.get("added_tokens") or []:
        token["id"] = new_ids[token["id"]]
    if document.get("post_processor"):
        document["post_processor"] = _renumbered(document["post_processor"], new_ids)
    (target / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        (target / name).unlink(missing_ok=True)
    if (target / "vocab.txt").is_file():
        names = _token_names(document["model"])
        (target / "vocab.txt").write_text("".join(f"{names[number]}\n" for number in sorted(names)), encoding="utf-8")
    (target / "added_tokens.json").unlink(missing_ok=True)
    settings = read_settings(target)
    if "added_tokens_decoder" in settings:
        decoder = settings["added_tokens_decoder"]
        settings["added_tokens_decoder"] = {str(new_ids[int(old)]): token for old, token in decoder.items() if int(old) in new_ids}
    mark_resolved(target, settings)


def _shrink_model(model: Document, new_ids: dict[int, int], kept: Sequence[int]) -> None:
    """Remove tokens from the vocabulary and the merges, in place."""
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in kept if old < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
        return
    entries = sorted(model["vocab"].items(), key=lambda item: item[1])
    model["vocab"] = {name: new_ids[old] for name, old in entries if old in new_ids}
    if model["type"] == "BPE":
        tokens = set(model["vocab"])
        model["merges"] = [list(pair) for pair in _merges(model) if {*pair, "".join(pair)} <= tokens]


def _renumbered(value: Any, new_ids: dict[int, int]) -> Any:
    """Return a post-processor with new ids: `ids` lists of templates, and the (token, id) pairs `sep` and `cls`."""
    if isinstance(value, list):
        return [_renumbered(item, new_ids) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        if key == "ids":
            result[key] = [new_ids[old] for old in item]
        elif key in ("sep", "cls") and isinstance(item, list):
            result[key] = [item[0], new_ids[item[1]]]
        else:
            result[key] = _renumbered(item, new_ids)
    return result
