"""How well a slice does what it was trained for, on text that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from supernet.architecture import Architecture
from supernet.batch import Batch, as_batch
from supernet.corpus import TokenSplit
from supernet.learner import Learner
from supernet.model import EncoderOutput
from supernet.objectives import Objective
from supernet.score import HeldOutScore


class HeldOutLoss:
    """Scores slices on the same held-out sequences; the teacher runs once.

    Args:
        objective: what is scored; what is hidden of a sequence is the same for every slice.
        split: held-out text.
        sequences: how many of it to use, spread evenly over the split; all if there are fewer.
        batch_size: sequences at a time.
        device: where it is computed.
    """

    def __init__(
        self,
        objective: Objective,
        split: TokenSplit,
        *,
        sequences: int = 128,
        batch_size: int = 32,
        device: torch.device | None = None,
    ) -> None:
        self._objective = objective
        count = min(sequences, len(split))
        chosen = np.unique(np.linspace(0, len(split) - 1, count).round().astype(np.int64))
        # Sequences of one length together: less padding.
        chosen = chosen[np.argsort(split.lengths[chosen], kind="stable")]
        starts = range(0, len(chosen), batch_size)
        batches = [as_batch(split, chosen[start : start + batch_size]) for start in starts]
        self._lessons = [
            objective.lesson(batch if device is None else batch.to(device), number)
            for number, batch in enumerate(batches)
        ]

    def __call__(self, learner: Learner, architecture: Architecture | None = None) -> HeldOutScore:
        """The score of a slice: the mean over all tokens, and over all pairs of tokens."""
        objective = self._objective

        def run(batch: Batch) -> EncoderOutput:
            output = learner.student(
                *batch,
                architecture=architecture,
                with_scores=objective.needs_scores,
                with_parts=objective.needs_parts,
            )
            assert isinstance(output, EncoderOutput)
            return output

        terms = self.terms(run, learner)
        return HeldOutScore({name: value for name, value in terms.items() if value is not None})

    @torch.no_grad()
    def terms(
        self, run: Callable[[Batch], EncoderOutput], learner: Learner
    ) -> dict[str, float | None]:
        """The terms of whatever computes an encoder's outputs.

        Args:
            run: what computes them.
            learner: whose heads stand on them.

        Returns:
            Each term's mean; None where the outputs do not tell it.
        """
        sums: dict[str, float] = {}
        counts = sum((lesson.counts for lesson in self._lessons), torch.zeros(()))
        for lesson in self._lessons:
            for name, found in self._objective.sums(run(lesson.batch), learner, lesson).items():
                sums[name] = sums.get(name, 0.0) + float(found)
        # What each term is a mean over: so the score is the same for any size of batches.
        means = zip(self._objective.term_names, counts.tolist(), strict=True)
        return {name: sums[name] / count if name in sums else None for name, count in means}
