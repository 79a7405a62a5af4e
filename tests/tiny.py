"""Tiny models, tokenizers and tasks, made on the spot: three layers, 32 wide, four heads, 64 FFN neurons, random weights.

Every family of `compress.models.family` has a row in `CONFIGS`; the equality tests then run on it by themselves, fewer of them on
`RENAMED`. Biases, LayerNorms and heads are random too, so that a lost bias or a swapped gain shows.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

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
    "modernbert": {  # one layer of three sees everything, the others four tokens to each side
        **_COMMON,
        **{key: value for key, value in _BERT.items() if key != "type_vocab_size"},
        "local_attention": 8,
        **{f"{name}_token_id": number for name, number in (("bos", 2), ("cls", 2), ("eos", 3), ("sep", 3))},
    },
}
CONFIGS["nomic_bert"] = {**CONFIGS["bert"], "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
CONFIGS["xlm-roberta"] = CONFIGS["roberta"]
CONFIGS["mpnet"] = {key: value for key, value in CONFIGS["roberta"].items() if key != "type_vocab_size"}
RENAMED = ("camembert", "data2vec-text", "ernie")  # computed as a family above: only tests of names, classes and heads run on them
CONFIGS |= {"camembert": CONFIGS["roberta"], "data2vec-text": CONFIGS["roberta"], "ernie": {**CONFIGS["bert"], "use_task_id": True}}
ANGLED = ("roberta", "xlm-roberta", "mpnet", "camembert", "data2vec-text")  # their special tokens are <s>, </s>, …
SPECIALS |= dict.fromkeys(ANGLED, SPECIALS["roberta"])
OTHER_BLOCKS = ("modernbert", "deberta-v2", "nomic_bert")  # layers that are not BERT's: tests of their own in tests/unit/models
FAMILIES = [name for name in CONFIGS if name not in RENAMED + OTHER_BLOCKS]
FIXED_NAMES: dict[str, list[str]] = {"value": ["value"], "span": ["start", "end"], "mentions": ["other", "antecedent"]}
# Every family with every class of heads; "class", "labels" and "value" are one class of heads and take turns.
FAMILY_TARGETS = [
    (family, target) for family, whole_text in zip(FAMILIES, cycle(["class", "labels", "value"])) for target in (whole_text, "tags", "span")
]
EACH_FAMILY = list(zip(FAMILIES, cycle(["class", "tags", "span", "labels", "value"])))  # once, with every kind of head


def vocabulary(family: str = "bert") -> list[str]:
    """Return the tokens in the order of their ids: specials, letters (so that no text is unknown), words."""
    specials = SPECIALS.get(family, SPECIALS["bert"])
    words = [word for topic in TOPICS.values() for word in topic]
    single = [word for word in FILLERS + words if len(word) > 1]
    return [*specials, *LETTERS, *(f"##{letter}" for letter in LETTERS), *single]


def write_tokenizer(folder: Path, family: str = "bert") -> None:
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
    untyped = roberta or family in ("distilbert", "modernbert", "deberta-v2")
    inputs = ["input_ids", *([] if untyped else ["token_type_ids"]), "attention_mask"]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "unk_token": unknown, "model_input_names": inputs}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def make_model(family: str = "bert", labels: list[str] | None = None, seed: int = 0, target: Any = "class", **changes: Any) -> Any:
    """Return a random model of one's own with the head of `target`, in evaluation mode; `changes` are config fields."""
    names = FIXED_NAMES.get(target, LABELS) if labels is None else labels
    return copy.deepcopy(_model(family, tuple(names), seed, target, json.dumps(changes)))


@cache
def _model(family: str, names: tuple[str, ...], seed: int, target: Any, changes: str) -> Any:
    import torch
    import transformers

    from compress.models.family import family_of
    from compress.models.head import model_class
    from compress.models.joined_linear import build_model

    config = transformers.AutoConfig.for_model(
        family,
        **{
            "vocab_size": len(vocabulary(family)),
            "id2label": dict(enumerate(names)),
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": {"labels": "multi_label_classification", "value": "regression"}.get(target),
            **CONFIGS[family],
            **json.loads(changes),
        },
    )
    torch.manual_seed(seed)
    model: Any = build_model(model_class(family_of(family), target), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if is_gain else 0.0))
    return model.eval()


def write_checkpoint(folder: Path, family: str = "bert", **options: Any) -> Path:
    """Write a classifier's folder as transformers and the hub lay it out; `options` as for `make_model`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_pretrained(make_model(family, **options), folder)
    write_tokenizer(folder, family)
    return folder


def write_encoder(folder: Path, family: str = "bert", **options: Any) -> Path:
    """Write a pre-trained encoder's folder: no classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(family, **options)
    save_pretrained(model.base_model, folder)
    write_tokenizer(folder, family)
    return folder


