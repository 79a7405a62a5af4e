"""Mention pairs: columns, offsets, marks, the tokens that are kept, scores, and inputs that will not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.core.errors import DataError
from compress.data.encoded import IGNORED, Encoded
from compress.data.mentions import CHOICE, CHOICES, GENDER, antecedent_name, encode_mentions, mention_examples, mention_scores
from compress.data.presets import resolve
from compress.data.task import Task
from compress.data.unlabeled import append_unlabeled, read_unlabeled
from compress.models.tokenizer import load_tokenizer
from tests import tiny

TEXT = "Ada Lovelace met Mary Somerville when she was seventeen; Ada's mother knew her."
GAP = ["ID", "Text", "Pronoun", "Pronoun-offset", "A", "A-offset", "A-coref", "B", "B-offset", "B-coref", "URL"]
ROW: dict[str, Any] = {
    "ID": "development-1", "Text": TEXT, "Pronoun": "she", "Pronoun-offset": 38, "A": "Ada Lovelace", "A-offset": 0, "A-coref": "TRUE",
    "B": "Mary Somerville", "B-offset": 17, "B-coref": "FALSE", "URL": "http://en.wikipedia.org/wiki/Ada_Lovelace",
}  # fmt: skip


def task_of(path: Path, split: str = "test") -> Task:
    return Task(resolve({"kind": "coreference", split: str(path)}))


def write_tsv(path: Path, *changes: dict[str, Any], columns: list[str] = GAP) -> Path:
    """Write rows in GAP's layout, each with its changes."""
    lines = ["\t".join(columns), *("\t".join(str((ROW | change)[column]) for column in columns) for change in changes)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_gaps_own_file(tmp_path: Path) -> None:
    other = {"A-coref": "FALSE", "B-coref": "TRUE", "Pronoun": "her", "Pronoun-offset": 75}
    task = task_of(write_tsv(tmp_path / "gap.tsv", {}, other, {"A-coref": "FALSE"}))
    examples = task.split("test")
    marked = "# Ada Lovelace # met # Mary Somerville # when * she * was seventeen; Ada's mother knew her."
    assert examples.texts[0] == (marked,)
    assert examples.labels[:, CHOICE].tolist() == [0, 1, 2]
    for (text,), label, pronoun in zip(examples.texts, examples.labels, ("she", "her", "she"), strict=True):
        assert [text[start:end] for start, end in label[:CHOICE].reshape(3, 2)] == [pronoun, "Ada Lovelace", "Mary Somerville"]
        assert [antecedent_name(text, label, choice) for choice in range(3)] == ["Ada Lovelace", "Mary Somerville", ""]
    assert task.label_names == ["other", "antecedent"]
    assert task.spec.metrics == ["gap_f1", "gap_f1_masculine", "gap_f1_feminine", "gap_bias"]
    assert task.spec.max_length == 256


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_the_same_in_every_format_with_other_names_of_columns(ending: str, tmp_path: Path) -> None:
    """As `datasets` and others store it: underscores, small letters, typed columns."""
    expected = task_of(write_tsv(tmp_path / "gap.tsv", {}, {"A-coref": "FALSE"})).split("test")
    rows = [{key.lower().replace("-", "_"): value for key, value in ROW.items()} for _ in range(2)]
    for row, first in zip(rows, (True, False), strict=True):
        row |= {"a_coref": first, "b_coref": False}
    frame, path = pd.DataFrame(rows), tmp_path / f"gap.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    found = task_of(path).split("test")
    assert found.texts == expected.texts
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_the_fingerprint_follows_the_mentions() -> None:
    import datasets

    rows = [{key: value for key, value in ROW.items() if key != "URL"}]
    tasks = [
        Task(resolve({"kind": "coreference", "data": {"test": datasets.Dataset.from_list([rows[0] | change])}}))
        for change in ({}, {"ID": "other"}, {"B-coref": "TRUE", "A-coref": "FALSE"})
    ]
    first, same, other = (task.fingerprint for task in tasks)
    assert first == same != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A-offset": 1}, r"row 2 of .*: at character 1 of the text stands 'da Lovelace ', not the a 'Ada Lovelace'"),
        ({"B-offset": 500}, r"row 2 .* b_offset is 500, outside of a text of 79 characters"),
        ({"Pronoun-offset": -3}, "pronoun_offset is -3, outside"),
        ({"Pronoun-offset": "three"}, "pronoun_offset is three, not a whole number"),
        ({"Pronoun-offset": 38.5}, "not a whole number"),
        ({"Pronoun-offset": ""}, "not a whole number"),
        ({"B-coref": "TRUE"}, "row 2 .* marks both names as the antecedent"),
        ({"B-coref": "perhaps"}, "b_coref is 'perhaps', neither TRUE nor FALSE"),
        ({"B": "Lovelace", "B-offset": 4}, "the mentions 'a' and 'b' overlap"),
        ({"A": "", "A-offset": 3}, "the mention 'a' has no text"),
        ({"Text": ""}, "row 2 .* has no text"),
    ],
)
def test_rows_that_will_not_do(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    task = task_of(write_tsv(tmp_path / "gap.tsv", {}, change))
    with pytest.raises(DataError, match=message):
        task.split("test")


def test_files_that_will_not_do(tmp_path: Path) -> None:
    without = [column for column in GAP if column != "B-offset"]
    with pytest.raises(DataError, match="has no column 'b_offset'"):
        task_of(write_tsv(tmp_path / "a.tsv", {}, columns=without)).split("test")
    with pytest.raises(DataError, match="has no rows"):
        task_of(write_tsv(tmp_path / "b.tsv")).split("test")
    (tmp_path / "c.tsv").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"no rows|empty"):
        task_of(tmp_path / "c.tsv").split("test")


