"""Packed rows against the same rows alone, for every architecture of the installed transformers that can be made tiny.

    python bench/packing.py [name ...]

Prints a table: packed, and how far its logits are from those of rows alone (attention by the model's own code, weights
with a standard deviation of 0.15 so that mixing shows), or padded, and why. docs/results/packing.md holds one.
"""

import sys
import warnings

import torch

from steel_data.errors import first_line
from steel_train.models.attention import ATTENTION, register_attention
from steel_train.models.load import packing_fault, padded_attention
from steel_train.preflight.apart import logit_difference, mixing_fault
from steel_train.say import quiet
from steel_train.settings import Settings

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 64, "vocab_size": 128, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "n_group": 1, "topk_group": 1, "decoder_sparse_step": 1, "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2,
}  # fmt: skip
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
WINDOW = {"sliding_window": 8}
KINDS: dict[str, dict] = {
    "qwen2": {}, "qwen3": {}, "llama": {}, "mistral": WINDOW, "ministral": WINDOW, "phi3": {}, "gemma": {},
    "gemma2": WINDOW | {"query_pre_attn_scalar": 8}, "gemma3_text": WINDOW | {"query_pre_attn_scalar": 8},
    "glm": {}, "glm4": {}, "glm4_moe": EXPERTS, "cohere": {}, "cohere2": WINDOW, "olmo2": {}, "olmo3": WINDOW,
    "smollm3": {}, "starcoder2": {}, "deepseek_v3": EXPERTS | LATENT | {"num_key_value_heads": 4, "first_k_dense_replace": 1},
    "hunyuan_v1_dense": {}, "ernie4_5": {}, "ernie4_5_moe": EXPERTS, "bitnet": {}, "exaone4": WINDOW, "seed_oss": {},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 32}, "qwen3_moe": EXPERTS, "mixtral": EXPERTS,
    "granite": {}, "granitemoe": EXPERTS, "nemotron": {}, "stablelm": {}, "apertus": {}, "arcee": {}, "helium": {},
    "gpt_oss": WINDOW | EXPERTS, "minimax": EXPERTS | {"block_size": 8},
    "llama4_text": EXPERTS | {"attention_chunk_size": 512, "intermediate_size_mlp": 64},
    "lfm2": {"block_dim": 32, "conv_L_cache": 3, "layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "granitemoehybrid": EXPERTS | {
        "layer_types": ["mamba", "attention", "mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 8,
        "mamba_d_state": 8, "shared_intermediate_size": 32, "mamba_n_groups": 1,
    },
    "qwen3_next": EXPERTS | {
        "layer_types": ["linear_attention", "full_attention"] * 2, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "shared_expert_intermediate_size": 32,
    },
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "attn_layer_indices": [1]},
    "jamba": EXPERTS | {"mamba_dt_rank": 4}, "mamba": {}, "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8},
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 256}, "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt_neox": {}, "bloom": {"n_head": 4, "n_layer": 4}, "falcon": {}, "phi": {}, "minicpm3": LATENT | {"num_key_value_heads": 4},
    "diffllama": {}, "persimmon": {}, "xglm": {"d_model": 32, "attention_heads": 4, "num_layers": 4, "ffn_dim": 64},
}  # fmt: skip


def tried(kind: str) -> tuple[str, str]:
    """Return (packed, padded or not tried; the difference or the reason)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    register_attention()
    settings = Settings(model={"type": kind})
    try:
        known = AutoConfig.for_model(kind).to_dict()
        options = {key: value for key, value in SMALL.items() if key in known} | KINDS[kind]
        config = AutoConfig.for_model(kind, **options)
    except Exception as error:
        return "not tried", first_line(error, 80)
    fault = packing_fault(settings, config)
    torch.manual_seed(0)
    try:
        how = padded_attention(config) if fault else ATTENTION
        model = AutoModelForCausalLM.from_config(config, attn_implementation=how)
    except Exception as error:
        return "not tried", first_line(error, 80)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    if fault:
        return "padded", fault
    fault = mixing_fault(model, bf16=False)
    return ("padded", fault) if fault else ("packed", f"{logit_difference(model):.0e}")


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    quiet()
    print("| architecture | rows are | largest difference of a logit, or why |\n| --- | --- | --- |")
    for kind in sys.argv[1:] or KINDS:
        print("|", " | ".join((kind, *tried(kind))), "|", flush=True)


if __name__ == "__main__":
    main()
