"""Optimisers that neither torch nor transformers makes ready to use: Lion, and Muon beside AdamW.

AdamW, 8-bit AdamW and Adafactor are transformers' own. Here also: how large each one's state is.
"""

from collections.abc import Iterable
from typing import Any

import torch

# bytes of state for a float32 weight; 8-bit AdamW has two of one byte, and a scale for each 256 of them
STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2 * (1 + 4 / 256), "adafactor": 0.01, "lion": 4.0, "muon": 4.0}

OURS = ("lion", "muon")


class Lion(torch.optim.Optimizer):
    """The sign of a momentum, one state a weight (Chen et al. 2023, arXiv 2302.06675, algorithm 2).

    w -= lr * (sign(b1 * m + (1 - b1) * g) + weight_decay * w), then m = b2 * m + (1 - b2) * g; b1, b2 = 0.9, 0.99.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": (0.9, 0.99)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            rate, (first, second) = group["lr"], group["betas"]
            for weight in (w for w in group["params"] if w.grad is not None):
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum, gradient = state["momentum"], weight.grad.to(weight.dtype)
                weight.mul_(1 - rate * group["weight_decay"])
                weight.sub_(momentum.lerp(gradient, 1 - first).sign_(), alpha=rate)
                momentum.lerp_(gradient, 1 - second)


class MuonAdamW(torch.optim.Optimizer):
    """Hidden matrices by torch.optim.Muon, all other weights by AdamW, as one optimiser of several groups.

    A group with `muon = True` holds matrices alone. Muon's update is scaled to the size of AdamW's (Liu et al. 2025,
    arXiv 2502.16982: 0.2 * sqrt(longer side)), so that one learning rate and one weight decay serve both.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        muon = torch.optim.Muon([torch.zeros(1, 1)], lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        adamw = torch.optim.AdamW([torch.zeros(1)], lr=lr, weight_decay=0.0, fused=True)
        own = {True: muon, False: adamw}
        super().__init__([own[group["muon"]].defaults | group for group in groups], {"lr": lr})
        self.own = own

    def by_muon(self) -> tuple[int, float]:
        """Return how many matrices Muon moves, and which share of all weights that learn they are."""
        sizes = [(group["muon"], weight.numel()) for group in self.param_groups for weight in group["params"]]
        moved = [size for is_muon, size in sizes if is_muon]
        return len(moved), sum(moved) / max(sum(size for _, size in sizes), 1)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Let each of the two move its groups; the state of both lies here, where checkpoints look for it."""
        for is_muon, optimiser in self.own.items():
            optimiser.param_groups = [group for group in self.param_groups if group["muon"] == is_muon]
            optimiser.state = self.state
            optimiser.step()


def hidden_matrices(model: Any) -> set[str]:
    """Return the names of the weights that Muon moves: matrices of layers, neither embeddings nor the head.

    A table of embeddings is a list of vectors, of which a step touches some, and the head's rows are the vocabulary's
    (Jordan 2024, kellerjordan.github.io/posts/muon). Weights of more dimensions (stacked experts, convolutions) are
    AdamW's too: torch's Muon takes matrices.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    ends = [module for module in (inner.get_input_embeddings(), inner.get_output_embeddings()) if module is not None]
    apart = {id(weight) for module in ends for weight in module.parameters()}
    return {name for name, weight in model.named_parameters() if weight.ndim == 2 and id(weight) not in apart}


def make_optimiser(model: Any, name: str, rate: float, decay: float, decayed: Iterable[str]) -> torch.optim.Optimizer:
    """Return "lion" or "muon" over the weights of `model` that learn; weight decay on those named `decayed`."""
    learning = {n: weight for n, weight in model.named_parameters() if weight.requires_grad}
    matrices, shrinking = hidden_matrices(model) if name == "muon" else set(), set(decayed)
    groups: dict[tuple[bool, bool], list[torch.Tensor]] = {}
    for n, weight in learning.items():
        groups.setdefault((n in matrices, n in shrinking), []).append(weight)
    made: list[dict[str, Any]] = [
        {"params": weights, "muon": is_muon, "weight_decay": decay if shrinks else 0.0}
        for (is_muon, shrinks), weights in sorted(groups.items(), reverse=True)
    ]
    if name == "lion":
        return Lion([{k: v for k, v in group.items() if k != "muon"} for group in made], lr=rate)
    return MuonAdamW(made, lr=rate)


def state_bytes(model: Any, name: str) -> int:
    """Return the size of an optimiser's state where all weights of `model` learn in float32."""
    whole = sum(weight.numel() for weight in model.parameters())
    if name != "muon":
        return int(STATE_BYTES[name] * whole)
    matrices = hidden_matrices(model)
    moved = sum(weight.numel() for n, weight in model.named_parameters() if n in matrices)
    return int(STATE_BYTES["lion"] * moved + STATE_BYTES["adamw"] * (whole - moved))  # one momentum, two moments
