"""How surely drift is found, and how seldom where there is none: a thousand simulations of each.

    python -m benchmarks.drift_detection [SIMULATIONS [NOISE_SCALE]]
    python -m benchmarks.drift_detection --record PROFILE

Shapes are drawn from the `kd` space, their latency is linear in the cost terms of an encoder, and
the noise is resampled from a real campaign: each visit's distance from what is usual for its
configuration. A row of a file is a label, the fastest of four visits; the campaigns of 200 rows
are visits in shuffled rounds. NOISE_SCALE widens the noise. `--record` takes the noise of another
profile, from blocks of visits in which the machine was not slow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autotinybert.files import whole_file
from autotinybert.text_table import text_table
from device_profiles.drift import BoolVector, slow_visits
from device_profiles.profile import DeviceProfile
from device_profiles.quality import FloatVector, IntVector, group_medians
from device_profiles.rows import factors_of_blocks
from device_profiles.suspects import suspect_rows
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix, to_matrix
from supernet.space import Space, kd_space

RECORDED_NOISE = (
    Path(__file__).resolve().parent.parent / "tests" / "device_profiles" / "recorded_noise.json"
)
ROWS = 200
VISITS = 4
# Rows of a ramp that are less slow than this are left out of what is to be caught.
_NOTEWORTHY = 0.08

# Slow-down of every row, in logs, from a generator.
Drifting = Callable[[np.random.Generator], FloatVector]


def record_noise(profile: Path) -> dict[str, object]:
    """The noise of a profile's visits: log latency less the configuration's median.

    Visits in slow blocks are left out, for they are what is to be found.
    """
    loaded = DeviceProfile.load(profile)
    campaign = loaded.campaign()
    factors = factors_of_blocks(campaign.visits)
    quiet = [v for v in campaign.visits if factors[v.block] <= loaded.protocol.slow_factor]
    configuration = np.array([visit.configuration for visit in quiet])
    latency = np.log([visit.minimum_ns for visit in quiet])
    compared = np.bincount(configuration)[configuration] > 1
    _, configuration = np.unique(configuration[compared], return_inverse=True)
    latency = latency[compared]
    residuals = latency - group_medians(latency, configuration)[configuration]
    return {
        "cpu_model": loaded.host["cpu_model"],
        "visits": len(campaign.visits),
        "visits_in_slow_blocks": len(campaign.visits) - len(quiet),
        "log_residuals": [round(value, 5) for value in residuals.tolist()],
    }


def recorded_noise() -> FloatVector:
    """The recorded distances, `[R]`."""
    return np.array(json.loads(RECORDED_NOISE.read_text())["log_residuals"])


def clean(_rng: np.random.Generator) -> FloatVector:
    """No drift."""
    return np.zeros(ROWS)


def block(rng: np.random.Generator) -> FloatVector:
    """10 to 60 rows that are 20 % too slow."""
    slow = np.zeros(ROWS)
    length = int(rng.integers(10, 61))
    first = int(rng.integers(0, ROWS - length + 1))
    slow[first : first + length] = np.log(1.2)
    return slow


def ramp(rng: np.random.Generator) -> FloatVector:
    """Latency that rises by 10 to 30 % over 30 to 80 rows, then stays or falls back at once."""
    slow = np.zeros(ROWS)
    length = int(rng.integers(30, 81))
    first = int(rng.integers(20, ROWS - length + 1))
    rise = np.log1p(rng.uniform(0.1, 0.3))
    slow[first : first + length] = np.linspace(0, rise, length)
    stays = first + length + int(rng.integers(0, 2)) * 30
    slow[first + length : stays] = rise
    return slow


def spike(rng: np.random.Generator) -> FloatVector:
    """One row that is 30 % too slow."""
    slow = np.zeros(ROWS)
    slow[rng.integers(ROWS)] = np.log(1.3)
    return slow


SERIES: dict[str, Drifting] = {
    "clean": clean,
    "block of 10..60, +20 %": block,
    "ramp to +10..30 %": ramp,
    "one row, +30 %": spike,
}


def cost_ms(shapes: IntMatrix) -> FloatVector:
    """Latency of each shape: operations, and overheads that no product of two columns holds."""
    layers, hidden, ffn, heads, qkv = shapes.astype(np.float64).T
    products = layers * hidden * (4 * qkv + 2 * ffn) * 256 / 9e7
    return np.asarray(products + layers * (0.02 + 2e-4 * qkv + 2e-3 * heads) + 0.1)


def label_noise(rng: np.random.Generator, noise: FloatVector, scale: float) -> FloatVector:
    """What the labels of `ROWS` rows are off by, in logs."""
    return np.asarray(scale * rng.choice(noise, (ROWS, VISITS)).min(axis=1))


def mark_rows(
    rng: np.random.Generator, space: Space, slow: FloatVector, noise: FloatVector, scale: float
) -> BoolVector:
    """Which rows of a simulated file `suspect_rows` lists."""
    shapes = to_matrix(space.sample(rng, ROWS))
    latencies = cost_ms(shapes) * np.exp(slow + label_noise(rng, noise, scale))
    marked = np.zeros(ROWS, dtype=np.bool_)
    marked[suspect_rows(latencies, shapes.astype(np.float64), ARCHITECTURE_FIELDS).rows] = True
    return marked


def campaign_of(
    rng: np.random.Generator, slow: FloatVector, noise: FloatVector, scale: float
) -> tuple[IntVector, FloatVector, FloatVector]:
    """A campaign's visits: configuration, fastest run, and slow-down; drift is over all of it."""
    order = np.concatenate([rng.permutation(ROWS) for _ in range(VISITS)])
    quiet = rng.uniform(1, 100, ROWS)
    slow_of_visit = np.repeat(slow, VISITS)
    minima = quiet[order] * np.exp(slow_of_visit + scale * rng.choice(noise, len(order)))
    return order, minima, slow_of_visit


