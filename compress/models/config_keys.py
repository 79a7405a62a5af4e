"""What the keys of a `config.json` mean for predictions: implemented, refused, or known to be harmless. No torch in this module.

A key that is in no list is named in one warning, so that a setting which changes what transformers predicts is never ignored silently.
"""

from __future__ import annotations

from pathlib import Path

from compress.core import console
from compress.core.errors import ModelError
from compress.models.activation import NAMES, OLD_RECORD, RECORD, recorded_activation
from compress.models.config_heads import class_names, target_of
from compress.models.family import Family
from compress.models.int8_ranges import RANGES_KEY, is_entry
from compress.models.layers import ACTIVATIONS
from compress.models.shape import CONFIG_KEY
from compress.models.types import Config

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
ROTATIONS = ("default", "linear", "yarn", "llama3")  # the same for texts of every length
POOLINGS = {"modernbert": ("cls", "mean"), "eurobert": ("bos", "mean", "late")}  # of a head for whole texts
LAYER_KINDS = ("full_attention", "sliding_attention")
MPNET_BUCKETS = 32  # transformers computes with these, whatever the config says
_IMPLEMENTED = """
model_type architectures vocab_size max_position_embeddings type_vocab_size embedding_size pad_token_id layer_norm_eps
hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act dim n_layers n_heads hidden_dim activation
id2label label2id num_labels problem_type position_embedding_type is_decoder add_cross_attention is_encoder_decoder pruned_heads
quantization_config relative_attention_num_buckets tokenizer_class compress use_task_id task_type_vocab_size
"""
_MODERNBERT = """
norm_eps norm_bias attention_bias mlp_bias classifier_bias classifier_pooling classifier_activation hidden_activation head_dim
layer_types local_attention sliding_window global_attn_every_n_layers rope_parameters rope_scaling rope_theta global_rope_theta
local_rope_theta rms_norm_eps num_key_value_heads
"""
_DEBERTA = """
relative_attention max_relative_positions position_buckets pos_att_type share_att_key norm_rel_ebd position_biased_input pooler_hidden_act
pooler_hidden_size attention_head_size conv_kernel_size conv_act conv_groups legacy pooler_dropout
"""
_GROUPED = """
num_hidden_groups inner_group_num classifier_dropout_prob gap_size net_structure_type layers_to_keep num_memory_blocks down_scale_factor
"""
_TRAINING = """
hidden_dropout_prob attention_probs_dropout_prob dropout attention_dropout qa_dropout seq_classif_dropout classifier_dropout
initializer_range initializer_factor layerdrop sinusoidal_pos_embds gradient_checkpointing tie_weights_ tie_word_embeddings
tie_encoder_decoder summary_type summary_use_proj summary_activation summary_last_dropout summary_first_dropout
summary_proj_to_labels finetuning_task task_specific_params pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
pooler_size_per_head pooler_type directionality generator_size generator_hidden_size discriminator_loss_weight
embedding_dropout mlp_dropout pretraining_tp initializer_cutoff_factor decoder_bias sparse_prediction sparse_pred_ignore_index
"""
_STORING = """
return_dict output_hidden_states output_attentions output_past use_return_dict use_cache torchscript torch_dtype dtype
use_bfloat16 transformers_version chunk_size_feed_forward attn_implementation name_or_path language lang_codes
deterministic_flash_attn reference_compile repad_logits_with_grad
model_max_length max_seq_length tokenizer_name transformers.js_config license tags base_model function_to_apply
"""
_GENERATING = """
bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id decoder_start_token_id prefix
cross_attention_hidden_size max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature
top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
exponential_decay_length_penalty suppress_tokens begin_suppress_tokens tf_legacy_loss eos_token_ids
"""
IMPLEMENTED = {*_IMPLEMENTED.split(), RECORD, OLD_RECORD, RANGES_KEY}
DISENTANGLED = {*_DEBERTA.split()}  # implemented for families with disentangled attention
GROUPED = {*_GROUPED.split()}  # implemented or without effect in ALBERT
ROTARY = {*_MODERNBERT.split()}  # implemented for families with rotary positions
HARMLESS = {*_TRAINING.split(), *_STORING.split(), *_GENERATING.split()}
_warned: set[Path] = set()


