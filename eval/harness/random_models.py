"""Random small models with random tokenizers, as transformers saves them: every family, head and setting that changes a prediction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEQUENCE = {"class": "ForSequenceClassification", "labels": "ForSequenceClassification", "value": "ForSequenceClassification"}
HEADS = {**SEQUENCE, "tags": "ForTokenClassification", "span": "ForQuestionAnswering"}
PREFIXES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "electra": "Electra",
    "mpnet": "MPNet",
    "distilbert": "DistilBert",
}
TEXT = "the red dog and an old horse a green cat is very big tea soup rice bread black bird not good bad film crème brûlée café"
WORDS = TEXT.split()
ODD = ["東京", "[MASK]", "<mask>", "e.g.", "don't", "naïve", "X-ray", "😀", "42%", "..."]
CLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLED = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ACTIVATIONS = ["gelu", "gelu", "gelu_new", "relu", "silu", "gelu_python"]
MODULES = "torch.nn.modules"
VALUES: list[dict[str, Any]] = [
    {"problem_type": "regression"},
    {},
    {"sentence_transformers": {"activation_fn": f"{MODULES}.activation.Sigmoid"}},
    {"sentence_transformers": {"activation_fn": f"{MODULES}.linear.Identity"}},
    {"sbert_ce_default_activation_function": f"{MODULES}.linear.Identity"},
]


@dataclass(frozen=True)
class RandomModel:
    """A model folder, what it predicts, and its settings."""

    folder: Path
    family: str
    target: str
    pairs: bool
    limit: int  # tokens of its longest input
    config: dict[str, Any]
    tokenizer_config: dict[str, Any]


def write_random_model(folder: Path, rng: np.random.Generator) -> RandomModel:
    """Draw a config, a tokenizer and weights, and write them."""
    folder.mkdir(parents=True)
    family, target = str(rng.choice(list(PREFIXES))), str(rng.choice(list(HEADS)))
    kind = {"roberta": rng.choice(["bytes", "words"]), "xlm-roberta": "unigram"}.get(family, "words")
    angled = family in ("roberta", "xlm-roberta", "mpnet")
    size, settings = write_tokenizer(folder, str(kind), angled, family, rng)
    limit = int(rng.choice([24, 40]))
    config: dict[str, Any] = {
        "vocab_size": size,
        "max_position_embeddings": limit + (2 if angled else 0),
        "pad_token_id": 1 if angled else 0,
    }
    if family == "distilbert":
        config |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "activation": str(rng.choice(["gelu", "relu"]))}
    else:
        config |= {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        config |= {"hidden_act": str(rng.choice(ACTIVATIONS)), "layer_norm_eps": float(rng.choice([1e-12, 1e-5]))}
    if family in ("bert", "electra"):
        config["type_vocab_size"] = 2
    elif family in ("roberta", "xlm-roberta"):
        config["type_vocab_size"] = int(rng.choice([1, 2]))
    if family == "electra":
        config["embedding_size"] = int(rng.choice([8, 16]))
    record = _write_weights(folder, family, target, config, rng)
    return RandomModel(folder, family, target, target != "tags" and bool(rng.random() < 0.4), limit, config | record, settings)


def _write_weights(folder: Path, family: str, target: str, config: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Write random weights, and the keys of `config.json` that decide how logits are read; returns these."""
    import torch
    import transformers

    names = {"value": ["score"], "span": ["start", "end"]}.get(target, ["one", "two", "three", "four"][: int(rng.integers(2, 5))])
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    made = transformers.AutoConfig.for_model(family, **config, **labels)
    torch.manual_seed(int(rng.integers(2**31)))
    model = getattr(transformers, PREFIXES[family] + HEADS[target])(made).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (1.0 if gain else 0.0))
    model.save_pretrained(str(folder))
    record: dict[str, Any] = {"labels": {"problem_type": "multi_label_classification"}}.get(target, {})
    if target == "value":
        record = VALUES[int(rng.integers(len(VALUES)))]
    elif target == "class" and rng.random() < 0.5:
        record = {"problem_type": "single_label_classification"}
    path = folder / "config.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document.pop("problem_type", None)
    path.write_text(json.dumps(document | record), encoding="utf-8")
    return record


