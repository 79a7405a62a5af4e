"""Texts augmented by a masked language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import ModelError
from compress.data.input_spec import InputSpec
from compress.distill import word_substitution as module
from compress.distill.word_substitution import CANDIDATES, choose_words, like_case, replace_core, substitute_words, whole_words
from tests import tiny

CPU = torch.device("cpu")
TEXTS = [(f"{first}, {second}",) for first, second in tiny.sentences(12)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "variants"


@pytest.fixture(params=["bert", "roberta"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tiny.write_masked_lm(tmp_path / "writer", request.param))


def made(writer: str, texts: Any = TEXTS, input_spec: InputSpec | None = None, copies: int = 3, seed: int = 0) -> list[tuple[str, ...]]:
    return list(substitute_words(texts, input_spec or InputSpec(), copies, seed, writer, CPU).texts)


def test_some_words_are_replaced_by_whole_words_and_the_rest_stays(writer: str) -> None:
    variants = made(writer)
    assert len(variants) == 3 * len(TEXTS)
    known = set(tiny.FILLERS) | {word for words in tiny.TOPICS.values() for word in words} | set(tiny.LETTERS)
    for (text,), (parent,) in zip(variants, TEXTS * 3, strict=True):
        pairs = list(zip(text.split(), parent.split(), strict=True))  # as many words as before
        changed = [(new, old) for new, old in pairs if new != old]
        assert 1 <= len(changed) <= max(1, round(0.4 * len(pairs)))
        assert {new.strip(",").lower() for new, _ in changed} <= known
        assert all(new.endswith(",") == old.endswith(",") for new, old in pairs)


def test_the_words_are_the_likeliest_where_they_are_hidden(writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one candidate each, against the model asked by hand."""
    from transformers import AutoModelForMaskedLM

    from compress.models.tokenizer import load_tokenizer

    monkeypatch.setattr(module, "CANDIDATES", 1)
    monkeypatch.setattr(module, "SHARE", (0.0, 0.0))  # one at least
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(writer).eval(), load_tokenizer(Path(writer))
    names = whole_words(tokenizer)
    for (text,), (parent,) in zip(made(writer, copies=1), TEXTS, strict=True):
        new, old = text.split(), parent.split()
        ((place, word),) = [(place, word) for place, word in enumerate(new) if word != old[place]]
        mask = next(mask for mask in module.MASK_TOKENS if mask in tokenizer.get_vocab())
        ids = tokenizer.encode(" ".join([*old[:place], replace_core(old[place], mask), *old[place + 1 :]])).ids
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, ids.index(tokenizer.token_to_id(mask))]
        best = [names[number] for number in scores.argsort(descending=True).tolist() if number in names]
        assert word.strip(",") == next(name for name in best if name != old[place].strip(","))


def test_a_seed_decides_and_what_was_made_is_kept(writer: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first, other = made(writer), made(writer, seed=1)
    assert first != other
    monkeypatch.setattr(module, "load_masked_lm", lambda folder: pytest.fail("asked again"))
    assert made(writer) == first
    assert len(list(cache.iterdir())) == 2


def test_batches_change_nothing(writer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = made(writer)
    monkeypatch.setattr(module, "MAX_BATCH", 5)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "another"))
    assert made(writer) == first


def test_two_texts_both_change(writer: str) -> None:
    pairs = tiny.sentences(6)
    for variants, parent in zip(made(writer, pairs), pairs * 3, strict=True):
        assert all(new != old for new, old in zip(variants, parent, strict=True))


def test_a_question_is_not_touched(writer: str) -> None:
    contexts = [("who is it ?", text) for (text,) in TEXTS]
    variants = made(writer, contexts, InputSpec(target="span"))
    assert {text[0] for text in variants} == {"who is it ?"}
    assert all(text[1] != parent[1] for text, parent in zip(variants, contexts * 3, strict=True))


