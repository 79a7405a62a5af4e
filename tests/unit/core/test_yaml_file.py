"""Safe YAML: what is read, what is refused, and that nothing else ever happens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from compress.core import yaml_file
from compress.core.errors import RecipeError

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + number)}: &{chr(98 + number)} [*{chr(97 + number)}, *{chr(97 + number)}]\n" for number in range(20)
)
REFUSED = {
    "tabs": "a:\n\tb: 1\n",
    "duplicate keys": "a: 1\na: 2\n",
    "nested duplicate keys": "x:\n  a: 1\n  b: 2\n  a: 3\n",
    "alias bomb": BOMB,
    "one alias": "a: &x 1\nb: *x\n",
    "merge key": "a: {<<: {b: 1}}\n",
    "python object": "!!python/object/apply:os.system ['true']\n",
    "python name": "a: !!python/name:os.system\n",
    "unknown tag": "a: !something 1\n",
    "unclosed list": "a: [1, 2\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "control characters": "a: \x07\n",
    "a number as key": "1: a\n",
    "a list as key": "[a, b]: 1\n",
    "null as key": "~: 1\n",
    "deep lists": "a: " + "[" * 100 + "]" * 100 + "\n",
    "deep mappings": "{a: " * 100 + "1" + "}" * 100 + "\n",
    "a bad date": "a: !!timestamp 2001-99-99\n",
    "an unbounded number": f"a: {'9' * 5000}\n",
    "a bad binary": "a: !!binary a\n",
    "a bad integer": "a: !!int nonsense\n",
}
CRASHES = {  # documents with an explicit tag that does not fit its value
    "no date": ("a: !!timestamp nonsense\n", AttributeError),
    "no boolean": ("a: !!bool nonsense\n", KeyError),
    "empty float": ("a: !!float ''\n", IndexError),
    "empty integer": ("a: !!int ''\n", IndexError),
    "a list as mapping": ("a: !!map [b]\n", TypeError),
    "a list as set": ("a: !!set [b]\n", TypeError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_documents_are_recipe_errors_with_their_place(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        yaml_file.parse(REFUSED[name], "my.yaml")
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith("my.yaml")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", list(CRASHES))
def test_tags_that_do_not_fit_are_recipe_errors(name: str) -> None:
    with pytest.raises(RecipeError):
        yaml_file.parse(CRASHES[name][0], "my.yaml")


@pytest.mark.parametrize(("name", "line"), [("tabs", 2), ("duplicate keys", 2), ("nested duplicate keys", 4), ("one alias", 2)])
def test_messages_name_the_line(name: str, line: int) -> None:
    with pytest.raises(RecipeError, match=rf"^my\.yaml, line {line}: "):
        yaml_file.parse(REFUSED[name], "my.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        ("-1e-5", -1e-5),
        ("2.0e-5", 2e-5),
        ("1.5e+3", 1500.0),
        ("3.", 3.0),
        (".5", 0.5),
        ("+1.5", 1.5),
        ("17", 17),
        ("-3", -3),
        ("true", True),
        ("null", None),
        ("~", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("e5", "e5"),
        ("1e", "1e"),
        ("e-5", "e-5"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("2024-01-31", "2024-01-31"),
        ("'1e-5'", "1e-5"),
        ("[1, 2e1]", [1, 20.0]),
    ],
)
def test_values_are_read_as_people_write_them(text: str, value: Any) -> None:
    found = yaml_file.parse(f"a: {text}", "x")["a"]
    assert found == value
    assert type(found) is type(value)


def test_characters_that_json_writes_as_two_halves() -> None:
    assert yaml_file.parse(json.dumps({"text": ["🐕", "a 👩\u200d👧"]}), "x") == {"text": ["🐕", "a 👩\u200d👧"]}
    assert yaml_file.parse('"a \\ud800 b"', "x") == "a \ud800 b"


def test_nan_is_a_number() -> None:
    assert math.isnan(yaml_file.parse(".nan", "x"))


def test_depth_up_to_the_limit_is_fine() -> None:
    text = "[" * yaml_file.MAX_DEPTH + "]" * yaml_file.MAX_DEPTH
    assert yaml_file.parse(text, "x") == json.loads(text)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefg-_.0", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(TREES)
def test_what_yaml_writes_is_read_back(tree: Any) -> None:
    assert yaml_file.parse(yaml.safe_dump(tree, allow_unicode=True), "x") == tree


@given(st.text())
@example("\ufeff")
@example("%YAML 9.9\n---\na")
@example("--- !<tag:yaml.org,2002:str> a")
@example("? a\n: - b\n  -\n")
def test_any_text_is_a_document_or_a_recipe_error(text: str) -> None:
    try:
        yaml_file.parse(text, "x")
    except RecipeError as error:
        assert error.message.startswith("x")  # noqa: PT017 (any other exception fails the test)


PIECES = st.lists(
    st.sampled_from([*list(":-[]{}&*!|>'\"%@`#?,~\n \tab1.e<="), "!!", "a: ", "- ", "\n  ", "---", "...", "<<", "1e5", "&x ", "*x"]),
    max_size=40,
)


@given(PIECES.map("".join))
def test_any_soup_of_yaml_signs_is_a_document_or_a_recipe_error(text: str) -> None:
    try:
        yaml_file.parse(text, "x")
    except RecipeError as error:
        assert error.exit_code == 3  # noqa: PT017


TAGS = ["null", "bool", "int", "float", "binary", "timestamp", "omap", "pairs", "set", "str", "seq", "map", "merge", "value", "python/none"]


@given(st.sampled_from(TAGS), st.sampled_from(["''", "x", "1", "[a]", "[{a: 1}]", "[[a]]", "{a: 1}", "{}", "[]", "~"]))
def test_any_standard_tag_on_any_value_is_a_document_or_a_recipe_error(tag: str, value: str) -> None:
    try:
        yaml_file.parse(f"a: !!{tag} {value}", "x")
    except RecipeError as error:
        assert error.exit_code == 3  # noqa: PT017


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n", "is a list"),
        (b"words\n", "is a str"),
        ("a: é".encode("latin-1"), "UTF-8"),
        ("a: 1".encode("utf-16"), "UTF-8"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "my.yaml"),
        (b"\xff\xfe\0\1", "UTF-8"),
        (b"#" * (yaml_file.MAX_BYTES + 1), "larger than 1 MiB"),
    ],
    ids=["empty", "comment", "list", "words", "latin-1", "utf-16", "binary", "bytes", "large"],
)
def test_files_that_are_no_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        yaml_file.read(path)
    assert str(path) in caught.value.message


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: caf\xc3\xa9\r\n")
    assert yaml_file.read(tmp_path / "my.yaml") == {"a": 1, "b": "café"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read"):
        yaml_file.read(tmp_path / "my.yaml")
    with pytest.raises(RecipeError, match="cannot read"):
        yaml_file.read(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mapping_or_a_recipe_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(yaml_file.read(path), dict)
    except RecipeError as error:
        assert error.exit_code == 3  # noqa: PT017
