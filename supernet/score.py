"""What a slice scores on held-out text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOutScore:
    """The held-out distillation loss of a slice; lower is better, 0 is the teacher itself.

    Attributes:
        scores: its term for the attention scores.
        hidden: its term for the hidden state.
    """

    scores: float
    hidden: float

    @property
    def loss(self) -> float:
        """Their sum: what is trained for and searched by."""
        return self.scores + self.hidden
