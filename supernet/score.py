"""What a slice scores on held-out text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOutScore:
    """The held-out loss of a slice; lower is better.

    Attributes:
        terms: the mean of each of the objective's terms; of a distillation 0 is the teacher
            itself, and 1 what a constant would score.
    """

    terms: Mapping[str, float]

    @property
    def loss(self) -> float:
        """Their sum: what is trained for and searched by."""
        return sum(self.terms.values())
