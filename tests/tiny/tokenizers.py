"""The tokenizer of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny.configs import ANGLED, FILLERS, LETTERS, SPECIALS, TOPICS
from tests.tiny.folders import written_once


def vocabulary(family: str = "bert") -> list[str]:
    """Return the tokens in the order of their ids: specials, letters (so that no text is unknown), words."""
    specials = SPECIALS.get(family, SPECIALS["bert"])
    words = [word for topic in TOPICS.values() for word in topic]
    single = [word for word in FILLERS + words if len(word) > 1]
    return [*specials, *LETTERS, *(f"##{letter}" for letter in LETTERS), *single]


@written_once
def write_tokenizer(folder: Path, family: str = "bert") -> Path:
    """Write `tokenizer.json` and `tokenizer_config.json` of a WordPiece tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    names = vocabulary(family)
    roberta = family in ANGLED
    unknown, start, end = ("<unk>", "<s>", "</s>") if roberta else ("[UNK]", "[CLS]", "[SEP]")
    tokenizer = Tokenizer(models.WordPiece({name: number for number, name in enumerate(names)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIALS.get(family, SPECIALS["bert"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}" if roberta else f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(start, names.index(start)), (end, names.index(end))],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    pad = "<pad>" if roberta else "[PAD]"
    untyped = roberta or family in ("distilbert", "modernbert", "deberta-v2", "deberta", "eurobert")
    inputs = ["input_ids", *([] if untyped else ["token_type_ids"]), "attention_mask"]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "unk_token": unknown, "model_input_names": inputs}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
