"""Measure the most bytes of tensor storage alive at once while code runs, on fake tensors of any size."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts storages that are born while the mode is active; `peak` in bytes. Storages of inputs are not counted."""

    def __init__(self, *inputs: torch.Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = weakref.WeakSet[Any]()
        for x in inputs:
            self.known.add(x.untyped_storage())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.untyped_storage() not in self.known:
                storage = x.untyped_storage()
                self.known.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return result

    def _freed(self, size: int) -> None:
        self.now -= size
