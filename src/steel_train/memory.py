"""The peak memory of a run, by part, before it starts: its largest pass is played through with tensors that have no
data.

PyTorch's fake tensors carry shapes, types and lifetimes through the real forward and backward code; its MemTracker adds
up what is alive. What an allocator wastes, a device's context and a library's workspace are not in it.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch

from steel_train.batches import ATTENTION, MicroBatch, register_attention
from steel_train.kernel_choice import head_bytes
from steel_train.settings import Lora, Settings


@dataclass(frozen=True)
class Memory:
    """Bytes on one device. `peak` is less than the sum: not all is alive at once."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    head: int
    peak: int


def estimate_memory(config: Any, settings: Settings, batch: MicroBatch, bf16: bool) -> Memory:
    """Play one step on `batch`, the largest pass of a run, and return what it would need.

    All layers need the same, so two and three of them are played, and the difference is counted for each of the others;
    with and without the language-model head, so that the part of the logits shows.
    """
    layers = config.num_hidden_layers
    inputs = _bare_inputs(batch)
    bodies, sizes = [], []
    for few in (2, 3):
        peak, size = _play(_with_layers(config, few), settings, inputs, bf16, with_head=False)
        bodies.append(peak)
        sizes.append(size)
    learnt = int((batch.inputs["labels"] != -100).sum())
    head = head_bytes(config, learnt, 2 if bf16 else 4)
    if head is None:
        with_head, _ = _play(_with_layers(config, 2), settings, inputs, bf16, with_head=True)
        head = max(with_head - bodies[0], 0)
    body, weights, trained = (
        two + (layers - 2) * (three - two)
        for two, three in zip((bodies[0], *sizes[0]), (bodies[1], *sizes[1]), strict=True)
    )
    optimiser = 2 * trained  # AdamW: two moments in the type of the weight
    return Memory(weights, trained, optimiser, max(body - weights - optimiser, 0), head, peak=body + head)


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
    config: Any, settings: Settings, inputs: dict[str, Any], bf16: bool, with_head: bool
) -> tuple[int, tuple[int, int]]:
    """Return the peak of live bytes of two steps, and the bytes of weights and of trained weights."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    register_attention()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = _fake_model(config, settings, ATTENTION if "segment_lengths" in inputs else "sdpa")
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, fused=True)
        tracker = MemTracker()
        tracker.track_external(model, optimiser)
        with tracker:
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = _loss(model, inputs, with_head)
                loss.backward()
                optimiser.step()
                optimiser.zero_grad()
                del loss
                tracker.reset_mod_stats()  # of modules only; the peak stays
        snapshot = tracker.get_tracker_snapshot("peak")
    sizes = sum(p.numel() * 4 for p in model.parameters()), sum(p.numel() * 4 for p in trained)
    return max(int(parts["Total"]) for parts in snapshot.values()), sizes


def _fake_model(config: Any, settings: Settings, attention: str) -> Any:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    add_fused_lm_head(model, outputs=("log_probs",))
    if not settings.uses_lora:
        return model.train()
    from peft import LoraConfig, get_peft_model

    lora = settings.lora or Lora()
    targets = lora.targets or "all-linear"
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=lora.rank, target_modules=targets)).train()


def _loss(model: Any, inputs: dict[str, Any], with_head: bool) -> torch.Tensor:
    if with_head:
        return torch.neg(model(**inputs, fused_lm_head=True).log_probs.float().sum())
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.base_model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).last_hidden_state
    return torch.sum(hidden.float())
