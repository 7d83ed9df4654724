"""The peak memory of a run, by part: its largest pass is played through with tensors that have no data.

PyTorch's fake tensors carry shapes, types and lifetimes through the real forward and backward code, and the storages
that are alive are added up. What an allocator wastes, a device's context and a library's workspace are not in it.
"""

import copy
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from steel_train.kernels.patch import head_scratch
from steel_train.models.attention import ATTENTION, register_attention
from steel_train.models.load import adapter, padded_attention
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
    """The language-model head of a pass: rows with a label, and bytes of its scratch space (None: TRL's head runs)."""

    learnt: int
    scratch: int | None


def estimate_memory(config: Any, settings: Settings, batch: MicroBatch, bf16: bool) -> Memory:
    """Play one step on `batch`, the largest pass of a run, and return what it would need.

    All layers need the same, so two and three of them are played, and the difference is counted for each of the others;
    with and without the language-model head, so that the part of the logits shows.
    """
    layers = config.num_hidden_layers
    inputs = _bare_inputs(batch)
    learnt = int((batch.inputs["labels"] != -100).sum())
    head = Head(learnt, head_scratch(config, learnt, 2 if bf16 else 4))
    two, three = (_play(_with_layers(config, few), settings, inputs, bf16, head) for few in (2, 3))
    body, _ = _play(_with_layers(config, 2), settings, inputs, bf16, None)
    peak, weights, trained = (
        few + (layers - 2) * (more - few) for few, more in zip((two[0], *two[1]), (three[0], *three[1]), strict=True)
    )
    optimiser = 2 * trained  # AdamW: two moments in the type of the weight
    part = max(two[0] - body, 0)
    return Memory(weights, trained, optimiser, max(peak - part - weights - optimiser, 0), part, peak)


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


def _play(
    config: Any, settings: Settings, inputs: dict[str, Any], bf16: bool, head: Head | None
) -> tuple[int, tuple[int, int]]:
    """Return the peak of live bytes of two steps, and the bytes of weights and of trained weights."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    register_attention()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = _fake_model(config, settings, ATTENTION if "segment_lengths" in inputs else padded_attention(config))
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, fused=True)
        with _LiveBytes() as live:
            for tensor in (*model.parameters(), *model.buffers()):
                live.count(tensor)
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = _loss(model, inputs, head)
                loss.backward()
                optimiser.step()
                optimiser.zero_grad()
                del loss
    sizes = sum(p.numel() * 4 for p in model.parameters()), sum(p.numel() * 4 for p in trained)
    return live.peak, sizes


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


def _fake_model(config: Any, settings: Settings, attention: str) -> Any:
    """Return the model, with its adapter, its weights being fake tensors on the CPU (the caller is in fake mode)."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
        add_fused_lm_head(model, outputs=("log_probs",))
        if settings.uses_lora:
            model = get_peft_model(model, adapter(settings))
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


def _loss(model: Any, inputs: dict[str, Any], head: Head | None) -> torch.Tensor:
    """Return a loss that keeps alive what the real one does: with TRL's head, a stand-in for ours, or none."""
    if head is not None and head.scratch is None:
        return torch.neg(model(**inputs, fused_lm_head=True).log_probs.float().sum())
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.base_model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).last_hidden_state
    if head is None:
        return torch.sum(hidden.float())
    loss: torch.Tensor = _HeadStandIn.apply(hidden, inner.get_output_embeddings().weight, head)
    return loss


class _HeadStandIn(torch.autograd.Function):
    """Allocates what the fused head does (kernels/head/loss.py): a chunk's logits, and gradients until backward."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, head: Head) -> torch.Tensor:
        ctx.shape, ctx.type = hidden.shape, hidden.dtype
        ctx.rows = hidden.new_empty((head.learnt, hidden.shape[-1]))
        ctx.weight = weight.new_empty(weight.shape) if weight.requires_grad else None
        ctx.gradient = hidden.new_empty((head.learnt, hidden.shape[-1]), dtype=torch.float32)
        torch.empty(head.scratch or 0, dtype=torch.uint8)
        return hidden.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        return torch.zeros(ctx.shape, dtype=ctx.type), ctx.weight, None
