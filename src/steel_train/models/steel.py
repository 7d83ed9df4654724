"""The Steel-LLM architecture for transformers 5: Qwen2 attention, a soft mixture of experts instead of the MLP.

It loads the published weights (zhanshijinwat/Steel-LLM, `softmoe_v3` with `senet` experts) under their published names.
Importing this module registers `model_type = "steel"` with AutoConfig, AutoModel and AutoModelForCausalLM.

Shapes: B sequences, T tokens, D hidden, E experts, P slots an expert, I expert width
(intermediate_size // mlp_div_ratio).

    x = x / |x|        Phi = scale * phi / |phi| (over D)        l = x Phi                      [B, T, E, P]
    slot_ep = sum_t softmax_t(l)_tep x_t                         dispatch: over the tokens of this call
    y_t     = sum_ep softmax_ep(l)_tep expert_e(slot_ep)         combine: over experts and slots
    expert(s) = silu(G2 h) * (D2 h),  h = silu(G1 s) * (U1 s)

(Soft MoE: Puigcerver et al., arXiv 2308.00951, algorithm 1 with the normalisation of section 2.3.)

**Not causal.** Dispatch mixes all tokens of a call: a later token changes the output at earlier ones, so training loss
and likelihood scores see the future, and a step with a KV cache (whose only token gets dispatch 1) computes another
function than the whole sequence at once. This is the published model and is kept. A padding mask takes padded tokens
out of the dispatch, so that padding changes nothing; packed documents still mix. One warning is logged for each.
"""

import functools
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.activations import ACT2FN
from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2Attention,
    Qwen2DecoderLayer,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen2PreTrainedModel,
    Qwen2RMSNorm,
    Qwen2RotaryEmbedding,
)
from transformers.utils import logging

log = logging.get_logger(__name__)


class SteelConfig(Qwen2Config):
    """Every key of the published config.json; the defaults are the published 1.1 B model.

    Raises ValueError for an `FFN_type` or `mlp_type` other than the published ones.
    """

    model_type = "steel"

    default_theta = 1_000_000.0
    vocab_size: int = 151936
    hidden_size: int = 1792
    intermediate_size: int = 1792
    num_hidden_layers: int = 18
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32
    n_experts: int = 6
    slots_per_expert: int = 1
    mlp_div_ratio: int = 4
    FFN_type: str = "softmoe_v3"
    mlp_type: str = "senet"

    def __post_init__(self, **kwargs: Any) -> None:
        """Take `rope_theta` of the published file, and refuse the variants that were never published."""
        super().__post_init__(**kwargs)
        self.model_type = type(self).model_type  # type: ignore[misc]  # the published file says qwen2
        if (self.FFN_type, self.mlp_type) != ("softmoe_v3", "senet"):
            raise ValueError(
                f"SteelConfig: FFN_type {self.FFN_type!r} with mlp_type {self.mlp_type!r} is not implemented. "
                "Fix: 'softmoe_v3' with 'senet', the published model."
            )


class SteelExpert(nn.Module):
    """Two gated units one after the other: [.., D] -> [.., I] -> [.., D], without biases."""

    def __init__(self, config: SteelConfig) -> None:
        super().__init__()
        width = config.intermediate_size // config.mlp_div_ratio
        self.gate_up_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.gate_down_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        """Return expert(slots), same shape."""
        h = self.act_fn(self.gate_up_proj(slots)) * self.up_proj(slots)
        out: torch.Tensor = self.act_fn(self.gate_down_proj(h)) * self.down_proj(h)
        return out


class SteelSoftMoE(nn.Module):
    """Soft mixture of experts over the tokens of one call; see the module's formula."""

    def __init__(self, config: SteelConfig) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.empty(config.hidden_size, config.n_experts, config.slots_per_expert))
        self.scale = nn.Parameter(torch.ones(1))
        self.experts = nn.ModuleList([SteelExpert(config) for _ in range(config.n_experts)])

    def forward(self, x_BTD: torch.Tensor, mask_BT: torch.Tensor | None = None) -> torch.Tensor:
        """Return [B, T, D]. Tokens where `mask_BT` is False take no part in the dispatch."""
        x_BTD = nn.functional.normalize(x_BTD, dim=2)
        phi_DEP = self.scale * nn.functional.normalize(self.phi, dim=0)
        logits_BTEP = torch.einsum("btd,dep->btep", x_BTD, phi_DEP).float()
        combine_BTEP = logits_BTEP.flatten(2).softmax(2).view_as(logits_BTEP).to(x_BTD.dtype)
        if mask_BT is not None:
            # the lowest finite number, not -inf: a sequence of padding alone would give nan
            lowest = torch.finfo(torch.float32).min
            logits_BTEP = logits_BTEP.masked_fill(~mask_BT[:, :, None, None], lowest)
        dispatch_BTEP = logits_BTEP.softmax(1).to(x_BTD.dtype)
        slots_BEPD = torch.einsum("btd,btep->bepd", x_BTD, dispatch_BTEP)
        outputs = [expert(slots_BEPD[:, e]) for e, expert in enumerate(self.experts)]
        return torch.einsum("bepd,btep->btd", torch.stack(outputs, 1), combine_BTEP)


