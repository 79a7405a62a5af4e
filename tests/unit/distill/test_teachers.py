"""What several teachers and their student have in common."""

from __future__ import annotations

from pathlib import Path

from compress.distill.teachers import common_mask
from tests import tiny


def test_a_mask_is_one_that_all_tokenizers_have(tmp_path: Path) -> None:
    folders = {}
    for name, family in (("one", "bert"), ("two", "bert"), ("other", "roberta"), ("none", "bert")):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        tiny.write_tokenizer(folders[name], family)
    path = folders["none"] / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[MASK]", "[MUSK]"), encoding="utf-8")
    assert common_mask([folders["one"], folders["two"], folders["one"]]) == "[MASK]"
    assert common_mask([folders["other"]]) == "<mask>"
    assert common_mask([folders["one"], folders["other"]]) is None
    assert common_mask([folders["one"], folders["none"]]) is None
