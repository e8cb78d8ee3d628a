"""Bounds that hold without assuming how errors are distributed.

Split conformal prediction (Vovk; Lei et al. 2018): the errors of predictions for held-out rows,
ranked, bound the error of the next row, as long as it is drawn as those rows were.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError

FloatVector = npt.NDArray[np.float64]

# A one-sided bound that 1 row in 20 may exceed needs 19 rows to be finite.
TAIL = 0.05
FEWEST_ROWS = math.ceil(1 / TAIL) - 1


def conformal_bounds(log_errors: FloatVector) -> tuple[float, float]:
    """The lower and upper bound of the next row's error.

    Args:
        log_errors: `[N]`, log(measured / predicted) of held-out rows.

    Returns:
        Two numbers to add to a log prediction. Each is exceeded by at most 5 % of further rows,
        so that 90 % lie between them.

    Raises:
        InputError: if there are fewer than 19 rows.
    """
    count = len(log_errors)
    if count < FEWEST_ROWS:
        raise InputError(f"bounds need at least {FEWEST_ROWS} rows, not {count}: measure more")
    ordered = np.sort(log_errors)
    # The k-th smallest of N is exceeded with probability 1 - k / (N + 1).
    rank = math.ceil((count + 1) * (1 - TAIL))
    return float(ordered[count - rank]), float(ordered[rank - 1])