def check_keys(config: Config, family: Family, path: Path) -> None:
    """Refuse settings that change predictions in a way that compress does not compute, and warn of unknown ones.

    Raises:
        ModelError: such a setting; the message names its key and value.
    """
    _check_architecture(config, family, path)
    if target_of(config) in ("class", "labels", "value", "tags", "mentions"):
        _check_labels(config, path)
    if target_of(config) == "value":
        _check_value(config, path)
    if config.get(RANGES_KEY) is not None and not is_entry(config[RANGES_KEY]):
        raise ModelError(f"{path}: {RANGES_KEY} does not map names of matmuls to ranges", "remove it: the weights are complete without it")
    blocks = ((family.rotary, ROTARY), (family.disentangled, DISENTANGLED), (family.grouped, GROUPED))
    known = IMPLEMENTED.union(HARMLESS, *(keys for has, keys in blocks if has))
    unknown = [key for key in config if key not in known and not key.startswith("_")]
    if unknown and family.has_layers and path not in _warned:
        _warned.add(path)
        names = ", ".join(f"'{key}'" for key in unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        console.warn(f"{path}: compress does not know {names}: if transformers follows this setting, predictions can differ")


def _check_architecture(config: Config, family: Family, path: Path) -> None:
    """Refuse layers that are not BERT's own."""
    heads = config.get("architectures")
    if heads is not None and not (isinstance(heads, list) and all(isinstance(name, str) for name in heads)):
        raise ModelError(f"{path}: architectures is {heads!r}, not a list of class names")
    if config.get("is_decoder") or config.get("add_cross_attention") or config.get("is_encoder_decoder"):
        raise ModelError(f"{path} describes a decoder; only encoders are supported")
    positions = config.get("position_embedding_type")
    if positions not in (None, "absolute"):
        raise ModelError(f"{path}: position_embedding_type {positions!r} is not supported", "supported: absolute")
    if config.get("pruned_heads"):
        raise ModelError(f"{path}: pruned_heads of transformers 4 is not supported", "start from the dense model that it was pruned from")
    if config.get("quantization_config") is not None:
        raise ModelError(f"{path}: the weights are quantized (quantization_config)", "use the float model that they were quantized from")
    key = family.activation_key
    name = config.get(key, "gelu")
    if family.has_layers and not (isinstance(name, str) and name in ACTIVATIONS):
        raise ModelError(f"{path}: {key} {name!r} is not supported", f"supported: {', '.join(sorted(ACTIVATIONS))}")
    if family.rotary:
        _check_rotary(config, family, path)
    if family.disentangled:
        _check_disentangled(config, path)
    buckets = config.get("relative_attention_num_buckets")
    if family.position_bias and buckets is not None and not (isinstance(buckets, int) and buckets >= MPNET_BUCKETS):
        raise ModelError(f"{path}: relative_attention_num_buckets is {buckets!r}, and transformers computes with {MPNET_BUCKETS}")


def _check_rotary(config: Config, family: Family, path: Path) -> None:
    """Refuse rotations that depend on the length of a text, and kinds of layers and heads that are unknown."""
    parameters = config.get("rope_parameters") or {}
    entries = [config.get("rope_scaling"), parameters, *(parameters.values() if isinstance(parameters, dict) else ())]
    for entry in entries:
        kind = entry.get("rope_type") or entry.get("type") or "default" if isinstance(entry, dict) else "default"
        if kind not in ROTATIONS:
            raise ModelError(f"{path}: the rotary positions '{kind}' are not supported", f"supported: {', '.join(ROTATIONS)}")
    size, heads = config.get("head_dim"), config.get("num_attention_heads", 1)
    if size is not None and CONFIG_KEY not in config and size * heads != config.get("hidden_size"):
        raise ModelError(f"{path}: head_dim is {size!r}, not hidden_size / num_attention_heads", "supported: heads as wide as the model")
    kinds = config.get("layer_types")
    if kinds is not None and not (isinstance(kinds, list) and all(kind in LAYER_KINDS for kind in kinds)):
        raise ModelError(f"{path}: layer_types is {str(kinds)[:80]}", f"a list of {' and '.join(LAYER_KINDS)}")
    poolings, pooling = POOLINGS.get(family.head, ()), config.get("classifier_pooling")
    if poolings and pooling not in (None, *poolings):
        raise ModelError(f"{path}: classifier_pooling {pooling!r} is not supported", f"supported: {', '.join(poolings)}")
    stored = config.get(family.kv_heads_key, heads) if family.kv_heads_key else heads
    if stored is not None and not (type(stored) is int and stored > 0 and heads % stored == 0):
        raise ModelError(f"{path}: {family.kv_heads_key} is {stored!r}, no divisor of num_attention_heads")
    name = config.get("classifier_activation", "gelu")
    if not (isinstance(name, str) and name in ACTIVATIONS):
        raise ModelError(f"{path}: classifier_activation {name!r} is not supported", f"supported: {', '.join(sorted(ACTIVATIONS))}")


def _check_disentangled(config: Config, path: Path) -> None:
    """Refuse parts of DeBERTa that are not computed: a convolution, mixed heads, token types, and embeddings of another width."""
    if config.get("talking_head"):
        raise ModelError(f"{path}: attention that mixes heads (talking_head) is not supported")
    if config.get("conv_kernel_size"):
        raise ModelError(f"{path}: a convolution after the first layer (conv_kernel_size) is not supported", "deberta-v3 models have none")
    if config.get("type_vocab_size"):
        raise ModelError(f"{path}: token types (type_vocab_size) of DeBERTa are not supported", "deberta-v2 and v3 models have none")
    if config.get("embedding_size") not in (None, config.get("hidden_size")):
        raise ModelError(f"{path}: embeddings narrower than the layers (embedding_size) of DeBERTa are not supported")
    if config.get("pooler_hidden_size") not in (None, config.get("hidden_size")):
        raise ModelError(f"{path}: pooler_hidden_size is not hidden_size")
    name = config.get("pooler_hidden_act", "gelu")
    if not (isinstance(name, str) and name in ACTIVATIONS):
        raise ModelError(f"{path}: pooler_hidden_act {name!r} is not supported", f"supported: {', '.join(sorted(ACTIVATIONS))}")


def _check_labels(config: Config, path: Path) -> None:
    """Refuse labels that transformers would number differently."""
    problem = config.get("problem_type")
    if problem is not None and problem not in PROBLEM_TYPES:
        raise ModelError(f"{path}: problem_type {problem!r} is unknown", f"one of: {', '.join(PROBLEM_TYPES)}")
    names, count = config.get("id2label"), config.get("num_labels")
    if names and sorted(int(key) for key in names) != list(range(len(names))):
        raise ModelError(f"{path}: id2label does not number its {len(names)} labels from 0 to {len(names) - 1}")
    if names and count is not None and count != len(names):
        raise ModelError(f"{path}: num_labels is {count} and id2label names {len(names)} labels", "remove the one that is wrong")


def _check_value(config: Config, path: Path) -> None:
    """Refuse several values, and activations other than a sigmoid."""
    if len(class_names(config)) != 1:
        raise ModelError(f"{path}: a regression of {len(class_names(config))} values is not supported", "supported: one value")
    recorded = recorded_activation(config)
    if recorded is not None and recorded not in NAMES:
        raise ModelError(f"{path}: the activation {recorded} behind the logit is not supported", f"supported: {', '.join(NAMES)}")
