"""Random damage: of bytes, and of JSON or YAML documents."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, -(2**63), 2**64, 10**18, 10**400, 0.5, -0.0, 1e308, 1e-308,
    math.nan, math.inf, -math.inf,
    "", " ", "x", "0", "-1", "1e9", "nan", "null", "../../x", "/etc/passwd", "a/b", "a\0b", "a\nb", "\ud800", "é🐕\u202e", "x" * 3000,
    "%s%n{}", "<script>",
    [], {}, [[]], [None], [0, 0], ["x"], [-1], {"": None}, {"x": {"y": []}}, [1] * 200, [{}] * 3, {"a": 1, "b": [2, {"c": None}]},
]  # fmt: skip
CHUNKS = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"{",
    b"}",
    b"[",
    b'"',
    b":",
    b",",
    b"\n",
    b"-",
    b"1e999",
    b"null",
    b"\x80",
    b"\xed\xa0\x80",
    b"!!python/object",
]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return bytes with one to four random changes."""
    result = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(result) + 1)
        how = draw.randrange(7)
        if how == 0 and result:
            result[at % len(result)] ^= 1 << draw.randrange(8)
        elif how == 1 and result:
            result[at % len(result)] = draw.randrange(256)
        elif how == 2:
            del result[at : at + draw.choice((1, 1, 2, 8, 64, 1000))]
        elif how == 3:
            result[at:at] = draw.choice(CHUNKS)
        elif how == 4:
            result[at:at] = result[at : at + draw.choice((1, 8, 100))]
        elif how == 5 and len(result) > 8:
            size, other = draw.choice((1, 4, 8)), draw.randrange(len(result))
            result[at : at + size] = result[other : other + size]
        elif draw.random() < 0.3:
            del result[at:]
    return bytes(result)


def changed(document: Any, draw: random.Random) -> Any:
    """Return a JSON document with one to three random changes of its nodes."""
    result = copy.deepcopy(document)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        result = _change(result, draw)
    return result


def _change(document: Any, draw: random.Random) -> Any:
    """Replace, drop, rename, double or exchange one node, in place where there is a container."""
    containers = _containers(document)
    if not containers:
        return copy.deepcopy(draw.choice(HOSTILE))
    container = draw.choice(containers)
    if isinstance(container, dict):
        key = draw.choice(list(container))
        how = draw.randrange(6)
        if how == 0:
            del container[key]
        elif how == 1:
            container[draw.choice(("", "x", key + "s", key[:-1], key.upper(), "__class__", "\0"))] = container.pop(key)
        elif how == 2:
            container[draw.choice(("x", "_private", "auto_map", "compress", "torch_dtype"))] = copy.deepcopy(draw.choice(HOSTILE))
        else:
            container[key] = _other(container[key], document, draw)
    else:
        at = draw.randrange(len(container))
        how = draw.randrange(5)
        if how == 0:
            del container[at]
        elif how == 1:
            container.insert(at, copy.deepcopy(container[at]))
        else:
            container[at] = _other(container[at], document, draw)
    return document


def _other(value: Any, document: Any, draw: random.Random) -> Any:
    """Return another value: a hostile one, the same as another kind, or a part of the document."""
    how = draw.randrange(8)
    if how == 0 and isinstance(value, int | float) and not isinstance(value, bool):
        return draw.choice((value + 1, value - 1, -value, value * 10**9, float(value) if abs(value) < 1e300 else 0.0, str(value)))
    if how == 1:
        return [value]
    if how == 2:
        return {"x": value}
    if how == 3:
        parts = _containers(document)
        return copy.deepcopy(draw.choice(parts)) if parts and len(json.dumps(parts[0], default=str)) < 20_000 else None
    return copy.deepcopy(draw.choice(HOSTILE))


def _containers(document: Any) -> list[Any]:
    """Return every dictionary and list of a document that is not empty; large lists count once."""
    found, waiting = [], [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and node:
            found.append(node)
            waiting += list(node.values())[:60]
        elif isinstance(node, list) and node:
            found.append(node)
            waiting += node[:20]
    return found


def as_json(document: Any) -> bytes:
    """Return a document as JSON; lone surrogates are escaped."""
    return json.dumps(document).encode("ascii")