def test_unlabeled_pairs_keep_their_mentions(tmp_path: Path) -> None:
    spec = task_of(write_tsv(tmp_path / "gap.tsv", {})).spec
    columns = [column for column in GAP if not column.endswith("coref")]
    unlabeled = read_unlabeled(str(write_tsv(tmp_path / "more.tsv", {}, columns=columns)), spec)
    labeled = Task(spec).split("test")
    both = append_unlabeled(labeled, unlabeled)
    assert both.texts == [*labeled.texts, *labeled.texts]
    assert both.labels[:, CHOICE].tolist() == [0, 2]
    np.testing.assert_array_equal(both.labels[0, :CHOICE], both.labels[1, :CHOICE])


PAIR = {key.lower().replace("-", "_"): ROW[key] for key in GAP if not key.endswith(("coref", "URL"))}


def test_inputs_are_mappings_or_json() -> None:
    examples = mention_examples([PAIR, json.dumps(PAIR), ROW])
    assert len(set(examples.texts)) == 1
    assert examples.labels[:, GENDER].tolist() == [2, 2, 2]
    for wrong in ("plain text", "[1]", ("a", "b"), {"text": TEXT}):
        with pytest.raises(DataError, match="input 1 has no '"):
            mention_examples([wrong])
    with pytest.raises(DataError, match="input 2: at character 3"):
        mention_examples([PAIR, PAIR | {"a_offset": 3}])


WORDS = st.lists(st.sampled_from(["dog", "soup", "xyz", "the", "naïve", "—", "東京", "😀", "it's", "Ada"]), min_size=0, max_size=30)


@settings(max_examples=60, deadline=None)
@given(parts=st.tuples(WORDS, WORDS, WORDS, WORDS), order=st.permutations(range(3)), choice=st.integers(0, 2), room=st.integers(24, 200))
def test_tokens_of_the_mentions_are_found_whatever_is_around_them(
    parts: tuple[list[str], ...], order: list[int], choice: int, room: int, tokenizers: dict[str, Any]
) -> None:
    """In every order of the mentions, in short inputs and long ones: the kept tokens are those nearest to a mention, in their order."""
    mentions = {"pronoun": "she", "a": "old dog", "b": "horse"}
    names, pair, text = [list(mentions)[number] for number in order], {}, ""
    for before, name in zip(parts, names, strict=False):
        text += " ".join([*before, ""])
        pair |= {name: mentions[name], f"{name}_offset": len(text)}
        text += f"{mentions[name]} "
    examples = mention_examples([{"text": text + " ".join(parts[3]), **pair}])
    examples.labels[:, CHOICE] = choice
    for tokenizer in tokenizers.values():
        data = encode_mentions(tokenizer, examples.texts, examples.labels, room, 0)
        whole = encode_mentions(tokenizer, examples.texts, examples.labels, 10_000, 0)
        (ids,), (places,), (tags,) = data.input_ids, data.places or [], data.labels
        assert len(ids) == min(room, len(whole.input_ids[0]))
        assert [tokenizer.id_to_token(token) for token in ids[places == 0]] == ["old", "dog"]
        assert [tokenizer.id_to_token(token) for token in ids[places == 1]] == ["horse"]
        assert (tags[places < 0] == IGNORED).all()
        assert [tags[places == number].tolist() for number in (0, 1)] == [[int(choice == 0)] * 2, [int(choice == 1)]]
        assert ids[0] == whole.input_ids[0][0]  # special tokens stay
        assert ids[-1] == whole.input_ids[0][-1]
        rest = iter(whole.input_ids[0].tolist())
        assert all(token in rest for token in ids.tolist())  # a subsequence


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tiny tokenizers with the special tokens of BERT and of RoBERTa."""
    found = {}
    for family in ("bert", "roberta"):
        folder = tmp_path_factory.mktemp(family)
        tiny.write_tokenizer(folder, family)
        found[family] = load_tokenizer(folder)
    return found


def test_an_input_shorter_than_its_mentions_keeps_special_tokens(tokenizers: dict[str, Any]) -> None:
    examples = mention_examples([PAIR])
    data = encode_mentions(tokenizers["bert"], examples.texts, examples.labels, 4, 0)
    assert data.input_ids[0].tolist()[0::3] == [2, 3]  # [CLS] and [SEP]


def encoded(places: list[list[int]]) -> Encoded:
    rows = [np.array(row) for row in places]
    return Encoded(rows, rows, rows, 0, np.arange(len(rows)), rows)


def test_scores_are_mean_margins_by_hand() -> None:
    data = encoded([[-1, 0, 0, 1], [1, -1], [0, 1]])
    logits = np.array([[9, 0], [0, 2], [1, 2], [3, 0], [0, 1], [0, 9], [1, 0], [2, 0]], dtype=np.float32)
    scores = mention_scores(logits, data)
    np.testing.assert_allclose(scores, [[1.5, -3, 0], [-np.inf, 1, 0], [-1, -2, 0]])
    assert [CHOICES[best] for best in scores.argmax(1)] == ["A", "B", "neither"]


def test_swapped_names_are_marked_alike() -> None:
    """A model cannot tell A from B by their order in the columns."""
    swapped = PAIR | {"a": PAIR["b"], "a_offset": PAIR["b_offset"], "b": PAIR["a"], "b_offset": PAIR["a_offset"]}
    first, second = (mention_examples([pair]) for pair in (PAIR, swapped))
    assert first.texts == second.texts
    np.testing.assert_array_equal(first.labels[0, [2, 3, 4, 5]], second.labels[0, [4, 5, 2, 3]])