def write_embedder(
    folder: Path, family: str = "bert", pooling: tuple[str, ...] = ("mean",), dense: int = 0, normalize: bool = True, **options: Any
) -> Path:
    """Write an embedder's folder as sentence-transformers lays it out, with a dense layer of `dense` dimensions if that is not 0."""
    import torch
    from safetensors.torch import save_file

    from compress.models.sentence_folder import step_folder, write_sentence_head
    from compress.models.sentence_head import DenseStep, SentenceHead

    write_encoder(folder, family, **options)
    steps: list[Any] = [DenseStep(HIDDEN * len(pooling), dense, True, "Tanh")] if dense else []
    write_sentence_head(folder, SentenceHead(pooling, (*steps, *(["normalize"] if normalize else [])), 64), HIDDEN)  # pyright: ignore[reportArgumentType]
    if dense:
        torch.manual_seed(5)
        weights = {"linear.weight": torch.randn(dense, HIDDEN * len(pooling)) * 0.2, "linear.bias": torch.randn(dense) * 0.2}
        save_file(weights, folder / step_folder(0, steps[0]) / "model.safetensors")
    return folder


def write_masked_lm(folder: Path, family: str = "bert") -> Path:
    """Write a random masked language model's folder."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{"vocab_size": len(vocabulary(family)), **CONFIGS[family]})
    model = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_pretrained(model, folder)
    write_tokenizer(folder, family)
    return folder


def _entries(names: list[str], target: Any) -> dict[str, Any]:
    """Return the config entries of a model without an encoder that follow from its labels and task."""
    from compress.models.head import PROBLEM_TYPES

    return {
        "max_position_embeddings": POSITIONS,
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": PROBLEM_TYPES.get(target),
    }


def _random(family: Any, target: Any, config: Any, seed: int) -> Any:
    """Return a model of this family with random parameters, in evaluation mode."""
    import torch

    from compress.models.head import model_class

    torch.manual_seed(seed)
    model = model_class(family, target)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


def _write_model(model: Any, folder: Path) -> Path:
    """Write a model's folder with the tokenizer of BERT."""
    from compress.models.checkpoint import save_model

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    save_model(model, folder, folder)
    return folder


def make_bilstm(labels: list[str] | None = None, seed: int = 0, target: Any = "class", **changes: Any) -> Any:
    """Return a random BiLSTM of 2 x 12 units with the head of `target`, in evaluation mode; `changes` are config fields."""
    from compress.models.bilstm import BiLstmConfig
    from compress.models.family import BILSTM

    names = FIXED_NAMES.get(target, LABELS) if labels is None else labels
    sizes = {"vocab_size": len(vocabulary()), "embedding_size": 20, "hidden_size": 24, "intermediate_size": 10} | changes
    config = BiLstmConfig(
        **sizes,
        **_entries(names, target),
    )
    return _random(BILSTM, target, config, seed)


def write_bilstm(folder: Path, **options: Any) -> Path:
    """Write a BiLSTM's folder; `options` as for `make_bilstm`."""
    return _write_model(make_bilstm(**options), folder)


def make_static(labels: list[str] | None = None, seed: int = 0, target: Any = "class", **changes: Any) -> Any:
    """Return a random static model with the head of `target`, in evaluation mode; `changes` are config fields."""
    from compress.models.family import STATIC
    from compress.models.static_model import StaticConfig

    names = ["value"] if target == "value" and labels is None else labels or LABELS
    sizes = {"vocab_size": len(vocabulary()), "embedding_size": 12, "bigram_size": 6, "bigram_buckets": 97, "intermediate_size": 10}
    config = StaticConfig(
        **sizes | changes,
        sep_token_id=vocabulary().index("[SEP]"),
        **_entries(names, target),
    )
    return _random(STATIC, target, config, seed)


def write_static(folder: Path, **options: Any) -> Path:
    """Write a static model's folder; `options` as for `make_static`."""
    return _write_model(make_static(**options), folder)


