"""Read and write models with their heads in Hugging Face layout, dense, pruned, factorized or shared; safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from compress.core import console, disk
from compress.core.errors import ModelError, ResourceError
from compress.data.input_spec import Target
from compress.models import shape as shapes
from compress.models.adapters import adapter_size, add_adapters
from compress.models.config import agreed_target, check_count, check_weights, class_names, is_graph, read_config, target_of, unnamed
from compress.models.family import Family, Layer, descend, family_of, layers
from compress.models.low_rank import factor_as, projection_of, ranks_of
from compress.models.reference import locate
from compress.models.relative_positions import check_columns, keep_bias
from compress.models.sharing import owners_of, shared_names, tie
from compress.models.tokenizer import save_tokenizer

PROBLEM_TYPES: dict[Target, str] = {  # transformers' words
    "class": "single_label_classification",
    "labels": "multi_label_classification",
    "value": "regression",
}
LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


class NoHeads(nn.Module):
    """Stands in for the self-attention of a layer without heads: hands (batch, length, 0) to the output projection.

    The projection of an empty input is its bias, so the sublayer still adds its bias and runs its LayerNorm.
    """

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        """Return the empty context and no attention weights."""
        return hidden_states[..., :0], None


class NoHeadsWithOutput(NoHeads):
    """The same for DistilBERT and MPNet, whose attention module holds the output projection, under a name of theirs."""

    def __init__(self, name: str, output: nn.Linear) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, output)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        """Return the projection's bias, (batch, length, hidden), and no attention weights."""
        return getattr(self, self.name)(hidden_states[..., :0]), None


def load_model(reference: str | Path, labels: list[str] | None = None, target: Target = "class", numbered: list[str] | None = None) -> Any:
    """Load a model with its head, dense or pruned, in evaluation mode on the CPU.

    Args:
        reference: a folder, a hub id, or a builtin.
        labels: names of the logits, to give an encoder a new head for `target` (fine-tuning). Without it the
            checkpoint must have a head already, and that one is loaded.
        target: what the new head answers with.
        numbered: what a checkpoint's classes are that are only numbered (LABEL_0, ...), in their order; by default `labels`.

    Returns:
        The transformers model; `model.config.id2label` names the logits.

    Raises:
        ModelError: not a supported model, damaged or unsafe files, or no head.
        ResourceError: a hub model that cannot be had, or not enough memory.
    """
    folder = locate(reference)
    if is_graph(folder):
        raise ModelError(f"{folder} is an ONNX artifact, and this needs a checkpoint", "give the checkpoint that it was exported from")
    config = read_config(folder)
    check_weights(folder)
    check_count(folder, config)
    _check_memory(folder)
    family = family_of(config["model_type"])
    own = target_of(config)
    if labels is None and own is None:
        raise ModelError(
            f"{folder} is a pre-trained encoder without a classifier", "train one first: compress finetune MODEL --task T -o DIR"
        )
    wanted = target if labels or own is None else agreed_target(config, target) or own
    old, called = class_names(config), numbered or labels or []
    if numbers := unnamed(old, called):
        old = called
    if shapes.CONFIG_KEY in config:
        model, lost = _load_pruned(folder, config, family, labels, wanted, old), []
    else:
        model, lost = _load_dense(folder, family, labels, wanted)
    trained = own is not None and family.head_class(own) == family.head_class(wanted)
    if labels and trained and not names_fixed(own, wanted):
        last = family.last_linear(wanted)
        if numbers and f"{last}.weight" not in lost:
            console.warn(f"the model does not name its classes: they are taken to be {', '.join(old[:6])}")
        _bring_over(descend(model, last), old, labels)
    model.config.problem_type = PROBLEM_TYPES.get(wanted)
    _check_finite(model, folder)
    return model.eval()


def load_masked_lm(folder: Path) -> Any:
    """Load a dense masked language model, in evaluation mode on the CPU.

    Raises:
        ModelError: not one of a supported family, damaged or unsafe files, or weights without the head that names words.
        ResourceError: not enough memory.
    """
    hint = "give one as it was pre-trained, such as google-bert/bert-base-uncased"
    if is_graph(folder):
        raise ModelError(f"{folder} is an ONNX artifact, and this needs a masked language model", hint)
    config = read_config(folder)
    if shapes.CONFIG_KEY in config:
        raise ModelError(f"{folder} is {_kind(config[shapes.CONFIG_KEY])}, and this needs a masked language model", hint)
    check_weights(folder)
    check_count(folder, config)
    _check_memory(folder)
    model, lost = _from_pretrained(_quiet_transformers().AutoModelForMaskedLM, folder)
    if lost:
        raise ModelError(f"{folder} is not a masked language model: it lacks the weight {lost[0]}", hint)
    _check_finite(model, folder)
    return model.eval()


