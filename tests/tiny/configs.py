"""Sizes, words and configs of the tiny models and tasks: three layers, 32 wide, four heads, 64 FFN neurons."""

from __future__ import annotations

from itertools import cycle
from typing import Any

LAYERS, HIDDEN, HEADS, FFN, POSITIONS = 3, 32, 4, 64, 128
HEAD_SIZE = HIDDEN // HEADS
LABELS = ["animal", "food", "colour"]
TOPICS = {  # what tells the classes of the tiny task apart
    "animal": ["dog", "cat", "horse", "bird"],
    "food": ["bread", "soup", "rice", "tea"],
    "colour": ["red", "blue", "green", "black"],
}
FILLERS = [
    "the", "a", "an", "is", "was", "and", "of", "in", "on", "with", "very", "not", "this", "that", "there",
    "we", "you", "they", "it", "my", "your", "her", "his", "old", "new", "big", "small", "good", "bad",
]  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIALS = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}
_COMMON: dict[str, Any] = {"max_position_embeddings": POSITIONS, "pad_token_id": 0}
_BERT: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "type_vocab_size": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**_COMMON, **_BERT},
    "roberta": {
        **_COMMON,
        **_BERT,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "max_position_embeddings": POSITIONS + 2,
    },
    "xlm-roberta": {},  # as roberta, below
    "mpnet": {},  # likewise
    "electra": {**_COMMON, **_BERT, "embedding_size": 16},
    "distilbert": {**_COMMON, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": FFN},
    "deberta-v2": {  # as DeBERTa-v3 is; 8 buckets for 128 positions
        **_COMMON,
        **_BERT,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "albert": {**_COMMON, **_BERT, "embedding_size": 16, "bos_token_id": 2, "eos_token_id": 3},  # one layer, used three times
    "modernbert": {  # one layer of three sees everything, the others four tokens to each side
        **_COMMON,
        **{key: value for key, value in _BERT.items() if key != "type_vocab_size"},
        "local_attention": 8,
        **{f"{name}_token_id": number for name, number in (("bos", 2), ("cls", 2), ("eos", 3), ("sep", 3))},
    },
}
CONFIGS["deberta"] = {
    **CONFIGS["bert"],
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": 24,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
}
CONFIGS["nomic_bert"] = {**CONFIGS["bert"], "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
CONFIGS["eurobert"] = {  # two heads share a key and a value
    **{key: value for key, value in CONFIGS["nomic_bert"].items() if key != "type_vocab_size"},
    "num_key_value_heads": HEADS // 2,
    **{f"{name}_token_id": number for name, number in (("bos", 2), ("eos", 3), ("mask", 4))},
}
CONFIGS["xlm-roberta"] = CONFIGS["roberta"]
CONFIGS["mpnet"] = {key: value for key, value in CONFIGS["roberta"].items() if key != "type_vocab_size"}
RENAMED = ("camembert", "data2vec-text", "ernie")  # computed as a family above: only tests of names, classes and heads run on them
CONFIGS |= {"camembert": CONFIGS["roberta"], "data2vec-text": CONFIGS["roberta"], "ernie": {**CONFIGS["bert"], "use_task_id": True}}
ANGLED = ("roberta", "xlm-roberta", "mpnet", "camembert", "data2vec-text")  # their special tokens are <s>, </s>, …
SPECIALS |= dict.fromkeys(ANGLED, SPECIALS["roberta"])
OTHER_BLOCKS = (  # layers that are not BERT's: tests of their own in tests/unit/models
    "modernbert", "deberta-v2", "deberta", "nomic_bert", "eurobert",
)  # fmt: skip
GROUPED = ("albert",)  # layers that are used several times, likewise
FAMILIES = [name for name in CONFIGS if name not in RENAMED + OTHER_BLOCKS + GROUPED]
FIXED_NAMES: dict[str, list[str]] = {"value": ["value"], "span": ["start", "end"], "mentions": ["other", "antecedent"]}
# Every family with every class of heads; "class", "labels" and "value" are one class of heads and take turns.
FAMILY_TARGETS = [
    (family, target) for family, whole_text in zip(FAMILIES, cycle(["class", "labels", "value"])) for target in (whole_text, "tags", "span")
]
EACH_FAMILY = list(zip(FAMILIES, cycle(["class", "tags", "span", "labels", "value"])))  # once, with every kind of head
