"""A batch of sequences as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernet.corpus import TokenSplit


class Batch(NamedTuple):
    """Sequences, padded to the longest of them.

    Attributes:
        input_ids: int64 `[B, S]`.
        mask: int64 `[B, S]`, 1 for tokens, 0 for padding.
        token_types: int64 `[B, S]`, the segment of each token; None where all is one segment.
    """

    input_ids: Tensor
    mask: Tensor
    token_types: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        types = None if self.token_types is None else self.token_types.to(device)
        return Batch(self.input_ids.to(device), self.mask.to(device), types)


def as_batch(split: TokenSplit, indices: npt.NDArray[np.int64]) -> Batch:
    """Some sequences of a split."""
    input_ids, mask = split.batch(indices)
    types = split.token_types(indices)
    return Batch(
        torch.from_numpy(input_ids).long(),
        torch.from_numpy(mask).long(),
        None if types is None else torch.from_numpy(types).long(),
    )
