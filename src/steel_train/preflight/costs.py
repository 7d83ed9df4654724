"""Time and cost of a run on a named device: ranges from arithmetic and the share of a device's peak that training
reaches.

Estimates, and labelled so: nothing here has been measured on the device.
"""

import re
from dataclasses import dataclass
from typing import Any

from steel_data.errors import InputError, nearest

# Dense bfloat16 (V100: float16) matrix throughput, 10^12 operations a second, and memory, 10^9 bytes: makers' data
# sheets.
DEVICES: dict[str, tuple[float, float]] = {
    "3090": (71, 24), "4090": (165, 24), "5090": (209, 32), "a6000": (155, 48), "l40s": (362, 48), "v100": (125, 32),
    "a100-40": (312, 40), "a100": (312, 80), "a800": (312, 80), "h100": (989, 80), "h800": (989, 80), "h20": (148, 96),
    "h200": (989, 141), "910b": (320, 64),
}  # fmt: skip
# What fine-tuning of models of 0.1 to 7 B parameters reaches of the peak: Steel-LLM's own figure is 52 % on an A100
# after tuning (arXiv 2502.06635, table 2, computed); short rows and small models lie far below.
REACHED = (0.15, 0.45)


@dataclass(frozen=True)
class Cost:
    """Hours on `count` devices (from, to), and the price of them, in the currency that was given."""

    device: str
    count: int
    hours: tuple[float, float]
    price: tuple[float, float] | None
    memory: int  # bytes of one device


def parse_device(text: str) -> tuple[str, int]:
    """Read `4090x2` -> ("4090", 2). Raises InputError for an unknown device."""
    found = re.fullmatch(r"([\w-]+?)(?:x(\d+))?", text.lower())
    name = found[1] if found else text
    if name not in DEVICES:
        raise InputError(f"--gpu {text}: unknown device.{nearest(name, DEVICES)} Right: --gpu 4090x2.")
    return name, int(found[2] or 1) if found else 1


def parse_price(text: str) -> float:
    """Read `2.5/h` or `2.5`: the price of one device for an hour."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/h)?", text)
    if not found:
        raise InputError(f"--price {text}: not a price. Right: --price 2.5/h (one device, one hour).")
    return float(found[1])


def operations_per_token(config: Any, parameters: int, mean_length: float, learnt_share: float) -> float:
    """Return the floating-point operations of forward and backward pass a token (Kaplan et al. 2020: 6 a parameter).

    The head works on learnt tokens alone; the embedding costs nothing; attention adds 12 x layers x width x length / 2.
    """
    head = config.vocab_size * config.hidden_size
    body = parameters - head * (1 if getattr(config, "tie_word_embeddings", False) else 2)
    attention = 6 * config.num_hidden_layers * config.hidden_size * mean_length
    return float(6 * (body + head * learnt_share) + attention)


def cost(operations: float, gpu: str, price: str | None) -> Cost:
    """Return the range of hours, and of prices, for so many operations."""
    name, count = parse_device(gpu)
    throughput, memory = DEVICES[name]
    slow, fast = (operations / (throughput * 1e12 * reached * count) / 3600 for reached in REACHED)
    rate = parse_price(price) * count if price else None
    return Cost(name, count, (fast, slow), (fast * rate, slow * rate) if rate else None, int(memory * 1e9))