def write_tokenizer(folder: Path, kind: str, angled: bool, family: str, rng: np.random.Generator) -> tuple[int, dict[str, Any]]:
    """Write `tokenizer.json` and a random `tokenizer_config.json`; returns the number of tokens and the settings."""
    from tokenizers import processors

    specials = ANGLED if angled else CLS
    tokenizer = {"words": _wordpiece, "bytes": _bytes, "unigram": _unigram}[kind](specials)
    start, end = ("<s>", "</s>") if angled else ("[CLS]", "[SEP]")
    second = 0 if angled and rng.random() < 0.5 else 1
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:{second} {end}:{second}",
        special_tokens=[(start, specials.index(start)), (end, specials.index(end))],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = _settings(kind, angled, family, rng)
    if settings or rng.random() < 0.9:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tokenizer.get_vocab_size(), settings


def _settings(kind: str, angled: bool, family: str, rng: np.random.Generator) -> dict[str, Any]:
    own = {"bytes": "RobertaTokenizer", "unigram": "XLMRobertaTokenizer"}.get(kind, "MPNetTokenizer" if angled else "BertTokenizer")
    pad, unknown, start, end = ("<pad>", "<unk>", "<s>", "</s>") if angled else ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    settings: dict[str, Any] = {"tokenizer_class": str(rng.choice([own, "PreTrainedTokenizerFast"]))}
    settings |= {"pad_token": pad, "unk_token": unknown, "cls_token": start, "sep_token": end}

    def sometimes(share: float, **values: Any) -> None:
        if rng.random() < share:
            settings.update(values)

    sometimes(0.4, truncation_side="left")
    sometimes(0.3, padding_side="left")
    sometimes(0.2, split_special_tokens=True)
    if kind == "words":
        sometimes(0.6, do_lower_case=bool(rng.random() < 0.5))
        sometimes(0.3, strip_accents=bool(rng.random() < 0.5))
        sometimes(0.3, tokenize_chinese_chars=bool(rng.random() < 0.5))
    else:
        sometimes(0.4, add_prefix_space=bool(rng.random() < 0.5))
    types = family in ("bert", "electra")
    sometimes(0.5, model_input_names=["input_ids", *(["token_type_ids"] if types and rng.random() < 0.6 else []), "attention_mask"])
    if not types and settings["tokenizer_class"] == "BertTokenizer":
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    entry = {"content": "dog", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": False}
    if kind == "words" and rng.random() < 0.2:
        specials = ANGLED if angled else CLS
        settings["added_tokens_decoder"] = {str(_vocabulary(specials).index("dog")): entry}
    return settings


def _vocabulary(specials: list[str]) -> list[str]:
    letters = sorted({letter for word in WORDS for letter in word} | set("abcdefghijklmnopqrstuvwxyzTRX0123456789.%'-<>[]"))
    words = [word for word in dict.fromkeys(WORDS) if word not in letters]
    return [*specials, *letters, *(f"##{letter}" for letter in letters), *words]


def _wordpiece(specials: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    unknown = next(name for name in specials if "unk" in name.lower())
    vocabulary = {name: number for number, name in enumerate(_vocabulary(specials))}
    tokenizer: Any = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def _bytes(specials: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    return tokenizer


def _unigram(specials: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=specials, unk_token="<unk>", show_progress=False)  # noqa: S106
    tokenizer.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    return tokenizer


def random_text(rng: np.random.Generator, longest: int = 60) -> str:
    """Return a text of 1 to `longest` words; some are capitalised, accented, Chinese, or look like special tokens."""
    count = int(rng.integers(1, longest)) if rng.random() < 0.5 else int(rng.integers(1, 8))
    words = [str(rng.choice(ODD)) if rng.random() < 0.08 else str(rng.choice(WORDS)) for _ in range(count)]
    return " ".join(word.upper() if rng.random() < 0.1 else word.capitalize() if rng.random() < 0.1 else word for word in words)
