"""Words: drop the embeddings of tokens that a task's texts never use, and rewrite the tokenizer to match.

Exact on what is kept: a text whose tokens are all kept is cut into the same tokens as before. (WordPiece takes the longest
match, Unigram the likeliest path, and byte pairs merge in a fixed order: what was chosen among more is chosen among fewer.)
Single characters stay, so that no text becomes unknown that was not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from compress.core.errors import ModelError, UsageError
from compress.data.windows import split_words
from compress.models.family import family_of
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.tokenizer import load_tokenizer, save_tokenizer

CONFIG_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id")


def used_tokens(tokenizer: Any, texts: Iterable[tuple[str, ...]], words: bool = False) -> set[int]:
    """Return the ids of every token that the texts are cut into."""
    return set(token_counts(tokenizer, texts, words))


def token_counts(tokenizer: Any, texts: Iterable[tuple[str, ...]], words: bool = False) -> Counter[int]:
    """Return how often each token stands in the texts.

    Args:
        tokenizer: of the model; with `words` it is made ready for them.
        texts: of each example.
        words: whether these are the words of one text, as where each of them gets a tag.
    """
    found: Counter[int] = Counter()
    tokenizer = split_words(tokenizer) if words else tokenizer
    for parts in texts:
        inputs = [list(parts)] if words else list(parts)
        for encoding in tokenizer.encode_batch(inputs, is_pretokenized=words, add_special_tokens=True):
            found.update(encoding.ids)
    return found


def kept_tokens(document: dict[str, Any], used: set[int]) -> list[int]:
    """Return the ids to keep, ascending: used ones, specials, single characters, and what byte pairs are merged from.

    Args:
        document: a `tokenizer.json`.
        used: ids that the data uses.

    Raises:
        ModelError: a kind of tokenizer that this cannot shrink.
    """
    model = document["model"]
    names = _names(model)
    kept = {number for number in used if number in names}
    kept |= {token["id"] for token in document.get("added_tokens") or []}
    prefix = model.get("continuing_subword_prefix") or ""
    kept |= {number for number, name in names.items() if len(name.removeprefix(prefix).removeprefix("▁")) <= 1}
    unknown = model.get("unk_token")
    kept |= {number for number, name in names.items() if name == unknown}
    if model["type"] == "Unigram" and model.get("unk_id") is not None:
        kept.add(model["unk_id"])
    if model["type"] == "BPE":
        numbers = {name: number for number, name in names.items()}
        made: dict[str, list[tuple[str, str]]] = {}
        for pair in _pairs(model):
            made.setdefault("".join(pair), []).append(pair)
        waiting = [names[number] for number in kept if number in names]
        while waiting:
            for part in (part for pair in made.get(waiting.pop(), []) for part in pair):
                if numbers.get(part) is not None and numbers[part] not in kept:
                    kept.add(numbers[part])
                    waiting.append(part)
    return sorted(kept)


def _names(model: dict[str, Any]) -> dict[int, str]:
    if model["type"] in ("WordPiece", "BPE", "WordLevel"):
        return {number: name for name, number in model["vocab"].items()}
    if model["type"] == "Unigram":
        return {number: entry[0] for number, entry in enumerate(model["vocab"])}
    raise ModelError(f"a tokenizer of type {model['type']} cannot be shrunk", "supported: WordPiece, BPE and Unigram")


def _pairs(model: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in model["merges"]]
    return [(first, second) for first, second in pairs]


def shrink_tokenizer(source: Path, target: Path, kept: Sequence[int]) -> None:
    """Write the tokenizer of `source` into `target` with the kept tokens only; a token's new id is its place in `kept`.

    The single source of truth is `tokenizer.json`; `vocab.txt` follows it, and older files of byte pairs are left out.
    """
    save_tokenizer(source, target)
    document = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    new = {old: number for number, old in enumerate(kept)}
    model = document["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in kept if old < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {name: new[old] for name, old in sorted(model["vocab"].items(), key=lambda item: item[1]) if old in new}
    if model["type"] == "BPE":
        stay = set(model["vocab"])
        whole = [pair for pair in _pairs(model) if {*pair, "".join(pair)} <= stay]
        model["merges"] = [list(pair) for pair in whole]
    for token in document.get("added_tokens") or []:
        token["id"] = new[token["id"]]
    if document.get("post_processor"):
        document["post_processor"] = _renumbered(document["post_processor"], new)
    (target / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        (target / name).unlink(missing_ok=True)
    if (target / "vocab.txt").is_file():
        names = _names(model)
        (target / "vocab.txt").write_text("".join(f"{names[number]}\n" for number in sorted(names)), encoding="utf-8")
    path = target / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = {
            str(new[int(old)]): token for old, token in config["added_tokens_decoder"].items() if int(old) in new
        }
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _renumbered(value: Any, new: dict[int, int]) -> Any:
    """Return a post-processor with new ids: `ids` lists of templates, and the (token, id) pairs `sep` and `cls`."""
    if isinstance(value, list):
        return [_renumbered(item, new) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        if key == "ids":
            found[key] = [new[old] for old in item]
        elif key in ("sep", "cls") and isinstance(item, list):
            found[key] = [item[0], new[item[1]]]
        else:
            found[key] = _renumbered(item, new)
    return found


def shrink_embeddings(model: Any, kept: Sequence[int]) -> None:
    """Keep the word embeddings of some tokens, in place, and renumber the config's special tokens."""
    words = word_embeddings(model)
    old = words.table if isinstance(words, FactoredEmbedding) else words
    new = {token: number for number, token in enumerate(kept)}
    rows = old.weight.detach()[list(kept)].clone()
    padding = new.get(old.padding_idx) if old.padding_idx is not None else None
    table = torch.nn.Embedding(len(kept), rows.shape[1], padding_idx=padding, _weight=rows)
    if isinstance(words, FactoredEmbedding):
        words.table, words.num_embeddings, words.padding_idx = table, len(kept), padding
    else:
        set_word_embeddings(model, table)
    model.config.vocab_size = len(kept)
    for name in CONFIG_IDS:
        number = getattr(model.config, name, None)
        if isinstance(number, int) and number in new:
            setattr(model.config, name, new[number])


