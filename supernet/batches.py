"""The order in which a split's sequences are trained on: endless, and known for every step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError

Indices = npt.NDArray[np.int64]

# Batches whose sequences are sorted by length together. More would save little padding and make
# the batches of an epoch less random.
_POOL_BATCHES = 32


class BatchOrder:
    """Batches of sequences of similar length, shuffled anew in every epoch.

    The batch of a step depends on the arguments and the step alone, so that training goes on
    from any step as if it had never stopped. The order of the last epoch asked for is kept.

    Attributes:
        batch_size: sequences in a batch; the remainder of an epoch makes one smaller batch.
        seed: of the shuffling.
        steps_per_epoch: batches in which every sequence occurs once.
    """

    def __init__(self, lengths: npt.ArrayLike, *, batch_size: int, seed: int) -> None:
        """Stores what decides the order.

        Args:
            lengths: `[N]`, the tokens of each sequence.
            batch_size: sequences in a batch, at least 1.
            seed: of the shuffling, at least 0.

        Raises:
            InputError: if there are no sequences, or a number is out of its range.
        """
        self._lengths = np.asarray(lengths)
        if self._lengths.ndim != 1 or not len(self._lengths):
            raise InputError("there is no sequence to make batches of: give a corpus with some")
        if batch_size < 1 or seed < 0:
            raise InputError(
                f"batch size {batch_size} and seed {seed} must be at least 1 and at least 0"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = -(-len(self._lengths) // batch_size)
        self._epoch = -1
        self._batches: list[Indices] = []

    def indices(self, step: int) -> Indices:
        """The sequences of a step, counted from 0 over all epochs.

        Raises:
            InputError: if the step is below 0.
        """
        if step < 0:
            raise InputError(f"step {step} is before the first: count from 0")
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = self._shuffled(epoch)
            self._epoch = epoch
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[Indices]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self._lengths))
        pool = self.batch_size * _POOL_BATCHES
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            order[start : start + pool] = part[np.argsort(self._lengths[part], kind="stable")]
        starts = rng.permutation(self.steps_per_epoch) * self.batch_size
        return [order[start : start + self.batch_size] for start in starts.tolist()]
