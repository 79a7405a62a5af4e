"""Students and teachers with different tokenizers."""

from __future__ import annotations

from pathlib import Path

from compress.distill.tokenization import common_mask_token
from tests import tiny


def test_the_common_mask_token_is_that_of_all_tokenizers(tmp_path: Path) -> None:
    folders = {}
    for name, family in (("one", "bert"), ("two", "bert"), ("other", "roberta"), ("none", "bert")):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        tiny.write_tokenizer(folders[name], family)
    path = folders["none"] / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[MASK]", "[MUSK]"), encoding="utf-8")
    assert common_mask_token([folders["one"], folders["two"], folders["one"]]) == "[MASK]"
    assert common_mask_token([folders["other"]]) == "<mask>"
    assert common_mask_token([folders["one"], folders["other"]]) is None
    assert common_mask_token([folders["one"], folders["none"]]) is None