def _check_finite(model: Any, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"{folder}: the weight {name} has values that are not finite", "the checkpoint is broken: train it again")


def names_fixed(own: Target | None, wanted: Target) -> bool:
    """Tell whether a model answers this already and its logits' names say nothing: a value, or a span's two ends."""
    return own == wanted and wanted in ("value", "span")


def model_class(family: Family, target: Target) -> Any:
    """Return the class of a family's models that answer a target: transformers' own, or our BiLSTM."""
    transformers, name = _quiet_transformers(), family.head_class(target)
    if family.recurrent:
        from compress.models import bilstm

        return getattr(bilstm, name)
    return getattr(transformers, name)


def _quiet_transformers() -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _from_pretrained(loader: Any, folder: Path, **options: Any) -> tuple[Any, list[str]]:
    """Return a model as a class of transformers loads it, and the names of the weights that its files lack."""
    try:
        model, report = loader.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported by the caller, in our words
            **options,
        )
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder} cannot be loaded: {(str(error).splitlines() or ['?'])[0]}") from error
    return model, [*report["missing_keys"], *(entry[0] for entry in report.get("mismatched_keys", []))]


def _load_dense(folder: Path, family: Family, labels: list[str] | None, target: Target) -> tuple[Any, list[str]]:
    """Return the model, its rows in the old order, and the names of the weights that its files lack."""
    model, lost = _from_pretrained(model_class(family, target), folder, **(_label_config(labels) if labels else {}))
    head = family.head_parts(target) if labels else ()
    unexpected = [key for key in lost if not key.startswith(head)] if head else lost
    if unexpected:
        raise ModelError(f"{folder} lacks the weight {unexpected[0]} ({len(unexpected)} are missing or of another shape)")
    return model, lost


def _load_pruned(folder: Path, config: dict[str, Any], family: Family, labels: list[str] | None, target: Target, old: list[str]) -> Any:
    """Return the model, its rows in the order of the `old` labels."""
    from safetensors.torch import load_file

    transformers = _quiet_transformers()
    own = target_of(config)
    named = {} if labels is None or names_fixed(own, target) else _label_config(labels)
    if labels and named and (own != target or sorted(old) != sorted(labels)):
        kind = _kind(config[shapes.CONFIG_KEY])
        raise ModelError(f"{folder} is {kind} for other labels", "start from the model that it was made from, and give that the new labels")
    try:
        model = getattr(transformers, family.head_class(target))(transformers.AutoConfig.for_model(**config | named))
        state = load_file(folder / "model.safetensors")
        _fit_ends(model, family, target, state)
        shape = shapes.shape_of_config(config)
        resize(model, shape)
        factor_as(model, shape)
        tie(model, shape.shared)
        if size := config[shapes.CONFIG_KEY].get(shapes.ADAPTER_KEY):
            add_adapters(model, size)
        record_shape(model, model_shape(model))
        model.load_state_dict(state | {name: state[owned] for name, owned in shared_names(model, shape.shared).items()})
        check_columns(model)
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder}: the weights do not fit config.json: {(str(error).splitlines() or ['?'])[-1].strip()}") from error
    return model


def _kind(entry: dict[str, Any]) -> str:
    """Say in words what the config's extra entry is there for."""
    if shapes.ADAPTER_KEY in entry:
        return "a model with adapters"
    if shapes.EMBEDDING_KEY in entry or any(shapes.RANKS_KEY in layer for layer in entry["layers"]):
        return "a factorized model"
    return "a model with shared layers" if shapes.SHARED_KEY in entry else "a pruned model"


def _fit_ends(model: Any, family: Family, target: Target, state: dict[str, torch.Tensor]) -> None:
    """Give a narrowed model what its width alone does not tell: the hidden layer of its head, and embeddings that are projected."""
    last = descend(model, family.last_linear(target))
    for part in family.head_parts(target):
        for name, linear in descend(model, part).named_modules(prefix=part):
            if isinstance(linear, nn.Linear) and linear is not last:
                inner = len(state[f"{name}.weight"])
                _reshape(linear, linear.in_features, inner)
                _reshape(last, inner, last.out_features)
    encoder = descend(model, family.encoder)
    projected = state.get(f"{family.encoder}.embeddings_project.weight")
    if projected is not None and not hasattr(encoder, "embeddings_project"):  # transformers leaves it out where widths happen to agree
        encoder.embeddings_project = nn.Linear(projected.shape[1], getattr(model.config, family.hidden_key))


def _bring_over(linear: nn.Linear, old: list[str], new: list[str]) -> None:
    """Bring a classifier's rows into the order of the new labels; start them anew where the labels are others."""
    with torch.no_grad():
        if sorted(old) == sorted(new):
            order = [old.index(label) for label in new]
            linear.weight.copy_(linear.weight[order].clone())
            linear.bias.copy_(linear.bias[order].clone())
        else:
            console.info(f"  the model's head is for other labels ({', '.join(old[:6])}): its last linear starts anew")
            linear.weight.normal_(std=0.02)
            linear.bias.zero_()


