"""The processes that train one SuperPLM together; one process alone is a group, too.

`torchrun` starts them and tells each its rank through the environment. Gradients are averaged by
DistributedDataParallel; here is the rest: sums over all processes, what the first one knows, and a
failure of the first that ends the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from autotinybert.errors import InputError, WorkError

T = TypeVar("T")

# Processes that torchrun starts again after one died sometimes do not find each other (seen with
# gloo): they give up soon, so that they can be started once more. Later they wait as long as the
# first may take to prepare a text.
_MEETING = timedelta(seconds=20)
_WORK = timedelta(hours=6)


@dataclass(frozen=True)
class Group:
    """A process among those that train together.

    Attributes:
        rank: its number, from 0; only 0 writes files.
        size: how many there are.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes, the same in each."""
        if self.size > 1:
            value = value.to(self.device)
            dist.all_reduce(value)
        return value

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors with those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def agree(self, value: float) -> float:
        """A number, as the first process has it."""
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        self.share([told])
        return float(told)

    def first(self, work: Callable[[], T]) -> T | None:
        """Lets the first process work while the others wait.

        Returns:
            What it returned; None in the others.

        Raises:
            WorkError: in the others, if it failed.
        """
        if self.size == 1:
            return work()
        if not self.is_first:
            if not self.agree(0.0):
                raise WorkError("the first process has failed; it says why")
            return None
        done = False
        try:
            found = work()
            done = True
        finally:
            self.agree(done)
        return found


ALONE = Group()


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that this process was started in.

    Args:
        device: `cpu`, `cuda`, or `auto`: a GPU where there is one.

    Raises:
        InputError: if the device is unknown or not there.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    found = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield Group(device=found)
        return
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=_MEETING)
    dist.distributed_c10d._set_pg_timeout(_WORK)  # there is no public name for it
    try:
        yield Group(rank, size, found)
    finally:
        dist.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    available = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"no --device {name!r}: use auto, cpu or cuda")
    if name == "cuda" and not available:
        raise InputError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    if name == "cpu" or not available:
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
