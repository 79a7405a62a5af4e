"""The supported BERT families, one row each: class names, module paths, names of the sizes in `config.json`.

To add a family, add a row here, its sequence-classification head to `compress.export.graph`, and a tiny config to `tests/tiny.py`.
The equality tests (masked = sliced = reloaded = ONNX) then run on it automatically. No torch in this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compress.core.errors import ModelError, did_you_mean
from compress.data.input_spec import Target

SEQUENCE = "ForSequenceClassification"
EMBEDDING = "ForSentenceEmbedding"  # a class of our own, see compress.models.embedder
HEAD_CLASSES: dict[Target, str] = {  # suffix of the transformers class that predicts each target
    "class": SEQUENCE,
    "labels": SEQUENCE,
    "value": SEQUENCE,
    "tags": "ForTokenClassification",
    "span": "ForQuestionAnswering",
    "vector": EMBEDDING,
    "mentions": "ForTokenClassification",
}
TOKEN_HEADS = {"ForTokenClassification": "classifier", "ForQuestionAnswering": "qa_outputs"}  # one linear, applied to every token


@dataclass(frozen=True)
class Family:
    """One model family.

    Paths from `attention` to `output_norm` are relative to one layer; BiLSTMs and static models, which have no layers, leave them empty.
    """

    model_type: str
    prefix: str  # of its class names in transformers
    encoder: str  # attribute of the model that holds the encoder
    head_modules: tuple[str, ...]  # parts of the sequence-classification head, which a pre-trained encoder may lack
    layers: str = ""  # the ModuleList, relative to the encoder
    attention: str = ""  # the module that is replaced in a layer without heads
    query: str = ""
    key: str = ""
    value: str = ""
    attention_output: str = ""
    attention_norm: str = ""
    ffn_in: str = ""
    ffn_out: str = ""
    output_norm: str = ""
    head: str = "bert"  # how the sequence-classification head computes: a key of `HEADS` in compress.export.graph
    logits: str = "classifier"  # last linear of the sequence-classification head: one row per class
    token_types: bool = True  # whether the model takes `token_type_ids`
    position_bias: str = ""  # embedding of relative positions, (buckets, heads), shared by all layers; relative to the encoder
    positions_after_padding: bool = False  # real tokens are numbered from `pad_token_id + 1`; padding has position `pad_token_id`
    hidden_key: str = "hidden_size"  # names in config.json
    layers_key: str = "num_hidden_layers"
    heads_key: str = "num_attention_heads"
    ffn_key: str = "intermediate_size"

    @property
    def has_layers(self) -> bool:
        """Whether the model is a transformer, not one of our own architectures."""
        return bool(self.layers)

    def head_class(self, target: Target) -> str:
        """Return the name of the transformers class that predicts a target."""
        return self.prefix + HEAD_CLASSES[target]

    def head_parts(self, target: Target) -> tuple[str, ...]:
        """Return the paths of the modules of a target's head, which a pre-trained encoder lacks."""
        head = HEAD_CLASSES[target]
        return self.head_modules if head == SEQUENCE else (TOKEN_HEADS[head],) if head in TOKEN_HEADS else ()

    def last_linear(self, target: Target) -> str:
        """Return the path of the linear that computes a target's logits, one row per logit."""
        head = HEAD_CLASSES[target]
        return self.logits if head == SEQUENCE else TOKEN_HEADS[head]


_BERT = Family(
    "bert",
    "Bert",
    "bert",
    head_modules=("bert.pooler", "classifier"),
    layers="encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    ffn_in="intermediate.dense",
    ffn_out="output.dense",
    output_norm="output.LayerNorm",
)
_ROBERTA = replace(
    _BERT,
    model_type="roberta",
    prefix="Roberta",
    encoder="roberta",
    head_modules=("classifier",),
    head="roberta",
    logits="classifier.out_proj",
    positions_after_padding=True,
)
_MPNET = replace(
    _ROBERTA,
    model_type="mpnet",
    prefix="MPNet",
    encoder="mpnet",
    attention="attention.attn",
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attention_output="attention.attn.o",
    attention_norm="attention.LayerNorm",
    token_types=False,
    position_bias="encoder.relative_attention_bias",
)
_DISTILBERT = Family(
    "distilbert",
    "DistilBert",
    "distilbert",
    head_modules=("pre_classifier", "classifier"),
    head="distilbert",
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
    token_types=False,
    hidden_key="dim",
    layers_key="n_layers",
    heads_key="n_heads",
    ffn_key="hidden_dim",
)
FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        _BERT,
        _ROBERTA,
        replace(_ROBERTA, model_type="xlm-roberta", prefix="XLMRoberta"),
        replace(_ROBERTA, model_type="electra", prefix="Electra", encoder="electra", head="electra", positions_after_padding=False),
        _MPNET,
        _DISTILBERT,
        replace(_ROBERTA, model_type="camembert", prefix="Camembert"),
        replace(_ROBERTA, model_type="data2vec-text", prefix="Data2VecText", encoder="data2vec_text"),
        replace(_BERT, model_type="ernie", prefix="Ernie", encoder="ernie", head_modules=("ernie.pooler", "classifier")),
    )
}

BILSTM = Family(  # see compress.models.bilstm
    "compress-bilstm", "BiLstm", "bilstm", head_modules=("classifier",), head="plain", token_types=False
)
STATIC = Family(  # see compress.models.static_model
    "compress-static", "Static", "static", head_modules=("classifier",), head="plain", token_types=False, hidden_key="embedding_size"
)
WITHOUT_LAYERS = {family.model_type: family for family in (BILSTM, STATIC)}


def family_of(model_type: object) -> Family:
    """Return the family of a `model_type`, as `config.json` names it.

    Raises:
        ModelError: the family is not supported.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    if isinstance(model_type, str) and model_type in WITHOUT_LAYERS:
        return WITHOUT_LAYERS[model_type]
    near = did_you_mean(str(model_type), FAMILIES)
    raise ModelError(f"the architecture '{model_type}' is not supported{near}", f"supported families: {', '.join(FAMILIES)}")
