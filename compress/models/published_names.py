"""Configs as their authors published them, before transformers had the family: their names of keys, and the code that they name.

The code never runs: models are built by transformers' own classes. No torch in this module.
"""

from __future__ import annotations

from pathlib import Path

from compress.core.errors import ModelError
from compress.models.family import FAMILIES
from compress.models.types import Config

CODE = "auto_map"
NOMIC = "nomic_bert"
NAMES = {  # of nomic-ai/nomic-bert-2048 and nomic-embed-text, and transformers' own
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "embd_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
}
ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}  # of the gate
NOT_COMPUTED = {  # what transformers' class does not compute, with the values that it does
    "prenorm": (False, None),
    "use_rms_norm": (False, None),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "rotary_emb_fraction": (1, 1.0),
    "rotary_emb_interleaved": (False, None),
    "rotary_emb_scale_base": (None,),
    "parallel_block": (False, None),
    "causal": (False, None),
    "scale_attn_weights": (True, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "num_experts": (0, None),
    "moe_every_n_layers": (0, -1, None),
}
UNUSED = {  # how the authors' code computes, or what only its training reads
    "resid_pdrop", "fused_bias_fc", "fused_dropout_add_ln", "use_flash_attn", "use_xentropy", "dense_seq_output", "pad_vocab_size_multiple",
    "parallel_block_tied_norm", "reorder_and_upcast_attn", "n_ctx", "max_trained_positions", "rotary_scaling_factor", "activation_function",
    "rotary_emb_base", "expert_choice_router", "ffn_div", "moe_impl", "moe_normalize_expert_weights", "moe_resid_pdrop", "moe_top_k",
    "num_shared_experts", "router_aux_loss_coef", "window_size",
}  # fmt: skip


def is_published(config: object) -> bool:
    """Return whether a config has the names of its authors."""
    return isinstance(config, dict) and config.get("model_type") == NOMIC and "n_embd" in config


def standard_config(config: object, path: Path) -> Config:
    """Return a config with transformers' own names; others are returned as they are.

    With a `rotary_scaling_factor` the authors' code turns faster beyond `max_trained_positions`: that is then the longest input.

    Raises:
        ModelError: a setting that transformers' class does not compute; the message names it.
    """
    if not isinstance(config, dict) or not is_published(config):
        return config  # pyright: ignore[reportReturnType] (what is no config is refused by its check)
    for key, values in NOT_COMPUTED.items():
        if config.get(key, values[0]) not in values:
            raise ModelError(f"{path}: {key} {config[key]!r} is not supported", f"supported: {values[0]!r}")
    activation = config.get("activation_function")
    if activation not in ACTIVATIONS:
        raise ModelError(f"{path}: activation_function {activation!r} is not supported", f"supported: {', '.join(ACTIVATIONS)}")
    standard = {key: value for key, value in config.items() if key not in UNUSED | set(NOT_COMPUTED) | set(NAMES)}
    standard |= {name: config[key] for key, name in NAMES.items() if key in config}
    standard |= {"hidden_act": ACTIVATIONS[activation], "pad_token_id": config.get("pad_token_id") or 0}
    standard.setdefault("rope_parameters", {"rope_type": "default", "rope_theta": config.get("rotary_emb_base", 10_000.0)})
    trained, longest = config.get("max_trained_positions"), standard.get("max_position_embeddings")
    if config.get("rotary_scaling_factor") and isinstance(trained, int) and isinstance(longest, int):
        standard["max_position_embeddings"] = min(longest, trained)
    return standard


def names_own_classes(config: Config) -> bool:
    """Return whether the code that a config names is that of classes which transformers has by the same names."""
    family, named = FAMILIES.get(str(config.get("model_type"))), config.get(CODE)
    if family is None or not family.published_code or not isinstance(named, dict):
        return False
    return all(isinstance(value, str) and value.rpartition(".")[2].startswith(family.prefix) for value in named.values())
