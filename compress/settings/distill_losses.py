"""The losses of `distill` as they are written: names with weights, and the layers they match. Imports no torch."""

from __future__ import annotations

import math
import re

from compress.core.errors import did_you_mean

LAYERED = ("hidden", "nmse", "attention", "relations", "gram", "pkd", "cka")  # losses between pairs of layers
RANKED = ("margin_mse", "listwise")  # losses of the scores of a query's candidates
OUTPUTS = ("logits", "dkd", "similarity", *RANKED)
METHODS = (*OUTPUTS, *LAYERED, "cofi", "theseus", "tinybert")
ALONE = ("theseus", "tinybert")  # whole procedures, which cannot be combined with other losses
PER_TOKEN = ("hidden", "nmse", "attention", "relations", "gram", "cka", "cofi")  # teacher and student must have the same tokens
KEYWORDS = ("last", "uniform", "all")
TINYBERT = ("logits", "hidden", "attention")  # the losses of method tinybert, in two stages
COFI = {"logits": 0.1, "cofi": 0.9}  # the losses of cofi if it is the only method
DEFAULT = ("logits", "nmse:20")  # decision 0016
RANKED_DEFAULT = ("margin_mse", "nmse:20")  # of a reranker on its candidates
DEFAULTS: dict[str, object] = {"temperature": 2.0, "hard_weight": 0.1, "dropout": False}
METHOD_DEFAULTS: dict[str, dict[str, object]] = {  # of a method that is the only one
    "tinybert": {"temperature": 1.0, "hard_weight": 0.0, "dropout": True, "match": "all", "lr": 3e-5, "layer_epochs": 10, "layer_lr": 5e-5},
    "cofi": {"hard_weight": 0.0},
    "theseus": {"dropout": True},
}
_PAIR = re.compile(r"(\d{1,4})-(\d{1,4})", re.ASCII)
Pairs = tuple[tuple[int, int], ...]  # (teacher layer, student layer), 0 for the embeddings


def parse_method(text: str) -> tuple[str, float | None]:
    """Parse `name` or `name:weight`; the weight is None if it is not given.

    Raises:
        ValueError: an unknown name, or a weight other than a positive number.
    """
    name, colon, number = text.strip().partition(":")
    if name not in METHODS:
        raise ValueError(f"unknown method '{name}'{did_you_mean(name, METHODS)}; known: {', '.join(METHODS)}")
    if not colon:
        return name, None
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"the weight of method {name} must be a positive number, not '{number}' (written {name}:0.5)")
    if name in ALONE:
        raise ValueError(f"method {name} is a whole procedure and takes no weight")
    return name, weight


def parse_methods(texts: list[str]) -> dict[str, float]:
    """Return the losses by name with their weights; whole procedures are not expanded.

    Args:
        texts: as `parse_method` reads them, each name once.

    Raises:
        ValueError: a malformed entry, a name given twice, or methods that cannot be combined.
    """
    methods = [parse_method(text) for text in texts]
    names = [name for name, _ in methods]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"method {twice} was given twice")
    alone = next((name for name in names if name in ALONE), None)
    if alone and len(names) > 1:
        raise ValueError(f"method {alone} is a whole procedure: it cannot be combined with other methods")
    if names == ["cofi"] and methods[0][1] is None:
        return dict(COFI)
    return {name: 1.0 if weight is None else weight for name, weight in methods}


def parse_match(text: str | None, methods: list[str]) -> dict[str, str | Pairs]:
    """Parse which layers each loss matches: `last`, `uniform`, `all`, or pairs by loss: `hidden:0-0,6-2,12-4;gram:12-4`.

    A pair is a layer of the teacher and one of the student, counted from 1; 0 is the embeddings. A keyword applies to every loss
    without an entry; without a keyword `nmse` matches all layers and the others the last.

    Args:
        text: the entries, with `;` between them; None for none.
        methods: the layer losses in use.

    Returns:
        A keyword or pairs for each of the methods.

    Raises:
        ValueError: a malformed entry, or an entry for an unused loss.
    """
    default, by_loss = None, {}
    entries = [] if text is None else [entry.strip() for entry in text.split(";")]
    for entry in entries:
        name, colon, value = (part.strip() for part in entry.partition(":"))
        if not colon:
            if name not in KEYWORDS:
                hint = did_you_mean(name, KEYWORDS) if not _PAIR.match(name) else f": name the loss, as in hidden:{name}"
                raise ValueError(
                    f"'{name}' is not valid for match{hint}; write {', '.join(KEYWORDS)}, or pairs such as hidden:12-4;gram:6-2"
                )
            default = name
            continue
        if name not in methods:
            if name in ("cofi", *OUTPUTS, *ALONE):
                raise ValueError(f"method {name} matches no layers; these do: {', '.join(LAYERED)}")
            known = f"the loss is not among the methods: {', '.join(methods) or 'none of them matches layers'}"
            raise ValueError(f"'{name}' has layers, and {known}{did_you_mean(name, methods)}")
        if name in by_loss:
            raise ValueError(f"'{name}' has two entries: write its pairs in one entry, separated by commas")
        by_loss[name] = value if value in KEYWORDS else _pairs(name, value)
    return {name: by_loss.get(name, default or ("all" if name == "nmse" else "last")) for name in methods}


def _pairs(name: str, value: str) -> Pairs:
    pairs = []
    for part in value.split(","):
        pair = _PAIR.fullmatch(part.strip())
        if not pair:
            raise ValueError(f"'{part.strip()}' of {name} is not a pair of layers; write TEACHER-STUDENT, as in {name}:12-4,6-2")
        pairs.append((int(pair[1]), int(pair[2])))
    twice = next((pair for pair in pairs if pairs.count(pair) > 1), None)
    if twice:
        raise ValueError(f"{name} has the pair {twice[0]}-{twice[1]} twice")
    return tuple(pairs)
