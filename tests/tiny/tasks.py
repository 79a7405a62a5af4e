"""Sentences that three layers can learn to classify, and tasks of every kind."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny.configs import CONFIGS, FILLERS, LABELS, POSITIONS, TOPICS
from tests.tiny.tokenizers import write_tokenizer


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return distinct (text, label) rows of many lengths, the classes in turn: a task that three layers can learn."""
    return list(_sentences(count, seed))


@cache
def _sentences(count: int, seed: int) -> tuple[tuple[str, str], ...]:
    rng = np.random.default_rng(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = LABELS[len(rows) % len(LABELS)]
        words = [*rng.choice(TOPICS[label], rng.integers(3, 7)), *rng.choice(FILLERS, rng.integers(1, 18))]
        rows.setdefault(" ".join(rng.permutation(words)), label)
    return tuple(rows.items())


@cache
def encoded(family: str = "bert", count: int = 12, pairs: bool = False, seed: int = 0) -> Any:
    """Return encoded sentences (or pairs of them) of many lengths; the label is the first sentence's."""
    import tempfile

    from compress.data.encoding import encode
    from compress.models.tokenizer import load_tokenizer

    rows = sentences(2 * count, seed)
    texts: list[tuple[str, ...]] = [(first[0], second[0]) for first, second in zip(rows[::2], rows[1::2], strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(Path(scratch), family)
        tokenizer = load_tokenizer(Path(scratch))
    labels = np.array([LABELS.index(label) for _, label in rows[::2]])
    return encode(tokenizer, texts if pairs else [text[:1] for text in texts], labels, POSITIONS, CONFIGS[family]["pad_token_id"])


def write_task(folder: Path, train: int = 60, validation: int = 24, test: int = 24, kind: str = "jsonl") -> dict[str, Any]:
    """Write the tiny task's files as JSON lines, which are read fastest, or as Parquet; returns the task's document."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sentences(train + validation + test, seed=1)
    document: dict[str, Any] = {"name": "tiny", "text": ["text"], "labels": LABELS, "max_length": 32}
    start = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        path, part = folder / f"{split}.{kind}", rows[start : start + count]
        if part and kind == "parquet":
            import pandas as pd

            pd.DataFrame(part, columns=["text", "label"]).to_parquet(path)
        elif part:
            path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in part), encoding="utf-8")
        if part:
            document[split] = str(path)
        start += count
    return document


def write_texts(folder: Path, train: int = 48, validation: int = 16) -> dict[str, Any]:
    """Write texts without labels as JSON lines; returns the document of an embedder's task."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [text for text, _ in sentences(train + validation, seed=5)]
    for split, part in {"train": texts[:train], "validation": texts[train:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part), encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    return {"name": "tiny-texts", "kind": "sentence-embedding", "text": ["text"], "max_length": 32, **files}


def write_scored_pairs(folder: Path, train: int = 24, validation: int = 16) -> dict[str, Any]:
    """Write pairs of texts with the number of words that they share, as JSON lines; returns the document of an embedder's task."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [text for text, _ in sentences(2 * (train + validation), seed=6)]
    pairs = [
        {"first": first, "second": second, "score": float(len(set(first.split()) & set(second.split())))}
        for first, second in zip(rows[::2], rows[1::2], strict=True)
    ]
    for split, part in {"train": pairs[:train], "validation": pairs[train:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    return {"name": "tiny-pairs", "kind": "sentence-embedding", "text": ["first", "second"], "label": "score", "max_length": 32, **files}


def mention_pair(number: int) -> dict[str, Any]:
    """Return a row in GAP's layout: the antecedent is the animal, the first of two, or neither name is one."""
    rng = np.random.default_rng(number)
    topics = [str(topic) for topic in rng.choice(LABELS, 2)]
    mentions = [*(str(rng.choice(TOPICS[topic])) for topic in topics), ("he", "she", "they")[number % 3]]
    row: dict[str, Any] = {"text": ""}
    for key, mention in zip(("a", "b", "pronoun"), mentions, strict=True):
        row["text"] += "".join(f"{word} " for word in rng.choice(FILLERS, rng.integers(1, 6)))
        row |= {key: mention, f"{key}_offset": len(row["text"])}
        row["text"] += f"{mention} "
    row["text"] += "is good"
    first = topics[0] == "animal"
    return row | {"a_coref": first, "b_coref": topics[1] == "animal" and not first}


def write_kind(folder: Path, target: str, train: int = 48, validation: int = 16) -> dict[str, Any]:
    """Write a tiny task of any target as JSON lines; returns the task's document."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    topics = {word: topic for topic, words in TOPICS.items() for word in words}
    rows = []
    for text, _ in sentences(train + validation, seed=5):
        words = text.split()
        found = [topics.get(word, "other") for word in words]
        start = int(rng.integers(0, len(words)))
        rows.append(
            {
                "mentions": mention_pair(len(rows)),
                "labels": {"text": text, "label": sorted({topic for topic in found if topic != "other"})},
                "value": {"text": text, "label": float(len(words))},
                "tags": {"tokens": words, "label": found},
                "span": {
                    "question": f"where is {words[start]} ?",
                    "context": text,
                    "answers": {"text": [words[start]], "answer_start": [len(" ".join(words[:start])) + (1 if start else 0)]},
                },
            }[target]
        )
    for split, part in {"train": rows[:train], "validation": rows[train:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    own: dict[str, dict[str, Any]] = {
        "labels": {"text": ["text"], "multi_label": True},
        "value": {"text": ["text"], "kind": "regression"},
        "tags": {"text": ["tokens"], "kind": "token-classification"},
        "span": {"text": ["question", "context"], "kind": "question-answering"},
        "mentions": {"kind": "coreference"},
    }
    return {"name": f"tiny-{target}", "max_length": 32, **own[target], **files}
