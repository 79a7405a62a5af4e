"""The BERT families that this suite knows: one row each, and a uniform view of their layers.

To add a family: a row here, its head for texts in `compress.export.graph`, a tiny config in `tests/tiny.py`.
The equality tests (masked = sliced = reloaded = ONNX) then run on it by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.core.errors import ModelError, UsageError, did_you_mean
from compress.data.input_spec import Target

if TYPE_CHECKING:
    from torch import nn


SEQUENCE = "ForSequenceClassification"
HEAD_CLASSES: dict[Target, str] = {  # how transformers names the class with the head that answers a target
    "class": SEQUENCE,
    "labels": SEQUENCE,
    "value": SEQUENCE,
    "tags": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
TOKEN_HEADS = {"ForTokenClassification": "classifier", "ForQuestionAnswering": "qa_outputs"}  # one linear over every token


@dataclass(frozen=True)
class Family:
    """Where a family keeps what every BERT has. Paths are relative to the model, or to one layer."""

    model_type: str
    prefix: str  # of its classes in transformers
    encoder: str  # attribute of the model that holds the encoder
    layers: str  # the ModuleList, relative to the encoder
    attention: str  # the module to replace when a layer has no heads, relative to the layer
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    ffn_in: str
    ffn_out: str
    output_norm: str
    head_modules: tuple[str, ...]  # parts of the classifier of texts that a pre-trained encoder may lack
    logits: str = "classifier"  # the last linear of the classifier of texts: one row a class
    token_types: bool = True
    position_bias: str = ""  # a (buckets, heads) embedding of relative positions, added to every layer's scores; within the encoder
    positions_after_padding: bool = False  # real tokens are numbered from the padding id + 1 on, padding keeps the padding id
    hidden_key: str = "hidden_size"  # names in config.json
    layers_key: str = "num_hidden_layers"
    heads_key: str = "num_attention_heads"
    ffn_key: str = "intermediate_size"

    @property
    def recurrent(self) -> bool:
        """Whether an LSTM stands in the place of layers with heads and neurons."""
        return not self.layers

    def head_class(self, target: Target) -> str:
        """Return the name of the transformers class that answers a target."""
        return self.prefix + HEAD_CLASSES[target]

    def head_parts(self, target: Target) -> tuple[str, ...]:
        """Return the modules of a target's head, which a pre-trained encoder lacks."""
        head = HEAD_CLASSES[target]
        return self.head_modules if head == SEQUENCE else (TOKEN_HEADS[head],)

    def last_linear(self, target: Target) -> str:
        """Return where a target's logits come from: a linear with one row a logit."""
        head = HEAD_CLASSES[target]
        return self.logits if head == SEQUENCE else TOKEN_HEADS[head]


_BERT_LAYER: dict[str, Any] = {
    "layers": "encoder.layer",
    "attention": "attention.self",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "output_norm": "output.LayerNorm",
}
_NO_LAYER: dict[str, Any] = dict.fromkeys(_BERT_LAYER, "")

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("bert", "Bert", "bert", head_modules=("bert.pooler", "classifier"), **_BERT_LAYER),
        Family(
            "roberta",
            "Roberta",
            "roberta",
            head_modules=("classifier",),
            logits="classifier.out_proj",
            positions_after_padding=True,
            **_BERT_LAYER,
        ),
        Family(
            "xlm-roberta",
            "XLMRoberta",
            "roberta",
            head_modules=("classifier",),
            logits="classifier.out_proj",
            positions_after_padding=True,
            **_BERT_LAYER,
        ),
        Family(
            "electra",
            "Electra",
            "electra",
            head_modules=("classifier",),
            logits="classifier.out_proj",
            **_BERT_LAYER,
        ),
        Family(
            "mpnet",
            "MPNet",
            "mpnet",
            layers="encoder.layer",
            attention="attention.attn",
            query="attention.attn.q",
            key="attention.attn.k",
            value="attention.attn.v",
            attention_output="attention.attn.o",
            attention_norm="attention.LayerNorm",
            ffn_in="intermediate.dense",
            ffn_out="output.dense",
            output_norm="output.LayerNorm",
            head_modules=("classifier",),
            logits="classifier.out_proj",
            token_types=False,
            position_bias="encoder.relative_attention_bias",
            positions_after_padding=True,
        ),
        Family(
            "distilbert",
            "DistilBert",
            "distilbert",
            layers="transformer.layer",
            attention="attention",
            query="attention.q_lin",
            key="attention.k_lin",
            value="attention.v_lin",
            attention_output="attention.out_lin",
            attention_norm="sa_layer_norm",
            ffn_in="ffn.lin1",
            ffn_out="ffn.lin2",
            output_norm="output_layer_norm",
            head_modules=("pre_classifier", "classifier"),
            token_types=False,
            hidden_key="dim",
            layers_key="n_layers",
            heads_key="n_heads",
            ffn_key="hidden_dim",
        ),
    )
}

BILSTM = Family(  # our own, in `compress.models.bilstm`: embeddings, an LSTM, and no layers to look into
    "compress-bilstm", "BiLstm", "bilstm", head_modules=("classifier",), token_types=False, **_NO_LAYER
)


def family_of(model_type: Any) -> Family:
    """Return the family of a `model_type`.

    Raises:
        ModelError: not a family of ours.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    if model_type == BILSTM.model_type:
        return BILSTM
    known = ", ".join(FAMILIES)
    near = did_you_mean(str(model_type), FAMILIES)
    raise ModelError(f"the architecture '{model_type}' is not supported{near}", f"supported families: {known}")


def descend(module: Any, path: str) -> Any:
    """Return the submodule at a dotted path, or None where there is none (a layer without heads has no query)."""
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return None
    return module


@dataclass(frozen=True)
class Layer:
    """One encoder layer, its parts by their role. `query`, `key`, `value` are None where no head is left."""

    module: nn.Module
    query: nn.Linear | None  # (hidden -> heads * head_size)
    key: nn.Linear | None
    value: nn.Linear | None
    attention_output: nn.Linear  # (heads * head_size -> hidden)
    attention_norm: nn.LayerNorm
    ffn_in: nn.Linear  # (hidden -> ffn)
    ffn_out: nn.Linear  # (ffn -> hidden)
    output_norm: nn.LayerNorm


def layers(model: Any) -> Iterator[Layer]:
    """Yield the layers of a classifier, from the first to the last; a BiLSTM has none."""
    family = family_of(model.config.model_type)
    if family.recurrent:
        return
    parts = [name for name in Layer.__dataclass_fields__ if name != "module"]
    for module in descend(model, f"{family.encoder}.{family.layers}"):
        yield Layer(module, **{part: descend(module, getattr(family, part)) for part in parts})


def refuse_recurrent(model: Any, verb: str) -> None:
    """Refuse what works on layers.

    Raises:
        UsageError: the model is a BiLSTM.
    """
    if family_of(model.config.model_type).recurrent:
        raise UsageError(
            f"{verb} does not take a BiLSTM: it works on layers of heads and neurons",
            "a BiLSTM is trained as a whole (finetune --mode full), and made smaller by distill --student lstm=N",
        )


def activation_of(model: Any) -> Any:
    """Return the function between the two linears of a model's FFNs."""
    from transformers.activations import ACT2FN

    return ACT2FN[activation_name(model)]


def activation_name(model: Any) -> str:
    """Return what transformers calls the function between the two linears of a model's FFNs."""
    return getattr(model.config, "hidden_act", None) or getattr(model.config, "activation", "gelu")
