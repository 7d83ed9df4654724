"""Put our kernels into one model instance, and take them out again. Classes and other instances stay as they are.

`kernels`: "torch" replaces the head and loss by the fused op in plain torch; "triton" also replaces RMSNorm, residual
add with RMSNorm, SwiGLU and RoPE, and compares each op's first call with its definition. "auto" is "torch" on a CPU; on
a GPU it is "triton" for architectures with a GPU run in docs/results/gpu.md (none yet), and for all others TRL's own
head stays: its tiles are Triton there, and ours in torch pass over the logits some five times as often.
"""

import inspect
import logging
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from steel_data.errors import InputError, nearest
from steel_train.kernels import backend
from steel_train.kernels.backend import VERIFIED_ROWS, Calls
from steel_train.kernels.head.loss import OP, HeadSettings
from steel_train.kernels.head.model import counted_forward, fused_forward, why_not
from steel_train.kernels.head.plan import BUDGET_BYTES, HeadShape, budget_of, plan_head
from steel_train.kernels.rms_norm import rms_norm
from steel_train.kernels.rope import Frequencies, rope
from steel_train.kernels.swiglu import swiglu

log = logging.getLogger(__name__)

KERNELS = ("auto", "triton", "torch")
ARCHITECTURES = ("llama", "qwen2", "qwen3", "steel")
# architectures whose Triton kernels ran, agreed and were faster on a GPU, as docs/results/gpu.md records
SEEN_ON_GPU: frozenset[str] = frozenset()
NOT_MEASURED = "auto leaves TRL's head on a GPU until ours was measured faster"
STATE = "_steel_kernels"
TRL_ROWS, TRL_COLUMNS = 4096, 32768  # of the tile of logits that TRL 1.16's head has at once
# cos and sin that depend on the sequence length cannot be computed from one table of frequencies
STATIC_ROPE = ("default", "linear", "llama3", "yarn")


@dataclass
class _Patched:
    """What `unpatch` needs: each module, the forward it was given, and the instance's own forward before (or None)."""

    calls: Calls
    replaced: list[tuple[nn.Module, Any, Any]] = field(default_factory=list)

    def replace(self, module: nn.Module, forward: Any) -> None:
        self.replaced.append((module, forward, module.__dict__.get("forward")))
        module.__dict__["forward"] = forward


def patch(
    model: nn.Module,
    kernels: str = "auto",
    in_forward: bool = True,
    budget_bytes: int | None = None,
    compute: torch.dtype | None = None,
) -> list[str]:
    """Replace what can be replaced in `model` and return the names of the ops, sorted; [] for other architectures.

    Call it **after** TRL's trainer was made (its constructor installs a head of its own): `patch(trainer.model)`, and
    for DPO also `patch(trainer.ref_model)`. PEFT models are patched in their base model. `in_forward`: head gradients
    in the forward pass where memory allows, the fast way for SFT; pass False for DPO (either is right for both).
    `budget_bytes`: memory the head may use beyond inputs and gradients; more of it buys fewer passes over the weight.
    By default 1/32 of the device's, from 0.7 to 2.5 GB.
    `compute`: the dtype of the autocast that calls will run under (None: none). With Triton, every op is compared with
    its definition here, on 64 tokens, while the memory is empty. Raises InputError for an unknown `kernels`, for
    "triton" where there is no Triton or no GPU, for an op that differs, and for a model that is patched already.
    """
    if kernels not in KERNELS:
        raise InputError(f"kernels: no {kernels!r}.{nearest(kernels, KERNELS)}")
    model = _inner(model)
    if STATE in model.__dict__:
        raise InputError("kernels: this model is patched already. Fix: unpatch(model) first.")
    architecture = str(getattr(model.config, "model_type", None))
    if architecture not in ARCHITECTURES:
        log.info("kernels: none for %s; known: %s", architecture, ", ".join(ARCHITECTURES))
        return []
    device = next(model.parameters()).device
    chosen = choose(kernels, architecture, device.type, "forward" in model.__dict__)
    if chosen == "triton":
        backend.require_triton("patch")
    patched = _Patched(Calls(chosen))
    model.__dict__[STATE] = patched
    names: set[str] = set()
    if chosen == "own":
        before = model.__dict__["forward"]
        patched.replace(model, counted_forward(model, patched.calls, before, NOT_MEASURED))
    else:
        names = _patch_head(model, patched, in_forward, budget_bytes or budget_of(card_of(device)))
    if chosen == "triton":
        names |= _patch_layers(model, patched)
        if device.type == "cuda" or backend.interpreting():
            _first_calls(model, patched.calls, compute)
    log.info("kernels (%s): %s", chosen, ", ".join(sorted(names)) or "none")
    return sorted(names)


