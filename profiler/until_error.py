"""`--until-error`: what a campaign begins with that measures until predictions are good enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotinybert.errors import InputError
from autotinybert.files import canonical_json, sha256_text
from supernet.architecture import Architecture
from supernet.space import Space

# The start: the corners of the space, and enough between them to fit anything at all.
START_SHAPES = 12

# Shapes that one look at the rows adds.
BATCH_SHAPES = 8

# Unless --configs says otherwise.
DEFAULT_MOST_SHAPES = 200

# Shapes that stand for the space: the means over them are within a few per cent of its own.
_CANDIDATES = 1000

_LOWEST, _HIGHEST = 0.001, 0.5


@dataclass(frozen=True, kw_only=True)
class UntilError:
    """When a campaign that grows has measured enough.

    Attributes:
        error: the mean relative error that predictions are to have for fresh shapes.
        most_shapes: at this many sampled shapes it ends anyway.
        space: where the shapes are from.
        seed: of what stands for the space.
    """

    error: float
    most_shapes: int
    space: Space
    seed: int

    @classmethod
    def asked(cls, text: str, space: Space, *, configs: int | None, seed: int) -> UntilError:
        """Reads `2%` or `0.02`.

        Args:
            text: the error as it was typed.
            space: where the shapes are from.
            configs: the most shapes to sample, if it was given.
            seed: of what stands for the space.

        Raises:
            InputError: if it is neither, or there may be too few shapes.
        """
        if space.size <= START_SHAPES:
            raise InputError(
                f"--until-error begins with {START_SHAPES} shapes, and space {space.name} has "
                f"{space.size}: leave it out, and all of them are measured"
            )
        most = min(DEFAULT_MOST_SHAPES, space.size) if configs is None else configs
        if most < START_SHAPES:
            raise InputError(
                f"--until-error begins with {START_SHAPES} shapes: allow at least as many --configs"
            )
        return cls(error=_share(text), most_shapes=most, space=space, seed=seed)

    def candidates(self) -> list[Architecture]:
        """Shapes spread over the space: fresh ones will be like them, new ones are of them."""
        spread = self.space.space_filling(
            np.random.default_rng([self.seed, 1]), min(_CANDIDATES, self.space.size)
        )
        return list(dict.fromkeys([*self.space.corners(), *spread]))

    def request(self) -> dict[str, Any]:
        """What decides the contents of the profile."""
        candidates = canonical_json([str(shape) for shape in self.candidates()])
        return {
            "until_error": self.error,
            "most_shapes": self.most_shapes,
            "candidates": sha256_text(candidates),
        }


def _share(text: str) -> float:
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not _LOWEST <= share <= _HIGHEST:
        raise InputError(
            f"--until-error {text!r} is no error of {_LOWEST:.1%} to {_HIGHEST:.0%}: "
            "write 2% or 0.02"
        )
    return share


def percent(share: float) -> str:
    """An error as people read it, `1.87 %`."""
    return f"{100 * share:.3g} %"