def save_pretrained(model: Any, folder: Path) -> None:
    """Save by transformers, without its progress bar, under its own names of weights."""
    import transformers

    from compress.models.family import family_of
    from compress.models.joined_linear import join_state

    transformers.utils.logging.disable_progress_bar()
    family = family_of(model.config.model_type)
    model.save_pretrained(str(folder), **({"state_dict": join_state(model.state_dict(), family)} if family.joined else {}))


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change (or, with None, drop) keys of a folder's `config.json`."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")
    return folder


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return distinct (text, label) rows of many lengths, the classes in turn: a task that three layers can learn."""
    rng = np.random.default_rng(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = LABELS[len(rows) % len(LABELS)]
        words = [*rng.choice(TOPICS[label], rng.integers(3, 7)), *rng.choice(FILLERS, rng.integers(1, 18))]
        rows.setdefault(" ".join(rng.permutation(words)), label)
    return list(rows.items())


@cache
def encoded(family: str = "bert", count: int = 12, pairs: bool = False, seed: int = 0) -> Any:
    """Return encoded sentences (or pairs of them) of many lengths; the label is the first sentence's."""
    import tempfile

    from compress.data.encoding import encode
    from compress.models.tokenizer import load_tokenizer

    rows = sentences(2 * count, seed)
    texts: list[tuple[str, ...]] = [(first[0], second[0]) for first, second in zip(rows[::2], rows[1::2], strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(Path(scratch), family)
        tokenizer = load_tokenizer(Path(scratch))
    labels = np.array([LABELS.index(label) for _, label in rows[::2]])
    return encode(tokenizer, texts if pairs else [text[:1] for text in texts], labels, POSITIONS, CONFIGS[family]["pad_token_id"])


def write_task(folder: Path, train: int = 60, validation: int = 24, test: int = 24, kind: str = "jsonl") -> dict[str, Any]:
    """Write the tiny task's files as JSON lines, which are read fastest, or as Parquet; returns the task's document."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = sentences(train + validation + test, seed=1)
    document: dict[str, Any] = {"name": "tiny", "text": ["text"], "labels": LABELS, "max_length": 32}
    start = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        path, part = folder / f"{split}.{kind}", rows[start : start + count]
        if part and kind == "parquet":
            import pandas as pd

            pd.DataFrame(part, columns=["text", "label"]).to_parquet(path)
        elif part:
            path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in part), encoding="utf-8")
        if part:
            document[split] = str(path)
        start += count
    return document


def write_texts(folder: Path, train: int = 48, validation: int = 16) -> dict[str, Any]:
    """Write texts without labels as JSON lines; returns the document of an embedder's task."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [text for text, _ in sentences(train + validation, seed=5)]
    for split, part in {"train": texts[:train], "validation": texts[train:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part), encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    return {"name": "tiny-texts", "kind": "sentence-embedding", "text": ["text"], "max_length": 32, **files}


def write_scored_pairs(folder: Path, train: int = 24, validation: int = 16) -> dict[str, Any]:
    """Write pairs of texts with the number of words that they share, as JSON lines; returns the document of an embedder's task."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [text for text, _ in sentences(2 * (train + validation), seed=6)]
    pairs = [
        {"first": first, "second": second, "score": float(len(set(first.split()) & set(second.split())))}
        for first, second in zip(rows[::2], rows[1::2], strict=True)
    ]
    for split, part in {"train": pairs[:train], "validation": pairs[train:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    return {"name": "tiny-pairs", "kind": "sentence-embedding", "text": ["first", "second"], "label": "score", "max_length": 32, **files}


def mention_pair(number: int) -> dict[str, Any]:
    """Return a row in GAP's layout: the antecedent is the animal, the first of two, or neither name is one."""
    rng = np.random.default_rng(number)
    topics = [str(topic) for topic in rng.choice(LABELS, 2)]
    mentions = [*(str(rng.choice(TOPICS[topic])) for topic in topics), ("he", "she", "they")[number % 3]]
    row: dict[str, Any] = {"text": ""}
    for key, mention in zip(("a", "b", "pronoun"), mentions, strict=True):
        row["text"] += "".join(f"{word} " for word in rng.choice(FILLERS, rng.integers(1, 6)))
        row |= {key: mention, f"{key}_offset": len(row["text"])}
        row["text"] += f"{mention} "
    row["text"] += "is good"
    first = topics[0] == "animal"
    return row | {"a_coref": first, "b_coref": topics[1] == "animal" and not first}


def write_kind(folder: Path, target: str, train: int = 48, validation: int = 16) -> dict[str, Any]:
    """Write a tiny task of any target as JSON lines; returns the task's document."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    topics = {word: topic for topic, words in TOPICS.items() for word in words}
    rows = []
    for text, _ in sentences(train + validation, seed=5):
        words = text.split()
        found = [topics.get(word, "other") for word in words]
        start = int(rng.integers(0, len(words)))
        rows.append(
            {
                "mentions": mention_pair(len(rows)),
                "labels": {"text": text, "label": sorted({topic for topic in found if topic != "other"})},
                "value": {"text": text, "label": float(len(words))},
                "tags": {"tokens": words, "label": found},
                "span": {
                    "question": f"where is {words[start]} ?",
                    "context": text,
                    "answers": {"text": [words[start]], "answer_start": [len(" ".join(words[:start])) + (1 if start else 0)]},
                },
            }[target]
        )
    for split, part in {"train": rows[:train], "validation": rows[train:]}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    own: dict[str, dict[str, Any]] = {
        "labels": {"text": ["text"], "multi_label": True},
        "value": {"text": ["text"], "kind": "regression"},
        "tags": {"text": ["tokens"], "kind": "token-classification"},
        "span": {"text": ["question", "context"], "kind": "question-answering"},
        "mentions": {"kind": "coreference"},
    }
    return {"name": f"tiny-{target}", "max_length": 32, **own[target], **files}