class SteelDecoderLayer(Qwen2DecoderLayer):
    """Attention and soft MoE, each behind an RMSNorm and a residual."""

    def __init__(self, config: SteelConfig, layer_idx: int) -> None:
        super(Qwen2DecoderLayer, self).__init__()  # not Qwen2's own: it would build an MLP
        self.hidden_size = config.hidden_size
        self.self_attn = Qwen2Attention(config=config, layer_idx=layer_idx)
        self.mlp = SteelSoftMoE(config)  # type: ignore[assignment]
        self.input_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self, hidden_states: torch.Tensor, soft_moe_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """Return the layer's output [B, T, D]; `soft_moe_mask` [B, T] as in `SteelSoftMoE`."""
        residual = hidden_states
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        residual = residual + attended
        out: torch.Tensor = residual + self.mlp(self.post_attention_layernorm(residual), soft_moe_mask)
        return out


class SteelPreTrainedModel(Qwen2PreTrainedModel):
    """Initialisation and the names that transformers looks for."""

    config: SteelConfig
    _no_split_modules = ["SteelDecoderLayer"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": SteelDecoderLayer, "attentions": Qwen2Attention}  # noqa: RUF012
    # every token of a call weighs in the dispatch: a compiled static cache would dispatch over its unused places
    _can_compile_fullgraph = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SteelSoftMoE):
            nn.init.normal_(module.phi, std=module.phi.shape[0] ** -0.5)  # LeCun normal, as published
            nn.init.ones_(module.scale)


class SteelModel(SteelPreTrainedModel, Qwen2Model):
    """The layers without the head."""

    def __init__(self, config: SteelConfig) -> None:
        super(Qwen2PreTrainedModel, self).__init__(config)  # not Qwen2Model's own: it would build Qwen2 layers
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        layers = [SteelDecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen2RotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.has_sliding_layers = "sliding_attention" in (config.layer_types or ())
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As Qwen2Model; a 2-D `attention_mask` also takes padding out of the dispatch."""
        inputs = input_ids if input_ids is not None else kwargs["inputs_embeds"]
        mask_BT = None
        if isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2:
            mask_BT = attention_mask[:, -inputs.shape[1] :].bool()
        elif attention_mask is not None:
            log.warning_once("Steel: only a 2-D attention mask keeps padding out of the soft MoE's dispatch.")
        if self.training and (position_ids is not None or "cu_seq_lens_q" in kwargs):
            log.warning_once(
                "Steel: the soft MoE mixes all tokens of a row; packed documents would see each other. Keep one a row."
            )
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            soft_moe_mask=mask_BT,
            **kwargs,
        )


class SteelForCausalLM(SteelPreTrainedModel, Qwen2ForCausalLM):
    """The model with its untied head; generation, KV cache and gradient checkpointing as in Qwen2."""

    def __init__(self, config: SteelConfig) -> None:
        super(Qwen2PreTrainedModel, self).__init__(config)
        self.model = SteelModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    # generation and trainers read the names of the arguments off the signature
    @functools.wraps(Qwen2ForCausalLM.forward, assigned=())  # type: ignore[override]
    def forward(  # type: ignore[override]
        self, *args: Any, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        """As Qwen2ForCausalLM. Likelihoods of labels are not causal here, and a warning says so once."""
        if labels is not None and not self.training:
            log.warning_once("Steel is not causal: likelihoods see the future. Score it by generation.")
        return super().forward(*args, labels=labels, **kwargs)


def register() -> None:
    """Make the Auto classes know `model_type = "steel"`. Idempotent; done once on import."""
    AutoConfig.register(SteelConfig.model_type, SteelConfig, exist_ok=True)
    AutoModel.register(SteelConfig, SteelModel, exist_ok=True)
    AutoModelForCausalLM.register(SteelConfig, SteelForCausalLM, exist_ok=True)


register()
