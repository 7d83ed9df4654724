"""The peak memory of a run, by part: its largest pass is played through with tensors that have no data.

PyTorch's fake tensors carry shapes, types and lifetimes through the real forward and backward code, and the storages
that are alive are added up. What an allocator wastes, a device's context and a library's workspace are not in it.
"""

import copy
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from steel_train.kernels.head.plan import HeadShape, budget_of
from steel_train.kernels.patch import head_scratch
from steel_train.models.adapter import adapter, show_bias
from steel_train.models.attention import ATTENTION, register_attention
from steel_train.models.dtypes import held_dtype
from steel_train.models.load import padded_attention
from steel_train.models.optimiser import OURS, STATE_BYTES, make_optimiser
from steel_train.schedule.batches import MicroBatch
from steel_train.settings import Settings


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. `peak` is less than the sum: not all is alive at once."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    head: int
    peak: int


@dataclass(frozen=True)
class Head:
    """The language-model head of a pass: rows with a label, and bytes of its scratch space."""

    learnt: int
    scratch: int


# a weight in 4 bits has a scale of 8 bits for each 64, and these one of 32 bits for each 256 (Dettmers et al. 2023)
_FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)


def estimate_memory(
    config: Any,
    settings: Settings,
    batch: MicroBatch,
    bf16: bool,
    own: torch.dtype = torch.float32,
    card: int | None = None,
) -> Memory:
    """Play one step on `batch`, the largest pass of a run, and return what it would need.

    `own`: type of the base's weights as they are published. `card`: bytes of the GPU, which decide
    what the head is and what it may use; None: a CPU.

    All layers need the same, so two and three of them are played, and the difference is counted for each of the others;
    with and without the language-model head, so that the part of the logits shows.
    """
    layers = config.num_hidden_layers
    inputs = _bare_inputs(batch)
    learnt = int((batch.inputs["labels"] != -100).sum())
    form = _Form(settings, bf16, held_dtype(settings, own, bf16), card)
    two, three = (_play(_with_layers(config, few), form, inputs, learnt) for few in (2, 3))
    body = _play(_with_layers(config, 2), form, inputs, None)
    peak, weights, trained, optimiser = (
        few + (layers - 2) * (more - few) for few, more in zip(two, three, strict=True)
    )
    part = max(two[0] - body[0], 0)
    return Memory(weights, trained, optimiser, max(peak - part - weights - optimiser, 0), part, peak)


@dataclass(frozen=True)
class _Form:
    """In what form the model is played: settings, whether it computes in bfloat16, its weights' type, the GPU."""

    settings: Settings
    bf16: bool
    dtype: torch.dtype
    card: int | None


def _with_layers(config: Any, layers: int) -> Any:
    few = copy.deepcopy(config)
    few.num_hidden_layers = layers
    kinds = getattr(few, "layer_types", None)
    if kinds:
        few.layer_types = [kinds[i % len(kinds)] for i in range(layers)]
    return few


def _bare_inputs(batch: MicroBatch) -> dict[str, Any]:
    """Return the shapes of a pass. Attention needs memory in proportion to tokens, so one segment stands for all."""
    inputs = {k: torch.zeros_like(v) if isinstance(v, torch.Tensor) else v for k, v in batch.inputs.items()}
    if "segment_lengths" in inputs:
        inputs["segment_lengths"] = (batch.tokens,)
    return inputs


def _play(config: Any, form: _Form, inputs: dict[str, Any], learnt: int | None) -> tuple[int, int, int, int]:
    """Return the peak of live bytes of two steps; the bytes of weights, trained weights and optimiser's state.

    `learnt`: rows of the head (None: without a head).
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    register_attention()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = _fake_model(config, form, ATTENTION if "segment_lengths" in inputs else padded_attention(config))
        if form.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable()
            if form.settings.uses_lora:
                model.enable_input_require_grads()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = _optimiser(form.settings.optimizer, model, trained)
        with _LiveBytes() as live:
            for tensor in (*model.parameters(), *model.buffers()):
                live.count(tensor)
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16, enabled=form.bf16):
                    loss = _loss(model, inputs, form, learnt)
                loss.backward()
                optimiser.step()
                optimiser.zero_grad()
                del loss
        state = [x for of in optimiser.state.values() for x in of.values() if isinstance(x, torch.Tensor) and x.dim()]
        held, moved, kept = (_bytes(tensors) for tensors in ((*model.parameters(), *_packed(model)), trained, state))
    return live.peak, held, moved, kept


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _optimiser(name: str, model: Any, trained: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of a run, or one whose state is as large."""
    if name in OURS:
        return make_optimiser(model, name, 1e-5, 0.0, ())
    if name == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(trained, lr=1e-5, scale_parameter=False, relative_step=False)
    return _Bytes(trained) if name == "adamw_8bit" else torch.optim.AdamW(trained, fused=True)


class _Bytes(torch.optim.Optimizer):
    """Allocates the state of 8-bit AdamW, and does nothing with it."""

    def __init__(self, trained: list[torch.nn.Parameter]) -> None:
        super().__init__(trained, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for weight in self.param_groups[0]["params"]:
            if weight not in self.state:
                size = int(weight.numel() * STATE_BYTES["adamw_8bit"])
                self.state[weight] = {"moments": torch.empty(size, dtype=torch.uint8)}


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and their highest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = WeakIdKeyDictionary()

    def count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self.known:
            self.known[storage] = True
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.count, result)
        return result


