"""What `distill` may be asked to match: names of losses with their weights, and layers; read without torch."""

from __future__ import annotations

import math
import re

from compress.core.errors import did_you_mean

LAYERED = ("hidden", "nmse", "attention", "relations", "gram", "pkd", "cka")  # losses of pairs of layers
OUTPUTS = ("logits", "dkd")
METHODS = (*OUTPUTS, *LAYERED, "cofi", "theseus", "tinybert")
ALONE = ("theseus", "tinybert")  # whole procedures, which take no other loss beside them
PER_TOKEN = ("hidden", "nmse", "attention", "relations", "gram", "cka", "cofi")  # which need the same tokens on both sides
WORDS = ("last", "uniform", "all")
TINYBERT = ("logits", "hidden", "attention")  # what method tinybert stands for, in two stages
COFI = {"logits": 0.1, "cofi": 0.9}  # and cofi, where it is the only one
DEFAULT = ("logits", "nmse:20")  # decision 0016
DEFAULTS: dict[str, object] = {"temperature": 2.0, "hard_weight": 0.1, "dropout": False}
METHOD_DEFAULTS: dict[str, dict[str, object]] = {  # of methods that are alone
    "tinybert": {"temperature": 1.0, "hard_weight": 0.0, "dropout": True, "match": "all", "lr": 3e-5, "layer_epochs": 10, "layer_lr": 5e-5},
    "cofi": {"hard_weight": 0.0},
    "theseus": {"dropout": True},
}
_PAIR = re.compile(r"(\d{1,4})-(\d{1,4})", re.ASCII)
Pairs = tuple[tuple[int, int], ...]  # (teacher layer, student layer), 0 for the embeddings


def parse_method(text: str) -> tuple[str, float | None]:
    """Read `name` or `name:weight`; the weight is None where none is given.

    Raises:
        ValueError: an unknown name, or a weight that is not a positive number.
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
    """Return the losses by name with their weights, whole procedures as they stand.

    Args:
        texts: as `parse_method` reads them, each name once.

    Raises:
        ValueError: a malformed entry, a name given twice, or methods that do not go together.
    """
    found = [parse_method(text) for text in texts]
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"method {twice} was given twice")
    alone = next((name for name in names if name in ALONE), None)
    if alone and len(names) > 1:
        raise ValueError(f"method {alone} is a whole procedure: it takes no other method beside it")
    if names == ["cofi"] and found[0][1] is None:
        return dict(COFI)
    return {name: 1.0 if weight is None else weight for name, weight in found}


def parse_match(text: str | None, methods: list[str]) -> dict[str, str | Pairs]:
    """Read which layers each loss matches: `last`, `uniform`, `all`, or pairs by loss: `hidden:0-0,6-2,12-4;gram:12-4`.

    A pair is the teacher's layer and the student's, counted from 1; 0 are the embeddings. A word alone is for every loss
    that has no entry of its own; without one `nmse` matches all and the others the last layers.

    Args:
        text: the entries, with `;` between them; None for none.
        methods: the losses of layers that are asked for.

    Returns:
        A word or pairs for each of the methods.

    Raises:
        ValueError: an entry that cannot be read, or for a loss that is not asked for.
    """
    default, own = None, {}
    entries = [] if text is None else [entry.strip() for entry in text.split(";")]
    for entry in entries:
        name, colon, value = (part.strip() for part in entry.partition(":"))
        if not colon:
            if name not in WORDS:
                hint = did_you_mean(name, WORDS) if not _PAIR.match(name) else f": name the loss, as in hidden:{name}"
                raise ValueError(f"'{name}' is no match{hint}; write {', '.join(WORDS)}, or pairs such as hidden:12-4;gram:6-2")
            default = name
            continue
        if name not in methods:
            if name in ("cofi", *OUTPUTS, *ALONE):
                raise ValueError(f"method {name} takes no layers: those are for {', '.join(LAYERED)}")
            known = f"it is not among the methods: {', '.join(methods) or 'none of them matches layers'}"
            raise ValueError(f"'{name}' has layers, and {known}{did_you_mean(name, methods)}")
        if name in own:
            raise ValueError(f"'{name}' has two entries: put all of its pairs into one, with commas")
        own[name] = value if value in WORDS else _pairs(name, value)
    return {name: own.get(name, default or ("all" if name == "nmse" else "last")) for name in methods}


def _pairs(name: str, value: str) -> Pairs:
    found = []
    for part in value.split(","):
        pair = _PAIR.fullmatch(part.strip())
        if not pair:
            raise ValueError(f"'{part.strip()}' of {name} is no pair of layers; write TEACHER-STUDENT, as in {name}:12-4,6-2")
        found.append((int(pair[1]), int(pair[2])))
    twice = next((pair for pair in found if found.count(pair) > 1), None)
    if twice:
        raise ValueError(f"{name} has the pair {twice[0]}-{twice[1]} twice")
    return tuple(found)
