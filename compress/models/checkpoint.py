"""Load and save models with their heads in Hugging Face layout, dense or compressed; safetensors only."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import nn

from compress.core import console, disk
from compress.core.errors import ModelError
from compress.data.input_spec import Target
from compress.models import shape as shapes
from compress.models.activation import set_regression, value_activation
from compress.models.adapters import add_adapters
from compress.models.biases import add_biases, fill_biases
from compress.models.build import build_model
from compress.models.config_heads import agreed_target, class_names, only_numbered
from compress.models.embedder import (
    dense_state,
    embedder_class,
    encoder_class,
    encoder_options,
    is_embedder_model,
    load_dense_layers,
    load_without_layers,
    plain_config,
    write_dense_layers,
    write_head,
)
from compress.models.family import Family, family_of
from compress.models.grouped_heads import stored_groups, without_copies
from compress.models.head import PROBLEM_TYPES, has_fixed_logits, label_config, model_class, reorder_classes
from compress.models.interleaved import join_heads, split_heads
from compress.models.joined_linear import join_state, split_state
from compress.models.label_mapping import PREDICTIONS
from compress.models.layer_groups import grouping_of_config, stored_names
from compress.models.layers import find_submodule
from compress.models.layout import WEIGHTS
from compress.models.low_rank import factorize_as
from compress.models.model_shape import model_shape, record_shape, stored_config
from compress.models.pretrained import LOADING_ERRORS, check_finite, check_folder, from_pretrained, quiet_transformers
from compress.models.reference import locate
from compress.models.relative_positions import check_bias_columns
from compress.models.resize import resize, resize_linear, resize_norm
from compress.models.sentence_head import EMBEDDING_KEY, head_with_pooling
from compress.models.sharing import owners_of, share_parameters, shared_names
from compress.models.token_reduction import set_token_shares
from compress.models.tokenizer import save_tokenizer
from compress.models.types import Config, TransformersModel


def load_model(
    reference: str | Path, labels: list[str] | None = None, target: Target | None = None, numbered: list[str] | None = None,
    pooling: str | None = None,
) -> TransformersModel:  # fmt: skip
    """Load a model with its head, dense or compressed, in evaluation mode on the CPU.

    Args:
        reference: a folder, a hub id, or a builtin.
        labels: names of the logits, for fine-tuning. Rows of a head for the same labels are put into this order; other heads, and
            those of an encoder without one, are initialised. By default the checkpoint must have a head, which is loaded as it is.
        target: what a new head predicts, and what an old multi-label model without a problem type predicts. An encoder is opened as
            an embedder for the target `vector`, and without a target if its folder names its pooling. A class by default.
        numbered: names for a checkpoint's classes, in their order, if it only numbers them (LABEL_0, …); by default `labels`.
        pooling: of an embedder whose folder does not name it.

    Returns:
        The transformers model; `model.config.id2label` names its logits. An embedder's logits are its vector.

    Raises:
        ModelError: not a supported model, damaged or unsafe files, or no head.
        UsageError: another pooling than the folder's.
        ResourceError: the hub model is unavailable, or there is not enough memory.
    """
    folder = locate(reference)
    config = check_folder(folder, "a checkpoint", "give the checkpoint that it was exported from")
    family, recorded = family_of(config["model_type"]), agreed_target(config, target)
    if target == "vector" and recorded not in (None, "vector"):
        raise ModelError(
            f"{folder} predicts {PREDICTIONS[recorded]}, not a vector",
            "give an embedder, or the encoder that it was trained from, with its --pooling",
        )
    if recorded == "vector" or (recorded is None and target == "vector"):
        return _load_embedder(folder, config, family, pooling)
    if labels is None and recorded is None:
        raise ModelError(
            f"{folder} is a pre-trained encoder without a classifier", "train one first: compress finetune MODEL --task T -o DIR"
        )
    predicted = (target or "class") if labels or recorded is None else recorded
    old, names = class_names(config), numbered or labels or []
    if renamed := only_numbered(old, names):
        old = names
    if shapes.CONFIG_KEY in config:
        model, missing = _load_compressed(folder, config, family, labels, predicted, old), []
    else:
        model, missing = _load_dense(folder, family, labels, predicted)
    trained = recorded is not None and family.head_class(recorded) == family.head_class(predicted)
    if labels and trained and not has_fixed_logits(recorded, predicted):
        last = family.last_linear(predicted)
        if renamed and f"{last}.weight" not in missing:
            console.warn(f"the model does not name its classes: they are taken to be {', '.join(old[:6])}")
        reorder_classes(find_submodule(model, last), old, labels)
    if predicted != "value" or value_activation(config) == "none":
        model.config.problem_type = PROBLEM_TYPES.get(predicted)
    if predicted == "value" and recorded != "value":
        set_regression(model.config)
    check_finite(model, folder)
    return model.eval()


def save_model(model: TransformersModel, folder: Path, tokenizer_source: Path) -> None:
    """Write config, weights (safetensors) and tokenizer into `folder`.

    Args:
        model: with its head; layers that share weights are stored once.
        folder: an existing folder.
        tokenizer_source: the folder whose tokenizer is copied.
    """
    from safetensors.torch import save_file

    fill_biases(model)
    record_shape(model, model_shape(model))
    with stored_groups(model) as groups:
        save_config(model, folder)
    copies = shared_names(model, owners_of(model))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name not in copies}
    family = family_of(model.config.model_type)
    state = join_heads(join_state(state, family), family, model_shape(model).head_size)
    state = without_copies(state, family, getattr(model.config, family.heads_key, 0), groups)
    if family.grouped:
        state = stored_names(state, family, grouping_of_config(stored_config(model).to_dict()))
    disk.check_space(folder, sum(tensor.nbytes for tensor in state.values()))
    if is_embedder_model(model):
        state = write_dense_layers(model, folder, state)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod((folder / "config.json").stat().st_mode)  # safetensors writes it for its owner only
    save_tokenizer(tokenizer_source, folder)


def save_config(model: TransformersModel, folder: Path) -> None:
    """Write a model's `config.json`; of an embedder that of its encoder, and the files of its head without the weights."""
    if is_embedder_model(model):
        plain_config(stored_config(model), family_of(model.config.model_type)).save_pretrained(str(folder))
        write_head(model, folder)
        return
    model.config.architectures = [type(model).__name__]
    stored_config(model).save_pretrained(str(folder))