def card_of(device: torch.device) -> int | None:
    """Return the bytes of a GPU, None of another device."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def choose(kernels: str, architecture: str, device: str, has_head: bool) -> str:
    """Return what `kernels` means here: "triton", "torch", or "own" (the fused head that the model has stays).

    `device`: "cuda", "cpu", … `has_head`: whether someone (TRL's trainer) gave the model a fused head before.
    """
    if kernels != "auto":
        return kernels
    if device != "cuda":
        return "torch"
    return "triton" if architecture in SEEN_ON_GPU else "own" if has_head else "torch"


def _first_calls(model: Any, calls: Calls, compute: torch.dtype | None) -> None:
    """Let every op meet its definition in one forward pass of 64 tokens; what it counts and draws is taken back."""
    ids = torch.arange(VERIFIED_ROWS, device=next(model.parameters()).device)[None] % model.config.vocab_size
    counts = calls.ran.copy(), calls.fallbacks.copy()
    on = torch.autocast(ids.device.type, compute, enabled=compute is not None)
    with torch.random.fork_rng([ids.device] if ids.is_cuda else []), torch.no_grad(), on:
        # without a fused head of ours or TRL's, the model's own: its layers are what is left to compare
        model(input_ids=ids, labels=ids, **({"fused_lm_head": True} if "forward" in model.__dict__ else {}))
    calls.ran, calls.fallbacks = counts


def unpatch(model: nn.Module) -> None:
    """Give every module of `model` its own forward back. Does nothing to a model that is not patched.

    Raises InputError where someone replaced a forward after us: restoring would throw that away.
    """
    model = _inner(model)
    patched: _Patched | None = model.__dict__.get(STATE)
    if patched is None:
        return
    for module, forward, _ in patched.replaced:
        if module.__dict__.get("forward") is not forward:
            name = type(module).__name__
            raise InputError(f"kernels: the forward of {name} was replaced after patch(). Fix: undo that first.")
    for module, _, before in reversed(patched.replaced):
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before
    del model.__dict__[STATE]


def report(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return op -> {"triton", "torch", "own": calls, "reasons": {why elsewhere: calls}}, for log and steel.json."""
    patched: _Patched | None = _inner(model).__dict__.get(STATE)
    return patched.calls.report() if patched is not None else {}


def _inner(model: Any) -> Any:
    """Return the transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _patch_head(model: Any, patched: _Patched, in_forward: bool, budget_bytes: int) -> set[str]:
    reason = why_not(model)
    if reason is not None:
        patched.calls.refuse(OP, reason)
        return set()
    before = model.__dict__.get("forward")
    settings = HeadSettings(in_forward, budget_bytes, calls=patched.calls)
    patched.replace(model, fused_forward(model, settings, before))
    return {OP}


def _patch_layers(model: nn.Module, patched: _Patched) -> set[str]:
    calls, names = patched.calls, set()
    for module in model.modules():
        kind = type(module).__name__
        made = _layer_forward(kind, module, calls)
        if made is not None:
            name, function = made
            patched.replace(module, types.MethodType(function, module))
            names.add(name)
    return names | _patch_rope(model, patched)


def _layer_forward(kind: str, module: Any, calls: Calls) -> tuple[str, Callable[..., Any]] | None:
    """Return (op, forward) for one module, or None. Classes are told by name: their code is the same in all four."""
    if kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return "rms_norm", lambda self, x: rms_norm(x, self.weight, self.variance_epsilon, calls=calls)[0]
    if kind.endswith("DecoderLayer"):
        return "add_rms_norm", _decoder_layer(calls)
    if kind in ("LlamaMLP", "Qwen2MLP", "Qwen3MLP") and _is_silu(module):
        return "swiglu", lambda self, x: self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x), calls))
    if kind == "SteelExpert" and _is_silu(module):
        return "swiglu", lambda self, x: _expert(self, x, calls)
    return None


def _is_silu(module: Any) -> bool:
    return isinstance(module.act_fn, nn.SiLU) or type(module.act_fn).__name__ == "SiLUActivation"


def _expert(self: Any, slots: torch.Tensor, calls: Calls) -> torch.Tensor:
    h = swiglu(self.gate_up_proj(slots), self.up_proj(slots), calls)
    out: torch.Tensor = swiglu(self.gate_down_proj(h), self.down_proj(h), calls)
    return out


def _decoder_layer(calls: Calls) -> Callable[..., Any]:
    def forward(self: Any, hidden_states: torch.Tensor, soft_moe_mask: Any = None, **kwargs: Any) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        norm = self.post_attention_layernorm
        y, residual = rms_norm(attended, norm.weight, norm.variance_epsilon, hidden_states, calls)
        # only Steel's soft mixture takes a mask
        mixed = self.mlp(y) if soft_moe_mask is None else self.mlp(y, soft_moe_mask)
        out: torch.Tensor = residual + mixed
        return out

    return forward


def _patch_rope(model: Any, patched: _Patched) -> set[str]:
    """Let the rotary module hand out positions and frequencies, and the attention modules rotate with them."""
    rotary = model.base_model.rotary_emb
    attentions = [m for m in model.modules() if type(m).__name__.endswith("Attention") and hasattr(m, "q_proj")]
    functions = [inspect.unwrap(type(m).forward) for m in attentions]
    if rotary.rope_type not in STATIC_ROPE:
        patched.calls.refuse("rope", f"rope type {rotary.rope_type}")
        return set()
    if not all(
        {"apply_rotary_pos_emb"} <= {*f.__code__.co_names} & {*f.__globals__}
        and "position_ids" not in f.__code__.co_names
        for f in functions
    ):
        patched.calls.refuse("rope", "an attention forward of another form")
        return set()
    frequencies: dict[torch.device, Frequencies] = {}

    def positions(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, Frequencies]:
        if x.device not in frequencies:  # the model may move after patching
            frequencies[x.device] = Frequencies.of(self.inv_freq.to(x.device).float(), float(self.attention_scaling))
        return position_ids, frequencies[x.device]

    def apply(q: Any, k: Any, position_ids: Any, table: Any, *_: Any, **__: Any) -> Any:
        return rope(q, k, position_ids, table, patched.calls)

    patched.replace(rotary, types.MethodType(positions, rotary))
    for module, function in zip(attentions, functions, strict=True):
        # the same code with one global name bound anew: the module's own class is untouched
        scope = {**function.__globals__, "apply_rotary_pos_emb": apply}
        copy = types.FunctionType(
            function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        patched.replace(module, types.MethodType(copy, module))
    return {"rope"}


def head_scratch(
    shape: HeadShape, architecture: str, kernels: str, in_forward: bool, budget_bytes: int = BUDGET_BYTES
) -> int | None:
    """Return the bytes that the fused head holds at once beside inputs and float32 gradients, on the device of `shape`.

    Of whichever head runs under `kernels` (as in `patch`, which see for `in_forward`): ours, or on a GPU TRL's, whose
    tiles are Triton there. None: TRL's in torch, whose temporaries are best seen by running it.
    """
    cast = shape.hidden * shape.compute_dtype.itemsize if shape.casts else 0
    theirs = architecture not in ARCHITECTURES or choose(kernels, architecture, shape.device, has_head=True) == "own"
    if theirs:
        tile = min(shape.rows, TRL_ROWS) * TRL_COLUMNS * shape.compute_dtype.itemsize
        return tile + TRL_COLUMNS * cast if shape.device == "cuda" else None
    plan = plan_head(shape, in_forward, budget_bytes)
    wide = shape.vocabulary if plan.in_forward else plan.columns
    block = shape.compute_dtype.itemsize + 4 * shape.temporaries
    return plan.rows * (4 * wide + block * plan.columns) + (shape.vocabulary if plan.cast_once else plan.columns) * cast
