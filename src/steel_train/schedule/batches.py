"""Groups of units -> tensors, packed or padded, and attention that never crosses from one row to the next.

Shapes: E examples of a group, T tokens of all of them, L the longest, B = E (padded) or 1 (packed), S = L or T,
H query heads, K key heads, D head size.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from steel_train.examples.folder import Examples
from steel_train.schedule.order import Group, Schedule


@dataclass
class MicroBatch:
    """One forward pass. `inputs`: keyword arguments of the model, labels included. `rows_E`: which example each is.

    `segment_BS`: which of the E examples a token belongs to (padding: the example it pads). `spare`: has nothing to
    learn and counts for nothing, but takes its part in a pass of several processes.
    """

    inputs: dict[str, Any]
    segment_BS: torch.Tensor
    rows_E: torch.Tensor
    tokens: int
    spare: bool = False


class Steps(torch.utils.data.Dataset[list[MicroBatch]]):
    """The steps of a run as a data set: item `step * processes + process` is what that process does in that step."""

    def __init__(self, examples: Examples, schedule: Schedule, pad_id: int) -> None:
        self.examples, self.schedule, self.pad_id = examples, schedule, pad_id

    def __len__(self) -> int:
        return self.schedule.steps * self.schedule.processes

    def __getitem__(self, item: int) -> list[MicroBatch]:
        step, process = divmod(item, self.schedule.processes)
        units = self.schedule.units(step)
        return [self._one(group, int(units[0])) for group in self.schedule.groups(step, process)]

    def _one(self, group: Group, spare: int) -> MicroBatch:
        if not group:
            # another process has a row more: this one must still take part in the pass, with nothing to learn
            batch = collate(self.examples, [spare], self.schedule.room is not None, self.pad_id)
            batch.inputs["labels"].fill_(-100)
            batch.spare = True
            return batch
        return collate(self.examples, group, self.schedule.room is not None, self.pad_id)


def collate(examples: Examples, group: Group, packed: bool, pad_id: int) -> MicroBatch:
    """Lay the examples of some units out for one forward pass."""
    rows = examples.members(group).tolist()
    made = [examples.one(row) for row in rows]
    ids = [torch.from_numpy(tokens.astype(np.int64)) for tokens, _ in made]
    labels = [
        torch.where(torch.from_numpy(learnt), tokens, -100) for (_, learnt), tokens in zip(made, ids, strict=True)
    ]
    lengths = [len(tokens) for tokens in ids]
    rows_E = torch.tensor(rows)
    if packed:
        inputs, segment_BS = packed_inputs(ids, labels, lengths)
    else:
        inputs = {
            "input_ids": _pad(ids, pad_id),
            "labels": _pad(labels, -100),
            "attention_mask": _pad([torch.ones_like(tokens) for tokens in ids], 0),
        }
        segment_BS = torch.arange(len(rows))[:, None].expand(len(rows), max(lengths))
    return MicroBatch(inputs, segment_BS, rows_E, sum(lengths))


def packed_inputs(
    ids: list[torch.Tensor], labels: list[torch.Tensor], lengths: list[int]
) -> tuple[dict[str, Any], torch.Tensor]:
    """Return the model's arguments for rows laid end to end, and which row each token belongs to, (1, T)."""
    lengths_E = torch.tensor(lengths)
    bounds = F.pad(lengths_E.cumsum(0), (1, 0)).to(torch.int32)
    inputs = {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],  # an example's first label is -100: no row is predicted from the one before
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        # the names of flash attention's variable-length form, as transformers passes them on
        "cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": max(lengths), "max_length_k": max(lengths),
        "segment_lengths": tuple(lengths),
    }  # fmt: skip
    return inputs, torch.repeat_interleave(torch.arange(len(ids)), lengths_E)[None]


def _pad(parts: list[torch.Tensor], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value)
