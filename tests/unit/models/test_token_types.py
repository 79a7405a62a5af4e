"""Token types in post-processors."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, processors

from compress.models.token_types import largest_type, processor_document, set_processor, without_types

NAMES = {"[CLS]": 0, "[SEP]": 1, "a": 2, "b": 3, "[UNK]": 4}
TEMPLATE = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
)
PROCESSORS: dict[str, Any] = {
    "none": None,
    "bert": processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0)),
    "roberta": processors.RobertaProcessing(("[SEP]", 1), ("[CLS]", 0)),
    "bytes": processors.ByteLevel(),
    "template": TEMPLATE,
    "sequence": processors.Sequence([processors.ByteLevel(), TEMPLATE]),
    "bytes alone": processors.Sequence([processors.ByteLevel()]),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_types_become_zeros_and_tokens_stay(name: str) -> None:
    tokenizer: Any = Tokenizer(models.WordLevel(NAMES))
    if PROCESSORS[name] is not None:
        tokenizer.post_processor = PROCESSORS[name]
    pair, single = tokenizer.encode("a", "b"), tokenizer.encode("a")
    assert largest_type(processor_document(tokenizer)) == max(pair.type_ids)
    set_processor(tokenizer, without_types(processor_document(tokenizer)))
    assert tokenizer.encode("a", "b").ids == pair.ids
    assert tokenizer.encode("a", "b").sequence_ids == pair.sequence_ids
    assert tokenizer.encode("a").ids == single.ids
    assert set(tokenizer.encode("a", "b").type_ids) == {0}
    assert largest_type(processor_document(tokenizer)) == 0
