"""The tokenizer of a folder is the one that transformers opens, when it is read, written and read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ModelError
from compress.data.encoding import cut_texts
from compress.models import resolved_tokenizer
from compress.models.resolved_tokenizer import is_resolved, read_settings, resolve_tokenizer
from compress.models.tokenizer import load_tokenizer, save_tokenizer, splits_special_tokens, truncation_side
from tests import tiny

Maker = Callable[..., Path]
TEXTS = ["The RED dog", "an <ent> old [MASK] horse", "crème brûlée 東京", "the " * 30 + "red dog"]
BERT = {"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]", "unk_token": "[UNK]"}
SETTINGS: dict[str, dict[str, Any]] = {
    "lower": BERT | {"do_lower_case": True},
    "cased": BERT | {"do_lower_case": False},
    "no class": {"do_lower_case": False},
    "accents": BERT | {"do_lower_case": True, "strip_accents": False},
    "chinese": BERT | {"tokenize_chinese_chars": False},
    "left": BERT | {"truncation_side": "left"},
    "padding": BERT | {"padding_side": "left"},
    "no types": BERT | {"model_input_names": ["input_ids", "attention_mask"]},
    "types": {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    "split specials": BERT | {"split_special_tokens": True},
    "added": BERT | {"added_tokens_decoder": {"6": {"content": "b", "lstrip": False, "normalized": False, "rstrip": False,
                                                   "single_word": False, "special": False}}},
    "mpnet": {"tokenizer_class": "MPNetTokenizer", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"},
}  # fmt: skip


def inputs_of(folder: Path, length: int) -> list[tuple[list[int], list[int]]]:
    """Return the ids and types that transformers gives a BERT, of each text and of a pair."""
    import transformers

    opened: Any = transformers.AutoTokenizer.from_pretrained(str(folder))
    found = [opened(text, truncation=True, max_length=length) for text in TEXTS]
    found.append(opened(TEXTS[0], TEXTS[3], truncation=True, max_length=length))
    return [(encoding["input_ids"], encoding.get("token_type_ids") or [0] * len(encoding["input_ids"])) for encoding in found]


def own_inputs(folder: Path, length: int) -> list[tuple[list[int], list[int]]]:
    tokenizer: Any = cut_texts(load_tokenizer(folder, len(tiny.vocabulary())), length)
    encodings = [*(tokenizer.encode(text) for text in TEXTS), tokenizer.encode(TEXTS[0], TEXTS[3])]
    return [(encoding.ids, encoding.type_ids) for encoding in encodings]


def write(folder: Path, settings: dict[str, Any] | None, **config: Any) -> Path:
    folder.mkdir()
    tiny.write_tokenizer(folder)
    described = {"model_type": "bert", "vocab_size": len(tiny.vocabulary()), "type_vocab_size": 2} | config
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "tokenizer_config.json").unlink()
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_followed_and_kept(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = write(tmp_path / "source", SETTINGS[name]), tmp_path / "target"
    expected = inputs_of(source, 12)
    assert own_inputs(source, 12) == expected
    target.mkdir()
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    save_tokenizer(source, target)
    assert SETTINGS[name].items() <= read_settings(target).items()
    assert inputs_of(target, 12) == expected
    monkeypatch.setattr(resolved_tokenizer, "_by_transformers", None)  # a written folder opens without it
    assert own_inputs(target, 12) == expected
    assert (truncation_side(target), splits_special_tokens(target)) == (truncation_side(source), splits_special_tokens(source))


def test_a_folder_without_settings_opens_as_in_transformers(tmp_path: Path) -> None:
    source = write(tmp_path / "source", None)
    assert own_inputs(source, 12) == inputs_of(source, 12)


def test_the_side_that_tokenizer_json_records_is_kept(tmp_path: Path) -> None:
    source, target = write(tmp_path / "source", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}), tmp_path / "target"
    document = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    document["truncation"] = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    (source / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    expected = inputs_of(source, 12)
    target.mkdir()
    save_tokenizer(source, target)
    assert own_inputs(source, 12) == own_inputs(target, 12) == expected


def test_edited_settings_are_followed(tmp_path: Path) -> None:
    source, target = write(tmp_path / "source", BERT | {"do_lower_case": True}), tmp_path / "target"
    target.mkdir()
    save_tokenizer(source, target)
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    assert is_resolved(target, read_settings(target))
    edited = read_settings(target) | {"do_lower_case": False}
    (target / "tokenizer_config.json").write_text(json.dumps(edited), encoding="utf-8")
    assert not is_resolved(target, edited)
    assert own_inputs(target, 12) == inputs_of(target, 12) != inputs_of(source, 12)


def test_one_token_type(tmp_path: Path) -> None:
    source = write(tmp_path / "source", BERT, type_vocab_size=1)
    assert {kind for _, types in own_inputs(source, 12) for kind in types} == {0}
    assert {kind for _, types in own_inputs(write(tmp_path / "two", BERT), 12) for kind in types} == {0, 1}


def test_more_types_than_the_model_has_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    source = write(tmp_path / "source", SETTINGS["types"])
    tokenizer: Any = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:2", special_tokens=[])
    tokenizer.save(str(source / "tokenizer.json"))
    with pytest.raises(ModelError, match="the type 2, and the model has 2 types"):
        load_tokenizer(source)


def test_what_transformers_cannot_open_is_read_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", {"tokenizer_class": "BertTokenizer", "truncation_side": "above"})
    assert load_tokenizer(source).encode("the red dog").tokens == ["[CLS]", "the", "red", "dog", "[SEP]"]
    assert "tokenizer.json is used as it is" in capsys.readouterr().err
    assert resolve_tokenizer(source).tokenizer_class is None