class _FourBits(torch.nn.Linear):
    """Allocates what a linear layer in 4 bits does: the packed weight, and a whole one while it multiplies."""

    @classmethod
    def of(cls, layer: torch.nn.Linear) -> "_FourBits":
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta", dtype=torch.bfloat16)
        size = int(layer.weight.numel() * _FOUR_BITS)
        del made.weight
        made.register_buffer("weight", torch.empty(size, dtype=torch.uint8, device="meta"))
        return made

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _FourBitProduct.apply(input.bfloat16(), self.out_features)
        return out if self.bias is None else out + self.bias


class _FourBitProduct(torch.autograd.Function):
    """The product with a weight that is unpacked for it, in the forward and in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, columns: int) -> torch.Tensor:
        ctx.width = x.shape[-1]
        torch.empty(columns, x.shape[-1], dtype=torch.bfloat16)
        return x.new_empty(*x.shape[:-1], columns)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = gradients
        torch.empty(dy.shape[-1], ctx.width, dtype=torch.bfloat16)
        return dy.new_empty(*dy.shape[:-1], ctx.width), None


def _packed(model: Any) -> Iterator[torch.Tensor]:
    for module in model.modules():
        if isinstance(module, _FourBits):
            yield module.weight


def _in_four_bits(model: Any) -> None:
    """Put stand-ins in the place of all linear layers but the head, as bitsandbytes does."""
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear and child is not head:
                setattr(module, name, _FourBits.of(child))


def _fake_model(config: Any, form: _Form, attention: str) -> Any:
    """Return the model, with its adapter, its weights being fake tensors on the CPU (the caller is in fake mode)."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=form.dtype)
        add_fused_lm_head(model, outputs=("log_probs",))
        if form.settings.lora is not None and form.settings.lora.quantize is not None:
            _in_four_bits(model)
        for name, weight in model.named_parameters():
            if any(fnmatchcase(name, pattern) for pattern in form.settings.freeze):
                weight.requires_grad_(False)
        if form.settings.uses_lora:
            new = len(form.settings.new_tokens) + len(form.settings.new_special_tokens)
            model = get_peft_model(model, adapter(form.settings, model, list(range(new))))
            show_bias(model)
    # put in by hand: Module.to() cannot exchange a real or meta parameter for a fake one. Tied weights stay tied.
    made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            for name, old in kind.items():
                if old is not None:
                    kind[name] = made.setdefault(id(old), (old, _empty_like(old)))[1]
    return model.train()


def _empty_like(old: torch.Tensor) -> torch.Tensor:
    empty = torch.empty(old.shape, dtype=old.dtype, device="cpu")
    return torch.nn.Parameter(empty, requires_grad=old.requires_grad) if isinstance(old, torch.nn.Parameter) else empty


def _loss(model: Any, inputs: dict[str, Any], form: _Form, learnt: int | None) -> torch.Tensor:
    """Return a loss that keeps alive what the real one does: with TRL's head, a stand-in for a fused one, or none."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    weight = inner.get_output_embeddings().weight
    scratch = None if learnt is None else _scratch(inner.config, form, weight, learnt)
    if learnt is not None and scratch is None:
        return torch.neg(model(**inputs, fused_lm_head=True).log_probs.float().sum())
    hidden = inner.base_model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).last_hidden_state
    if learnt is None or scratch is None:
        return torch.sum(hidden.float())
    loss: torch.Tensor = _HeadStandIn.apply(hidden, weight, Head(learnt, scratch))
    return loss


def _scratch(config: Any, form: _Form, weight: torch.Tensor, learnt: int) -> int | None:
    settings, compute = form.settings, torch.bfloat16 if form.bf16 else weight.dtype
    device = "cpu" if form.card is None else "cuda"
    shape = HeadShape(
        learnt, weight.shape[0], weight.shape[1], weight.dtype, compute, weight.requires_grad, device,
        temporaries=0 if device == "cuda" and settings.kernels == "triton" else 2,
    )  # fmt: skip
    in_forward = settings.form == "messages"
    return head_scratch(shape, config.model_type, settings.kernels, in_forward, budget_of(form.card))


class _HeadStandIn(torch.autograd.Function):
    """Allocates what the fused head does (kernels/head/loss.py): a chunk's logits, and gradients until backward."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, head: Head) -> torch.Tensor:
        ctx.shape, ctx.type = hidden.shape, hidden.dtype
        ctx.rows = hidden.new_empty((head.learnt, hidden.shape[-1]))
        ctx.weight = weight.new_empty(weight.shape, dtype=torch.float32) if weight.requires_grad else None
        ctx.weight_type = weight.dtype
        ctx.gradient = hidden.new_empty((head.learnt, hidden.shape[-1]), dtype=torch.float32)
        torch.empty(head.scratch, dtype=torch.uint8)
        return hidden.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        weight = None if ctx.weight is None else ctx.weight.to(ctx.weight_type)
        return torch.zeros(ctx.shape, dtype=ctx.type), weight, None