def score(marked: BoolVector, slow: FloatVector) -> tuple[bool, bool, float]:
    """Whether at least 80 % were caught, whether any was marked, and the share of clean marked."""
    due = slow >= np.log1p(_NOTEWORTHY)
    caught = bool(due.any()) and float(marked[due].mean()) >= 0.8
    return caught, bool(marked.any()), float(marked[slow == 0].mean())


def simulate(
    simulations: int, scale: float, kind: str, *, visits: bool, noise: FloatVector
) -> tuple[float, float, float]:
    """Shares of simulations caught and with anything marked, and of clean rows marked."""
    space = kd_space()
    scores = []
    for seed in range(simulations):
        rng = np.random.default_rng([seed, list(SERIES).index(kind)])
        slow = SERIES[kind](rng)
        if visits:
            configuration, minima, slow = campaign_of(rng, slow, noise, scale)
            scores.append(score(slow_visits(configuration, minima), slow))
        else:
            scores.append(score(mark_rows(rng, space, slow, noise, scale), slow))
    caught, marked, clean_marked = np.mean(scores, axis=0).tolist()
    return caught, marked, clean_marked


def main() -> None:
    """Prints a row for each kind of drift, in files and in campaigns."""
    if sys.argv[1:2] == ["--record"]:
        with whole_file(RECORDED_NOISE) as file:
            json.dump(record_noise(Path(sys.argv[2])), file)
            file.write("\n")
        return
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    scale = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    noise = recorded_noise()
    rows = []
    for visits in (False, True):
        for kind in SERIES:
            if visits and kind == "one row, +30 %":
                continue  # one slow visit of four does not move a row
            found = simulate(simulations, scale, kind, visits=visits, noise=noise)
            caught = "" if kind == "clean" else f"{found[0]:.1%}"
            where = "visits of a campaign" if visits else "rows of a file"
            rows.append((where, kind, caught, f"{found[1]:.1%}", f"{found[2]:.2%}"))
    header = ("of 200 rows", "drift", "caught", "anything marked", "clean ones marked")
    print(text_table(header, rows, title=f"{simulations} simulations of each, noise x {scale:g}"))


if __name__ == "__main__":
    main()
