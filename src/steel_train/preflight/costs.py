"""Time and cost of a run on named devices: ranges, from arithmetic and the share of the peak that training reaches.

Estimates, and labelled so: nothing here has been measured on the device.
"""

import re
from dataclasses import dataclass
from typing import Any

from steel_data.errors import InputError, nearest

# Dense bfloat16 (V100: float16) matrix throughput, 10^12 operations a second; memory, 10^9 bytes: makers' data sheets.
DEVICES: dict[str, tuple[float, float]] = {
    "3090": (71, 24), "4090": (165, 24), "5090": (209, 32), "a6000": (155, 48), "l40s": (362, 48), "v100": (125, 32),
    "a100-40": (312, 40), "a100": (312, 80), "a800": (312, 80), "h100": (989, 80), "h800": (989, 80), "h20": (148, 96),
    "h200": (989, 141), "910b": (320, 64),
}  # fmt: skip
# What fine-tuning of models of 0.1 to 7 B parameters reaches of the peak: Steel-LLM's own figure is 52 % on an A100
# after tuning (arXiv 2502.06635, table 2, computed); short rows and small models lie far below.
REACHED = (0.15, 0.45)


@dataclass(frozen=True)
class Devices:
    """What a run might be made on: `count` devices of one kind, and the price of one for an hour, if it was given."""

    name: str
    count: int
    price: float | None = None

    @property
    def memory(self) -> int:
        """Return the bytes of one device."""
        return int(DEVICES[self.name][1] * 1e9)


def parse_devices(gpu: str | None, price: str | None) -> Devices | None:
    """Read `--gpu 4090x2` and `--price 2.5/h` (or `2.5`). Raises InputError for an unknown device or no price."""
    rate = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/h)?", price or "0")
    if not rate:
        raise InputError(f"--price {price}: not a price. Fix: --price 2.5/h (one device, one hour).")
    if gpu is None:
        return None
    found = re.fullmatch(r"([\w-]+?)(?:x(\d+))?", gpu.lower())
    name = found[1] if found else gpu
    if not found or name not in DEVICES:
        raise InputError(f"--gpu {gpu}: unknown device.{nearest(name, DEVICES)} Fix: --gpu 4090x2.")
    return Devices(name, int(found[2] or 1), float(rate[1]) if price else None)


def operations_per_token(config: Any, parameters: int, mean_length: float, learnt_share: float) -> float:
    """Return the floating-point operations of forward and backward pass a token (Kaplan et al. 2020: 6 a parameter).

    The head works on learnt tokens alone; the embedding costs nothing; attention adds 12 x layers x width x length / 2.
    """
    head = config.vocab_size * config.hidden_size
    body = parameters - head * (1 if getattr(config, "tie_word_embeddings", False) else 2)
    attention = 6 * config.num_hidden_layers * config.hidden_size * mean_length
    return float(6 * (body + head * learnt_share) + attention)


def hours(operations: float, devices: Devices) -> tuple[float, float]:
    """Return the range of hours, from and to, that so many operations take on all of the devices."""
    at_peak = operations / (DEVICES[devices.name][0] * 1e12 * devices.count) / 3600
    slow, fast = (at_peak / reached for reached in REACHED)
    return fast, slow
