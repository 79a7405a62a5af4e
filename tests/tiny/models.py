"""Random models and their folders."""

from __future__ import annotations

import copy
import io
import json
import pickle
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.tiny.configs import CONFIGS, FIXED_NAMES, HEAD_SIZE, HEADS, HIDDEN, LABELS, POSITIONS
from tests.tiny.folders import written_once
from tests.tiny.tokenizers import vocabulary, write_tokenizer


def make_model(family: str = "bert", labels: list[str] | None = None, seed: int = 0, target: Any = "class", **changes: Any) -> Any:
    """Return a random model of one's own with the head of `target`, in evaluation mode; `changes` are config fields."""
    names = FIXED_NAMES.get(target, LABELS) if labels is None else labels
    return _Copy(*_model(family, tuple(names), seed, target, json.dumps(changes))).load()


class _Pickled(pickle.Pickler):
    """Pickles a model but for its tensors and classes: read by `_Copy`, in a seventh of the time of `copy.deepcopy`."""

    def __init__(self, model: Any) -> None:
        self.stream = io.BytesIO()
        self.kept: list[Any] = []
        self.numbers: dict[int, int] = {}
        super().__init__(self.stream, pickle.HIGHEST_PROTOCOL)
        self.dump(model)

    def persistent_id(self, item: Any) -> int | None:
        import torch

        if not isinstance(item, torch.Tensor | type):
            return None
        number = self.numbers.setdefault(id(item), len(self.kept))
        if number == len(self.kept):
            self.kept.append(item)
        return number


class _Copy(pickle.Unpickler):
    """Reads a model of `_Pickled` with copies of its tensors; those that are shared stay shared."""

    def __init__(self, pickled: bytes, kept: list[Any]) -> None:
        super().__init__(io.BytesIO(pickled))
        self.kept, self.copies = kept, {}

    def persistent_load(self, pid: int) -> Any:
        if pid not in self.copies:
            self.copies[pid] = copy.deepcopy(self.kept[pid])
        return self.copies[pid]


@cache
def _model(family: str, names: tuple[str, ...], seed: int, target: Any, changes: str) -> tuple[bytes, list[Any]]:
    import torch
    import transformers

    from compress.models.build import build_model
    from compress.models.family import family_of
    from compress.models.head import model_class

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
    groups = getattr(config, "num_key_value_heads", HEADS)
    model: Any = build_model(model_class(family_of(family), target), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if is_gain else 0.0))
            if groups < HEADS and any(part in name for part in ("k_proj", "v_proj")):
                heads = parameter.unflatten(0, (groups, HEADS // groups, -1))
                parameter.copy_(heads[:, :1].expand_as(heads).flatten(0, 2).reshape(parameter.shape))
    pickled = _Pickled(model.eval())
    return pickled.stream.getvalue(), pickled.kept


@written_once
def write_checkpoint(folder: Path, family: str = "bert", **options: Any) -> Path:
    """Write a classifier's folder as transformers and the hub lay it out; `options` as for `make_model`."""
    save_pretrained(make_model(family, **options), folder)
    write_tokenizer(folder, family)
    return folder


@written_once
def write_encoder(folder: Path, family: str = "bert", **options: Any) -> Path:
    """Write a pre-trained encoder's folder: no classifier."""
    model = make_model(family, **options)
    save_pretrained(model.base_model, folder)
    write_tokenizer(folder, family)
    return folder


@written_once
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


@written_once
def write_masked_lm(folder: Path, family: str = "bert") -> Path:
    """Write a random masked language model's folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{"vocab_size": len(vocabulary(family)), **CONFIGS[family]})
    model = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(str(folder))
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


@written_once
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


@written_once
def write_static(folder: Path, **options: Any) -> Path:
    """Write a static model's folder; `options` as for `make_static`."""
    return _write_model(make_static(**options), folder)


def save_pretrained(model: Any, folder: Path) -> None:
    """Save by transformers, without its progress bar, under its own names of weights."""
    import transformers

    from compress.models.family import family_of
    from compress.models.grouped_heads import stored_groups, without_copies
    from compress.models.interleaved import join_heads
    from compress.models.joined_linear import join_state

    transformers.utils.logging.disable_progress_bar()
    family = family_of(model.config.model_type)
    if family.grouped:
        regrouped(model).save_pretrained(str(folder))
        return
    if family.interleaved:
        model.save_pretrained(str(folder), state_dict=join_heads(model.state_dict(), family, HEAD_SIZE))
        return
    if family.kv_heads_key and hasattr(model, family.encoder):
        with stored_groups(model) as groups:
            model.save_pretrained(str(folder), state_dict=without_copies(model.state_dict(), family, HEADS, groups))
        return
    model.save_pretrained(str(folder), **({"state_dict": join_state(model.state_dict(), family)} if family.joined else {}))


def regrouped(model: Any) -> Any:
    """Return an ALBERT, or its encoder, as transformers builds it: each layer once."""
    from compress.models.family import family_of
    from compress.models.layer_groups import grouping_of_config, stored_names
    from compress.models.model_shape import model_shape, stored_config
    from compress.models.sharing import shared_names

    family = family_of(model.config.model_type)
    whole: Any = model if hasattr(model, family.encoder) else SimpleNamespace(config=model.config, **{family.encoder: model})
    config = stored_config(whole)
    copies = shared_names(whole, model_shape(whole).shared)
    plain = type(model)(copy.deepcopy(config))
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in copies and f"{family.encoder}.{name}" not in copies}
    plain.load_state_dict(stored_names(state, family, grouping_of_config(config.to_dict())))
    return plain.eval()


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change (or, with None, drop) keys of a folder's `config.json`."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")
    return folder