def _label_config(labels: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def _check_memory(folder: Path) -> None:
    import psutil

    needed = sum(path.stat().st_size for path in folder.glob("*.safetensors")) * 2
    available = psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(f"{folder} needs about {needed >> 20} MiB of memory and {available >> 20} MiB are available")


def model_shape(model: Any) -> shapes.Shape:
    """Return the shape of a model from its weights."""
    family = family_of(model.config.model_type)
    config = model.config.to_dict()
    if family.recurrent:
        return shapes.shape_of_config(config)
    head_size = (config.get(shapes.CONFIG_KEY) or {}).get("head_size") or config[family.hidden_key] // config[family.heads_key]
    found = tuple(
        shapes.LayerShape(layer.attention_output.in_features // head_size, layer.ffn_in.out_features, ranks_of(layer))
        for layer in layers(model)
    )
    return shapes.Shape(config[family.hidden_key], head_size, found, projection_of(model), owners_of(model))


def count_params(model: nn.Module) -> int:
    """Return the number of parameters of a model, embeddings and classifier included."""
    return sum(parameter.numel() for parameter in model.parameters())


def resize(model: Any, shape: shapes.Shape) -> None:
    """Give every layer fresh (uninitialised) linears of the sizes in `shape`, ready for `load_state_dict`."""
    hidden = shape.hidden
    for layer, wanted in zip(layers(model), shape.layers, strict=True):
        width = wanted.heads * shape.head_size
        if layer.query is not None and layer.key is not None and layer.value is not None:
            for linear in (layer.query, layer.key, layer.value):
                _reshape(linear, hidden, width)
        _reshape(layer.attention_output, width, hidden)
        _reshape(layer.ffn_in, hidden, wanted.ffn)
        _reshape(layer.ffn_out, wanted.ffn, hidden)
        settle(model, layer, range(wanted.heads), shape.head_size)
    record_shape(model, shape)


def _reshape(linear: nn.Linear, in_features: int, out_features: int) -> None:
    linear.in_features, linear.out_features = in_features, out_features
    linear.weight = nn.Parameter(torch.empty(out_features, in_features))
    linear.bias = nn.Parameter(torch.empty(out_features))


def settle(model: Any, layer: Layer, heads: Sequence[int], head_size: int) -> None:
    """Make a layer's attention agree with the heads that stay, of those it had, once its linears have the right sizes."""
    family = family_of(model.config.model_type)
    attention = descend(layer.module, family.attention)
    if not heads:
        parent, _, name = family.attention.rpartition(".")
        inside = family.attention_output.startswith(family.attention + ".")
        stand_in = NoHeadsWithOutput(family.attention_output.rpartition(".")[2], layer.attention_output) if inside else NoHeads()
        setattr(descend(layer.module, parent) if parent else layer.module, name, stand_in)
        return
    keep_bias(model, attention, heads)
    count = len(heads)
    sizes = {"num_attention_heads": count, "n_heads": count, "all_head_size": count * head_size}
    sizes |= {"attention_head_size": head_size, "scaling": head_size**-0.5}  # of a narrowed model the config tells others
    for attribute, value in sizes.items():
        if hasattr(attention, attribute):
            setattr(attention, attribute, value)


def record_shape(model: Any, shape: shapes.Shape) -> None:
    """Write the shape into the model's config: one FFN width for all layers as any library would, what differs by layer beside it.

    The size of adapters is written beside it, too.
    """
    widths = {layer.ffn for layer in shape.layers}
    if len(widths) == 1 and 0 not in widths:
        setattr(model.config, family_of(model.config.model_type).ffn_key, widths.pop())
    plain = {key: value for key, value in model.config.to_dict().items() if key != shapes.CONFIG_KEY}
    size = adapter_size(model)
    if shape == shapes.shape_of_config(plain) and not size:
        if hasattr(model.config, shapes.CONFIG_KEY):
            delattr(model.config, shapes.CONFIG_KEY)
    else:
        setattr(model.config, shapes.CONFIG_KEY, shapes.config_entry(shape, size))


def save_model(model: Any, folder: Path, tokenizer_source: Path) -> None:
    """Write config, weights (safetensors) and tokenizer into `folder`."""
    from safetensors.torch import save_file

    record_shape(model, model_shape(model))
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(str(folder))
    copies = shared_names(model, owners_of(model))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items() if name not in copies}
    disk.check_space(folder, sum(tensor.nbytes for tensor in state.values()))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # the library writes it for its owner only
    save_tokenizer(tokenizer_source, folder)


def model_labels(model: Any) -> list[str]:
    """Return the names of a model's logits in their order."""
    return [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
