"""How well a slice does what its teacher does, on text that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from supernet.architecture import Architecture
from supernet.corpus import TokenSplit
from supernet.model import EncoderOutput, SuperPLM
from supernet.objectives import TeacherVariance, hidden_loss, scores_loss, teacher_signals
from supernet.score import HeldOutScore
from supernet.training import Batch


def as_batch(split: TokenSplit, indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Batch:
    """Some sequences of a split as tensors: input ids and attention mask, int64 `[B, S]`."""
    input_ids, mask = split.batch(indices)
    return torch.from_numpy(input_ids).long(), torch.from_numpy(mask).long()


class HeldOutLoss:
    """Scores slices on the same held-out sequences; the teacher runs once.

    Args:
        teacher: frozen.
        variance: the unit of each loss term.
        split: held-out text.
        sequences: how many of it to use, spread evenly over the split; all if there are fewer.
        batch_size: sequences at a time.
    """

    def __init__(
        self,
        teacher: SuperPLM,
        variance: TeacherVariance,
        split: TokenSplit,
        *,
        sequences: int = 128,
        batch_size: int = 32,
    ) -> None:
        self._variance = variance
        count = min(sequences, len(split))
        chosen = np.unique(np.linspace(0, len(split) - 1, count).round().astype(np.int64))
        # Sequences of one length together: less padding.
        chosen = chosen[np.argsort(split.lengths[chosen], kind="stable")]
        starts = range(0, len(chosen), batch_size)
        self._batches = [as_batch(split, chosen[start : start + batch_size]) for start in starts]
        self._signals = [teacher_signals(teacher, *batch) for batch in self._batches]

    def __call__(
        self, student: SuperPLM, projection: nn.Linear, architecture: Architecture | None = None
    ) -> HeldOutScore:
        """The score of a slice: the mean over all tokens, and over all pairs of tokens."""

        def run(input_ids: Tensor, mask: Tensor) -> EncoderOutput:
            output = student(input_ids, mask, architecture=architecture, with_scores=True)
            assert isinstance(output, EncoderOutput)
            return output

        scores, hidden = self.terms(run, projection)
        assert scores is not None
        return HeldOutScore(scores, hidden)

    @torch.no_grad()
    def terms(
        self, run: Callable[[Tensor, Tensor], EncoderOutput], projection: nn.Linear
    ) -> tuple[float | None, float]:
        """The score of whatever computes an encoder's outputs.

        Args:
            run: from input ids and mask, int64 `[B, S]` each.
            projection: from its hidden state to the teacher's.

        Returns:
            The term for the attention scores, None where it does not tell them, and the one for
            the hidden state.
        """
        sums, counts, told = np.zeros(2), np.zeros(2), True
        for (input_ids, mask), signals in zip(self._batches, self._signals, strict=True):
            output = run(input_ids, mask)
            hidden = hidden_loss(output.last_hidden_state, projection, signals, self._variance)
            scores = 0.0
            if output.scores is None:
                told = False
            else:
                scores = float(scores_loss(output.scores, signals, self._variance))
            # What each term is a mean over: so the score is the same for any size of batches.
            lengths = mask.sum(1)
            count = np.array([int(lengths.square().sum()), int(lengths.sum())])
            sums += count * np.array([scores, float(hidden)])
            counts += count
        means = (sums / counts).tolist()
        return (means[0] if told else None), means[1]
