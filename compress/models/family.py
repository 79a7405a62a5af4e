"""The supported BERT families, one row each: class names, module paths, names of the sizes in `config.json`.

How to add one: docs/architecture.md. The equality tests (masked = sliced = reloaded = ONNX) then run on it by themselves. No torch in
this module.
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
TOKEN_HEADS = ("ForTokenClassification", "ForQuestionAnswering")  # their logits are those of a linear on every token
JoinedParts = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Family:
    """One model family.

    Paths from `attention` to `output_norm` are relative to one layer; BiLSTMs and static models, which have no layers, leave them empty.

    In a layer of BERT, a norm follows each sublayer: `norm(x + f(x))`. With `norms_first` it precedes it, `x + f(norm(x))`, and the
    encoder has a `final_norm`. A gated FFN is `ffn_out(activation(ffn_gate(x)) * ffn_in(x))`: a neuron is a row of both and a column of
    `ffn_out`. With `rotary` positions there is no table of positions: queries and keys are rotated. In a `grouped` family (ALBERT)
    layers are used several times, see compress.models.layer_groups.
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
    ffn_gate: str = ""
    ffn_out: str = ""
    output_norm: str = ""
    norms_first: bool = False
    grouped: bool = False  # whether config.json counts groups of layers and how often they are used
    keeps_first_layer: bool = False  # whether the first layer computes something else than the others, so that it is never removed
    final_norm: str = ""  # relative to the encoder, as the next three
    word_embeddings: str = "embeddings.word_embeddings"
    embedding_norm: str = "embeddings.LayerNorm"  # empty: the embeddings are not normalised
    embedding_projection: str = "embeddings_project"  # of embeddings to the width of the layers, if they have another one
    rotary: bool = False
    disentangled: bool = False  # attention scores have terms of relative positions, see compress.models.disentangled
    position_projections: tuple[str, ...] = ()  # further linears of a layer whose rows belong to its heads
    head_size_key: str = ""  # of config.json, for heads whose size the width and their number do not imply
    joined: JoinedParts = ()  # linears that a checkpoint stores as one: their last name, and the names of the parts in memory
    bias_keys: tuple[tuple[str, tuple[str, ...]], ...] = ()  # keys of config.json that switch biases, and the modules that they belong to
    kv_heads_key: str = ""  # of config.json: heads of keys and values, which groups of heads share
    interleaved: bool = False  # whether one matrix holds query, key and value head by head, see compress.models.interleaved
    never_biased: bool = False  # whether the linears of layers have no bias, and no key of config.json gives them one
    published_code: bool = False  # whether configs name code of the authors (`auto_map`) that transformers has had itself since
    head: str = "bert"  # how the sequence-classification head computes: a key of `HEADS` in compress.export.heads
    logits: str = "classifier"  # last linear of the sequence-classification head: one row per class
    token_head_modules: tuple[str, ...] = ()  # parts of the heads for tags and spans besides their last linear
    span_logits: str = "qa_outputs"  # last linear of the head for spans
    token_types: bool = True  # whether the model takes `token_type_ids`
    position_bias: str = ""  # embedding of relative positions, (buckets, heads), shared by all layers; relative to the encoder
    positions_after_padding: bool = False  # real tokens are numbered from `pad_token_id + 1`; padding has position `pad_token_id`
    hidden_key: str = "hidden_size"  # names in config.json
    layers_key: str = "num_hidden_layers"
    heads_key: str = "num_attention_heads"
    ffn_key: str = "intermediate_size"
    activation_key: str = "hidden_act"  # of the FFN

    @property
    def state_key(self) -> str:
        """The config's key of the width of token states: without layers it is that of the hidden layer."""
        return self.hidden_key if self.has_layers else self.ffn_key

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
        if head == SEQUENCE:
            return self.head_modules
        return (*self.token_head_modules, self.last_linear(target)) if head in TOKEN_HEADS else ()

    def last_linear(self, target: Target) -> str:
        """Return the path of the linear that computes a target's logits, one row per logit."""
        head = HEAD_CLASSES[target]
        return self.logits if head not in TOKEN_HEADS else self.span_logits if target == "span" else "classifier"


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
    activation_key="activation",
)
_MODERNBERT = Family(
    "modernbert",
    "ModernBert",
    "model",
    head_modules=("head", "classifier"),
    head="modernbert",
    token_head_modules=("head",),
    span_logits="classifier",
    layers="layers",
    attention="attn",
    query="attn.Wqkv.query",
    key="attn.Wqkv.key",
    value="attn.Wqkv.value",
    attention_output="attn.Wo",
    attention_norm="attn_norm",
    ffn_in="mlp.Wi.up",
    ffn_gate="mlp.Wi.gate",
    ffn_out="mlp.Wo",
    output_norm="mlp_norm",
    norms_first=True,
    keeps_first_layer=True,  # it alone has no norm before its attention
    final_norm="final_norm",
    word_embeddings="embeddings.tok_embeddings",
    embedding_norm="embeddings.norm",
    rotary=True,
    head_size_key="head_dim",
    joined=(("Wqkv", ("query", "key", "value")), ("Wi", ("gate", "up"))),
    bias_keys=(
        ("attention_bias", ("attn.Wqkv.query", "attn.Wqkv.key", "attn.Wqkv.value", "attn.Wo")),
        ("mlp_bias", ("mlp.Wi.gate", "mlp.Wi.up", "mlp.Wo")),
        ("norm_bias", ("attn_norm", "mlp_norm", "final_norm", "embeddings.norm", "head.norm")),
        ("classifier_bias", ("head.dense",)),
    ),
    token_types=False,
    activation_key="hidden_activation",
)
_DEBERTA = replace(
    _BERT,
    model_type="deberta-v2",
    prefix="DebertaV2",
    encoder="deberta",
    head_modules=("pooler", "classifier"),
    head="deberta",
    query="attention.self.query_proj",
    key="attention.self.key_proj",
    value="attention.self.value_proj",
    token_types=False,
    disentangled=True,
    position_projections=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
    head_size_key="attention_head_size",
)
_DEBERTA_V1 = replace(
    _DEBERTA,
    model_type="deberta",
    prefix="Deberta",
    query="attention.self.in_proj.query",
    key="attention.self.in_proj.key",
    value="attention.self.in_proj.value",
    position_projections=("attention.self.pos_proj", "attention.self.pos_q_proj"),
    head_size_key="",
    interleaved=True,
)
_NOMIC = replace(
    _BERT,
    model_type="nomic_bert",
    prefix="NomicBert",
    encoder="nomic_bert",
    head_modules=("nomic_bert.pooler", "classifier"),
    layers="layers",
    attention="self_attn",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.o_proj",
    attention_norm="post_attention_layernorm",
    ffn_in="mlp.up_proj",
    ffn_gate="mlp.gate_proj",
    ffn_out="mlp.down_proj",
    output_norm="post_mlp_layernorm",
    rotary=True,
    head_size_key="head_dim",
    never_biased=True,
    published_code=True,
)
_EUROBERT = replace(
    _NOMIC,
    model_type="eurobert",
    prefix="EuroBert",
    encoder="model",
    head_modules=("dense", "classifier"),
    head="eurobert",
    attention_norm="input_layernorm",
    output_norm="post_attention_layernorm",
    norms_first=True,
    final_norm="norm",
    word_embeddings="embed_tokens",
    embedding_norm="",
    bias_keys=(
        ("attention_bias", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")),
        ("mlp_bias", ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")),
    ),
    never_biased=False,
    kv_heads_key="num_key_value_heads",
    token_types=False,
)
_ALBERT = replace(
    _BERT,
    model_type="albert",
    prefix="Albert",
    encoder="albert",
    head_modules=("albert.pooler", "classifier"),
    head="albert",
    layers="encoder.albert_layer_groups.0.albert_layers",  # in memory there is one group, of all layers
    attention="attention",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    attention_output="attention.dense",
    attention_norm="attention.LayerNorm",
    ffn_in="ffn",
    ffn_out="ffn_output",
    output_norm="full_layer_layer_norm",
    grouped=True,
    embedding_projection="encoder.embedding_hidden_mapping_in",
    layers_key="inner_group_num",
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
        _MODERNBERT,
        _DEBERTA,
        _DEBERTA_V1,
        _NOMIC,
        _ALBERT,
        _EUROBERT,
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