def _load_embedder(folder: Path, config: Config, family: Family, pooling: str | None) -> TransformersModel:
    """Return an embedder: the encoder of a folder with the head that the folder, or else `pooling`, names."""
    head = head_with_pooling(config, pooling, str(folder)).as_json()
    if not family.has_layers:
        model = load_without_layers(family, folder, {**config, EMBEDDING_KEY: head})
    elif shapes.CONFIG_KEY in config:
        model = _load_compressed(folder, {**config, EMBEDDING_KEY: head}, family, None, "vector", [])
    else:
        encoder, missing = from_pretrained(encoder_class(family), folder, **encoder_options(family))
        if missing:
            raise ModelError(f"{folder} lacks the weight {missing[0]} ({len(missing)} are missing or of another shape)")
        setattr(encoder.config, EMBEDDING_KEY, head)
        model = cast("TransformersModel", embedder_class(family)(encoder.config, encoder))
        load_dense_layers(model, folder)
    check_finite(model, folder)
    return model.eval()


def _load_dense(folder: Path, family: Family, labels: list[str] | None, target: Target) -> tuple[TransformersModel, list[str]]:
    """Return the model, its logits in the checkpoint's order, and the names of the weights that its files lack."""
    model, missing = from_pretrained(model_class(family, target), folder, **(label_config(labels) if labels else {}))
    head = family.head_parts(target) if labels else ()
    unexpected = [key for key in missing if not key.startswith(head)] if head else missing
    if unexpected:
        raise ModelError(f"{folder} lacks the weight {unexpected[0]} ({len(unexpected)} are missing or of another shape)")
    return model, missing


def _load_compressed(
    folder: Path, config: Config, family: Family, labels: list[str] | None, target: Target, old: list[str]
) -> TransformersModel:
    """Return a pruned, factorized or shared model, or one with adapters, its logits in the order of the `old` labels."""
    from safetensors.torch import load_file

    entry, recorded, transformers = config[shapes.CONFIG_KEY], agreed_target(config, target), quiet_transformers()
    names = {} if labels is None or has_fixed_logits(recorded, target) else label_config(labels)
    if labels and names and (recorded != target or sorted(old) != sorted(labels)):
        raise ModelError(
            f"{folder} is {shapes.describe_entry(entry)} for other labels",
            "start from the model that it was derived from, and give that the new labels",
        )
    try:
        model = build_model(model_class(family, target), transformers.AutoConfig.for_model(**config | names))
        shape = shapes.shape_of_config(config)
        state = split_heads(split_state(load_file(folder / WEIGHTS), family), family, shape.head_size)
        if target == "vector":
            state = {f"{family.encoder}.{name}": tensor for name, tensor in state.items()} | dense_state(folder, config)
        else:
            _resize_head(model, family, target, state)
        _add_embedding_projection(model, family, state)
        resize(model, shape)
        factorize_as(model, shape)
        if shapes.BIASES_KEY in entry:
            add_biases(model)
        share_parameters(model, shape.shared)
        set_token_shares(model, [layer.tokens for layer in shape.layers])
        if size := entry.get(shapes.ADAPTER_KEY):
            add_adapters(model, size)
        record_shape(model, model_shape(model))
        model.load_state_dict(state | {name: state[source] for name, source in shared_names(model, shape.shared).items()})
        check_bias_columns(model)
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder}: the weights do not fit config.json: {(str(error).splitlines() or ['?'])[-1].strip()}") from error
    return model


def _resize_head(model: TransformersModel, family: Family, target: Target, state: dict[str, torch.Tensor]) -> None:
    """Give the hidden layer of a head the width that its weights have: a narrowed model keeps that of the dense one."""
    last = find_submodule(model, family.last_linear(target))
    for part in family.head_parts(target):
        for name, module in find_submodule(model, part).named_modules(prefix=part):
            if isinstance(module, nn.Linear) and module is not last:
                inner = len(state[f"{name}.weight"])
                resize_linear(module, module.in_features, inner)
                resize_linear(last, inner, last.out_features)
            elif isinstance(module, nn.LayerNorm):
                resize_norm(module, len(state[f"{name}.weight"]))


def _add_embedding_projection(model: TransformersModel, family: Family, state: dict[str, torch.Tensor]) -> None:
    """Add ELECTRA's projection of the embeddings, which transformers leaves out if a narrowed model's widths happen to agree."""
    projection = state.get(f"{family.encoder}.{family.embedding_projection}.weight")
    encoder = find_submodule(model, family.encoder)
    if projection is not None and find_submodule(encoder, family.embedding_projection) is None:
        encoder.embeddings_project = nn.Linear(projection.shape[1], getattr(model.config, family.hidden_key))