def frequent_tokens(model: Any, source: Path, texts: Iterable[tuple[str, ...]], count: int, words: bool = False) -> list[int]:
    """Return the ids of at most `count` tokens: what must stay, and the most frequent ones of the texts.

    A text with a rarer word is then cut into smaller pieces than before.

    Raises:
        ModelError: a kind of tokenizer that this cannot shrink.
        UsageError: fewer tokens than must stay.
    """
    tokenizer = load_tokenizer(source)
    document = json.loads(tokenizer.to_str())
    ranked = [number for number, _ in sorted(token_counts(tokenizer, texts, words).items(), key=lambda item: (-item[1], item[0]))]

    def kept(most: int) -> list[int]:
        return _with_padding(model, kept_tokens(document, set(ranked[:most])))

    least = len(kept(0))
    if least > count:
        raise UsageError(f"vocab={count} is less than the {least:,} tokens that must stay (specials, single characters)", f"vocab={least}")
    low, high = 0, len(ranked)
    while low < high:  # more words, more tokens: the largest number of words that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(kept(middle)) <= count else (low, middle - 1)
    return kept(low)


def prune_vocab(model: Any, source: Path, texts: Iterable[tuple[str, ...]], scratch: Path, words: bool = False) -> dict[str, int]:
    """Drop unused tokens from a model, in place, and write its new tokenizer into `scratch`.

    Returns:
        `vocab_before`, `vocab_after`.

    Raises:
        ModelError: a kind of tokenizer that this cannot shrink, or a padding id that would move a model's positions.
    """
    tokenizer = load_tokenizer(source)
    kept = _with_padding(model, kept_tokens(json.loads(tokenizer.to_str()), used_tokens(tokenizer, texts, words)))
    before = model.config.vocab_size
    cut_vocab(model, source, kept, scratch)
    return {"vocab_before": before, "vocab_after": len(kept)}


def _with_padding(model: Any, found: list[int]) -> list[int]:
    """Return the ids that the model has embeddings for, the padding token's among them."""
    kept = [number for number in found if number < model.config.vocab_size]
    padding = getattr(model.config, "pad_token_id", None)
    return kept if padding is None or padding in kept else sorted([*kept, padding])


def cut_vocab(model: Any, source: Path, kept: list[int], scratch: Path) -> None:
    """Keep some tokens of a model, in place, and write its new tokenizer into `scratch`.

    Raises:
        ModelError: a padding id that would move a model's positions.
    """
    padding = getattr(model.config, "pad_token_id", None)
    if padding is not None and kept.index(padding) != padding and family_of(model.config.model_type).positions_after_padding:
        raise ModelError("the padding token's id would move, and this family counts positions from it")
    shrink_tokenizer(source, scratch, kept)
    shrink_embeddings(model, kept)
