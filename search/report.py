"""`report.html`: everything the whole path has to show, as one page."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autotinybert.command import typed_options
from device_profiles.measurements import Slice, describe_slice, read_measurements, slice_of_columns
from device_profiles.profile import LATENCIES_FILE, DeviceProfile
from predictor import page
from search import figures
from search.candidates import Try
from search.comparison import ScoredShape, measured_shapes, pareto_front, scored_shapes
from search.file_score import score_text
from search.outcome import STAGE_NAMES
from search.pipeline import COMPARISON_FILE, WholePath
from search.report_task import score_sections
from search.result import SearchResult, load_search
from search.verification_plan import CANDIDATE
from search.verification_result import load_verification
from supernet.supernet_folder import LOG_FILE

FloatVector = npt.NDArray[np.float64]

_SHOWN_FRONT = 16

# Of a published shape's latency that a searched one must use to be set beside it.
_FAIR_SHARE = 0.75


def path_report(path: WholePath, tries: Sequence[Try], outcome: Mapping[str, Any]) -> str:
    """The page for a path that has run.

    Args:
        path: it has run.
        tries: what was verified, in order.
        outcome: as `search.outcome` gives it.
    """
    result = load_search(path.out / "search")
    profile = DeviceProfile.load(path.profile)
    slice_ = slice_of_columns(result.facts["slice"])
    shapes = _Shapes.of(path, profile, result, slice_)
    sections = [
        _summary(outcome),
        *score_sections(outcome),
        _front(shapes, result, tries, outcome),
        _published(shapes, result),
        _verification(path, tries),
        _prediction(shapes, result),
        _search(result),
        _training(path, tries, outcome),
        _costs(path),
        _again(path),
    ]
    where = f"{outcome['device']}; {describe_slice(slice_)}"
    what = "encoder" if path.request.task is None else "classifier"
    return page.page(f"A small {what} for this device", where, sections)


class _Shapes:
    """Every shape with a loss, by how its latency is known."""

    def __init__(
        self,
        profiled: list[ScoredShape],
        measured: list[ScoredShape],
        predicted: list[tuple[float, float]],
    ) -> None:
        self.profiled = profiled
        self.measured = measured
        self.predicted = predicted

    @classmethod
    def of(
        cls, path: WholePath, profile: DeviceProfile, result: SearchResult, slice_: Slice
    ) -> _Shapes:
        column = path.request.budget.column
        measurements = read_measurements(path.out / "shortlist" / LATENCIES_FILE)
        measured_ms = measured_shapes(measurements, slice_, column)
        loss = {found.architecture: found.loss for found in result.candidates}
        return cls(
            profiled=scored_shapes(
                path.shared / COMPARISON_FILE, profile.measurements, slice_, column
            ),
            measured=[
                ScoredShape(shape, "", loss[shape], value)
                for shape, value in measured_ms.items()
                if shape in loss
            ],
            predicted=[
                (found.latency_ms, found.loss)
                for found in result.candidates
                if found.architecture not in measured_ms
            ],
        )


def _summary(outcome: Mapping[str, Any]) -> str:
    if outcome["model"] is None:
        said = {
            "failed": "No model met the budget",
            "undecided": "The machine did not let it be told whether a model meets the budget",
        }[outcome["outcome"]]
        return page.paragraph(f"{said} ({outcome['budget']}): {outcome['reason']}.")
    precision = outcome["precision"]
    if outcome["min_speedup"] is None:
        tiles = [
            (f"{outcome['measured_ms']:.3g} ms", f"{outcome['statistic']}, measured"),
            (f"{outcome['upper_ms']:.3g} ms", "at most, with 95 % confidence"),
            (f"{outcome['limit_ms']:.3g} ms", "the budget"),
        ]
        unused = 1 - outcome["upper_ms"] / outcome["limit_ms"]
        left = f"{unused:.1%} of the budget is left unused by the upper bound."
    else:
        tiles = [
            (f"{outcome['speedup']:.3g}x", f"as fast, {outcome['statistic']}, measured"),
            (f"{outcome['speedup_lower']:.3g}x", "at least, with 95 % confidence"),
            (f"{outcome['min_speedup']:.3g}x", "the budget"),
            (f"{outcome['measured_ms']:.3g} ms", f"{outcome['statistic']}, measured"),
        ]
        unused = outcome["speedup_lower"] / outcome["min_speedup"] - 1
        left = f"By the lower bound it is {unused:.1%} faster than it had to be."
    tiles += [
        (
            f"{_loss_of_file(outcome):.3f}",
            f"held-out loss of the {_scored(outcome, precision)}; 0 is the teacher",
        ),
        (f"{outcome['parameters'] / 1e6:.1f} M", "parameters"),
    ]
    tiles += [(f"{ratio:.1f}x", f"as fast as {n}") for n, ratio in outcome["faster_than"].items()]
    return page.paragraph(
        f"{outcome['architecture']} (layers-hidden-FFN-heads-QKV) passed its verification: "
        f"{outcome['reason']}. {left}"
    ) + page.tiles(tiles)


def _scored(outcome: Mapping[str, Any], precision: str) -> str:
    """What `_loss_of_file` is the loss of."""
    told = outcome["file_score"]["splits"]["search"]["file"]["loss"] is not None
    return f"{precision} file" if told else "float32 weights"


def _loss_of_file(outcome: Mapping[str, Any]) -> float:
    """The exported file's loss; its float32 weights' where the file does not tell its scores."""
    found = outcome["file_score"]["splits"]["search"]
    return float(found["float32" if found["file"]["loss"] is None else "file"]["loss"])


def _front(
    shapes: _Shapes, result: SearchResult, tries: Sequence[Try], outcome: Mapping[str, Any]
) -> str:
    final = None
    if outcome["model"] is not None:
        final = figures.FinalModel(
            outcome["measured_ms"],
            outcome["upper_ms"],
            tries[-1].candidate.loss,
            _loss_of_file(outcome),
        )
    everything = [*shapes.profiled, *shapes.measured]
    front = pareto_front([(shape.measured_ms, shape.loss) for shape in everything])
    searched = set(map(id, shapes.measured))
    rows = [
        (
            everything[index].architecture,
            everything[index].name or ("searched" if id(everything[index]) in searched else ""),
            f"{everything[index].measured_ms:.2f}",
            f"{everything[index].loss:.3f}",
        )
        for index in front[-_SHOWN_FRONT:]
    ]
    return page.section(
        "What was searched",
        page.figure(
            figures.searched_cloud(
                shapes.profiled,
                shapes.measured,
                shapes.predicted,
                final,
                limit_ms=result.limit_ms,
                statistic=result.statistic,
            ),
            "Every point is a slice of one SuperPLM. Held-out loss: how far last-layer attention "
            "scores and last hidden states (and a classifier's logits) are from the teacher's, on "
            "text kept for the search, in "
            "units of the teacher's variance. Filled points were measured on this device; hollow "
            "ones have a predicted latency. The star is the exported file, after further training.",
        ),
        page.table(("Pareto front", "", f"{result.statistic} ms", "held-out loss"), rows),
    )


def _published(shapes: _Shapes, result: SearchResult) -> str:
    named = sorted((shape for shape in shapes.profiled if shape.name), key=lambda s: s.measured_ms)
    rows = []
    for shape in named:
        # A shape that is much faster is no fair rival: it was searched under another budget.
        near = [
            found
            for found in shapes.measured
            if _FAIR_SHARE * shape.measured_ms <= found.measured_ms <= shape.measured_ms
        ]
        best = min(near, key=lambda found: found.loss, default=None)
        rows.append(
            (
                shape.name,
                shape.architecture,
                f"{shape.measured_ms:.2f}",
                f"{shape.loss:.3f}",
                None if best is None else f"{best.architecture}",
                None if best is None else f"{best.measured_ms:.2f}",
                None if best is None else f"{best.loss:.3f}",
            )
        )
    return page.section(
        "Published shapes that this SuperPLM holds",
        page.table(
            (
                "shape",
                "L-d-f-h-q",
                f"{result.statistic} ms",
                "held-out loss",
                "best found, as fast",
            ),
            rows,
        ),
        page.paragraph(
            "All are slices of one SuperPLM, so shapes are compared, not the published models: "
            "those were trained otherwise and at far greater length. Beside each stands the best "
            "shape of this search that was measured to be as fast, and not more than a quarter "
            "faster; where none is, another budget would have to be searched. The teacher's own "
            "shape holds the teacher's weights."
        ),
    )


def _verification(path: WholePath, tries: Sequence[Try]) -> str:
    if not tries:
        return page.section("Verification", page.paragraph("No file was verified."))
    visits: dict[str, list[float]] = {}
    rows = []
    for found in tries:
        forms = ["slice", "trained"] if found.stage == "model" else ["slice"]
        for form in forms:
            document = (
                found.verification
                if form == forms[-1]
                else load_verification(found.folder / f"{form}-verified")
            )
            name = f"{found.candidate.architecture}, {form}"
            visits[name] = [
                entry["visits"][CANDIDATE]["median_ms"]
                for entry in document["tries"][-1]["rounds"]
                if entry["counted"]
            ]
            rows.append(
                (
                    name,
                    document["visits"],
                    *(
                        None if document[key] is None else f"{document[key]:.3f}"
                        for key in ("measured_ms", "upper_ms")
                    ),
                    None if document["drift"] is None else f"{document['drift']:+.1%}",
                    document["outcome"],
                )
            )
    budget = path.request.budget
    return page.section(
        "Verification",
        page.figure(
            figures.verification_visits(
                visits, limit_ms=budget.max_latency_ms, statistic=budget.statistic
            ),
            "Each dot is a visit: a fresh process that opens the exported file and times it as the "
            "profile was timed, beside the references. A slice is verified before it is trained; "
            "the trained file is verified again.",
        ),
        page.table(
            (
                "file",
                "visits",
                f"{budget.statistic} ms",
                "at most (95 %)",
                "machine against profile",
                "outcome",
            ),
            rows,
        ),
    )


def _prediction(shapes: _Shapes, result: SearchResult) -> str:
    by_shape = {found.architecture: found for found in result.candidates}
    pairs = [(by_shape[shape.architecture], shape.measured_ms) for shape in shapes.measured]
    if not pairs:
        return page.section("Prediction against measurement", page.paragraph("None was measured."))
    predicted = np.array([found.latency_ms for found, _ in pairs])
    high = np.array([found.high_ms for found, _ in pairs])
    measured = np.array([value for _, value in pairs])
    errors = measured / predicted - 1
    within = float((measured <= result.limit_ms).mean())
    return page.section(
        "Prediction against measurement",
        page.figure(
            figures.prediction_against_measurement(
                predicted, high, measured, limit_ms=result.limit_ms
            ),
            "The best shapes of the search, measured afterwards in a campaign of their own: other "
            "processes, later, and selected, so this is where predictions are put to the test.",
        ),
        page.paragraph(
            f"{len(pairs)} shapes: mean absolute error {np.abs(errors).mean():.2%}, mean error "
            f"{errors.mean():+.2%}, {(measured <= high).mean():.0%} within their upper bound, "
            f"{within:.0%} within the budget."
        ),
    )


def _search(result: SearchResult) -> str:
    facts = result.facts
    return page.section(
        "The search",
        page.paragraph(
            f"{facts['feasible']:,} of {facts['space_size']:,} architectures of space "
            f"{facts['space']} have a predicted upper bound within the budget "
            f"({facts['budget_text']}); no other was ever evaluated. The fastest there is: "
            f"{facts['lowest']}, at most {facts['lowest_ms']:.3g} ms. Stopped: {facts['stopped']}."
        ),
        page.figure(
            figures.convergence([found.loss for found in result.candidates], facts["method"]),
            "Architectures in the order in which they were evaluated.",
        ),
    )


def _training(path: WholePath, tries: Sequence[Try], outcome: Mapping[str, Any]) -> str:
    winner = None
    parts = []
    if outcome["model"] is not None:
        winner = _log(tries[-1].folder / "trained" / LOG_FILE)
        losses = outcome["held_out_loss"]
        parts.append(
            page.paragraph(
                f"Held-out loss of the winner: {outcome['held_out_loss_of_slice']:.3f} as a slice, "
                f"{losses['search']:.3f} after further training; {losses['test']:.3f} on text that "
                "neither training nor search has seen."
                + (
                    ""
                    if outcome["precision"] == "fp32"
                    else f" That is of the float32 weights; {score_text(outcome['file_score'])}."
                )
            )
        )
    return page.section(
        "Training",
        page.figure(
            figures.training_curves(_log(path.supernet / LOG_FILE), winner),
            "Losses on training batches, means over ten steps.",
        ),
        *parts,
    )


def _log(path: Path) -> dict[str, FloatVector]:
    """The columns of a `training.csv`; an empty field is NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else ("elapsed_s", "largest_loss", "sampled_loss")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def _costs(path: WholePath) -> str:
    seconds = [(STAGE_NAMES[name], spent) for name, spent in path.stages.seconds.items()]
    total = sum(spent for _, spent in seconds)
    return page.section(
        "What it cost",
        page.figure(
            figures.stage_costs(seconds),
            f"{total / 60:.1f} minutes in all, on the machine that was profiled; pauses between "
            "runs do not count.",
        ),
    )


def _again(path: WholePath) -> str:
    options = typed_options(**path.request.command_options())
    return page.section(
        "Run it again",
        page.paragraph("The whole path:"),
        page.commands([shlex.join(["autotinybert", *options, "--out", "NEW"])]),
        page.paragraph("Or stage by stage, as it was run:"),
        page.commands(list(path.stages.commands.values())),
    )