def test_tagged_sentences_keep_their_words_number(writer: str) -> None:
    sentences = [tuple(text.split()) for (text,) in TEXTS]
    examples = substitute_words(sentences, InputSpec(target="tags"), 2, 0, writer, CPU)
    assert [len(words) for words in examples.texts] == [len(words) for words in sentences * 2]
    assert all(words != parent for words, parent in zip(examples.texts, sentences * 2, strict=True))
    assert [len(tags) for tags in examples.labels] == [len(words) for words in examples.texts]


def test_what_is_beyond_the_model_stays(writer: str) -> None:
    words = ["the dog is old"] * 100
    ((text,),) = made(writer, [(" ".join(words),)], copies=1)
    new, old = text.split(), " ".join(words).split()
    changed = [place for place, word in enumerate(new) if word != old[place]]
    assert len(new) == len(old)
    assert changed
    assert max(changed) < tiny.POSITIONS


@pytest.mark.parametrize("text", ["", "...", "the [MASK] is <mask>", "今天天气[MASK]很好我们去公园吧"])
def test_a_text_without_words_or_with_masks_is_left_alone(writer: str, text: str) -> None:
    assert made(writer, [(text,), ("the dog is old",)], copies=1)[0] == (text,)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_whole_words_are_those_that_start_one(family: str, tmp_path: Path) -> None:
    from compress.models.tokenizer import load_tokenizer

    names = whole_words(load_tokenizer(tiny.write_masked_lm(tmp_path / "writer", family)))
    assert {"dog", "very"} <= set(names.values())
    assert not any(name.startswith(("##", "[", "<", "\u0120")) for name in names.values())


def test_whole_words_of_byte_level_and_sentencepiece_tokens_as_they_read() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens = [byte_level.pre_tokenize_str(text)[0][0] for text in (" dog", " größe", " García", " \u2013", " \u201c", "ing", " ")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<mask>"])
    assert whole_words(tokenizer) == {0: "dog", 1: "größe", 2: "García"}
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581the", -1.0), ("\u2581", -2.0), ("\u2581,", -3.0), ("ing", -4.0)], 0))
    tokenizer.decoder = decoders.Metaspace()
    assert whole_words(tokenizer) == {1: "the"}


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("movie", "film", "film"),
        ("(Movie),", "film", "(Film),"),
        ("USA.", "uk", "UK."),
        ("don't", "can", "can"),
        ("I", "we", "We"),
        ("a", "McCoy", "McCoy"),
        ("«größe»", "länge", "«länge»"),
    ],
)
def test_marks_and_capitals_stay(word: str, other: str, expected: str) -> None:
    assert replace_core(word, like_case(word, other)) == expected


def test_the_share_of_hidden_words() -> None:
    rng = np.random.default_rng(0)
    counts = [len(choose_words(tuple("abcdefghij"), rng).positions) for _ in range(300)]
    assert (min(counts), max(counts)) == (1, 4)
    assert choose_words(("...", "--"), rng).positions == []
    assert CANDIDATES == 15


def test_other_models_are_refused(tmp_path: Path) -> None:
    for number, write in enumerate((tiny.write_encoder, tiny.write_checkpoint)):
        folder = write(tmp_path / str(number))
        with pytest.raises(ModelError, match="not a masked language model: it lacks the weight") as caught:
            made(str(folder))
        assert caught.value.exit_code == 4
        assert "pre-trained" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="there is no model folder"):
        made(str(tmp_path / "nothing"))


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    import json

    folder = tiny.write_masked_lm(tmp_path / "writer", "bert")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[MASK]", "[MUSK]"), encoding="utf-8")
    assert "[MASK]" not in json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    with pytest.raises(ModelError, match="has no mask"):
        made(str(folder))


def test_a_tokenizer_of_more_words_and_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.write_masked_lm(tmp_path / "longer")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["brandnew"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="the tokenizer belongs to another model|has ids up to"):
        made(str(folder))
    folder = tiny.write_masked_lm(tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        made(str(folder))
