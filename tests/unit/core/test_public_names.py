"""Names that may be published."""

from __future__ import annotations

import pytest

from compress.core.public_names import markdown_code, markdown_text, public_name, public_names, with_public_names


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/home/me/secret/train.csv", "train.csv"),
        ("/home/me/model/", "model"),
        ("~/models/teacher", "teacher"),
        ("../secret/teacher", "teacher"),
        ("./teacher", "teacher"),
        ("data/../../secret/x.csv", "x.csv"),
        ("google-bert/bert-base-uncased@main", "google-bert/bert-base-uncased@main"),
        ("builtin:minilm-l6", "builtin:minilm-l6"),
        ("slim/2x", "slim/2x"),
        ("auto", "auto"),
    ],
)
def test_only_local_paths_lose_their_folders(reference: str, expected: str) -> None:
    assert public_name(reference) == expected


def test_names_are_replaced_at_any_depth_and_keys_stay_distinct() -> None:
    value = {"unlabeled": "/a/b.txt", "seeds": [1, 2], "inputs": {"/a/teacher": "1", "/b/teacher": "2"}, "lr": 1e-5, "none": None}
    assert with_public_names(value) == {
        "unlabeled": "b.txt", "seeds": [1, 2], "inputs": {"teacher": "1", "teacher (2)": "2"}, "lr": 1e-5, "none": None,
    }  # fmt: skip


def test_no_path_gets_the_name_of_a_stage_or_of_another_model() -> None:
    given = ["/old/student", "/older/student", "/old/student (openvino)", "student", "/a/x", "/b/x", "owner/x", "x (2)"]
    names = public_names(given, taken={"student"})
    assert list(names.values()) == ["./student", "./student (2)", "./student (openvino)", "student", "x", "x (3)", "owner/x", "x (2)"]
    again = public_names(names.values(), taken={"student"})
    assert list(again.values()) == list(names.values())  # of a manifest that is public already


def test_text_is_shown_as_it_is_by_markdown() -> None:
    assert markdown_text("a_b <img src=x>\n# [x](y) | *z* `q`") == r"a_b \<img src=x\> # \[x\](y) \| \*z\* \`q\`"
    assert markdown_text("__init__") == r"\_\_init\_\_"
    assert markdown_code("a`b\nc") == "`a'b c`"
