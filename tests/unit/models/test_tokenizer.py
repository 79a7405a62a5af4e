"""Tokenizers of model folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ModelError
from compress.models.tokenizer import load_tokenizer, pad_id, save_tokenizer
from tests import tiny

Maker = Callable[..., Path]
TEXT = "the red dog and an old horse"


def test_tokenizer_reads_words(checkpoint: Maker, family: str) -> None:
    tokens = load_tokenizer(checkpoint(family)).encode(TEXT).tokens
    assert tokens[1:-1] == TEXT.split()
    assert tokens[0] in {"[CLS]", "<s>"}


def test_padding_and_truncation_of_the_file_are_dropped(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(load_tokenizer(tmp_path).encode(TEXT).ids) == 9


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    size = len(tiny.vocabulary())
    load_tokenizer(tmp_path, size)
    with pytest.raises(ModelError, match=f"ids up to {size - 1}, but the model has {size - 1} embeddings") as caught:
        load_tokenizer(tmp_path, size - 1)
    assert caught.value.exit_code == 4


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"nonsense", b"\xff\xfe\x00", b'{"model": {"type": "Evil"}}'])
def test_unreadable_tokenizer(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(tmp_path)


def write_old_style(folder: Path) -> None:
    """Write the tokenizer that BERT had before tokenizer.json: vocab.txt alone."""
    (folder / "vocab.txt").write_text("\n".join(tiny.vocabulary()) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(tiny.vocabulary())}), encoding="utf-8")


def test_old_style_vocabulary_is_converted(tmp_path: Path) -> None:
    write_old_style(tmp_path)
    tiny_folder = tmp_path / "new"
    tiny_folder.mkdir()
    tiny.write_tokenizer(tiny_folder)
    assert load_tokenizer(tmp_path).encode(TEXT).ids == load_tokenizer(tiny_folder).encode(TEXT).ids


def test_saving_always_writes_tokenizer_json(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    write_old_style(old)
    save_tokenizer(old, new)
    assert load_tokenizer(new).encode(TEXT).ids == load_tokenizer(old).encode(TEXT).ids
    assert (new / "vocab.txt").read_bytes() == (old / "vocab.txt").read_bytes()


def test_saved_tokenizer_opens_in_transformers(tmp_path: Path, family: str) -> None:
    import transformers

    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    tiny.write_tokenizer(source, family)
    (source / "tokenizer_config.json").unlink()
    save_tokenizer(source, target)
    opened: Any = transformers.AutoTokenizer.from_pretrained(str(target))
    assert opened(TEXT)["input_ids"] == load_tokenizer(source).encode(TEXT).ids
    assert opened.pad_token == ("<pad>" if "<pad>" in tiny.vocabulary(family) else "[PAD]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"pad_token_id": 5}', 5),
        ('{"pad_token_id": null}', 0),
        ("{}", 0),
        ("[]", 0),
        ("nonsense", 0),
        (None, 0),
        ('{"pad_token_id": "1"}', 0),
    ],
)
def test_pad_id(tmp_path: Path, text: str | None, expected: int) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert pad_id(tmp_path) == expected
