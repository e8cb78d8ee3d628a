"""The parts of `report.html` that a classifier has: scores, and the speed-ups that were tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from predictor import page


def score_sections(outcome: Mapping[str, Any]) -> list[str]:
    """What the user's own labels say; nothing for an encoder without a task."""
    sections = []
    if outcome.get("scores"):
        sections.append(_scores(outcome["scores"]))
    if outcome.get("rungs"):
        sections.append(_rungs(outcome))
    return sections


def _scores(scores: Mapping[str, Any]) -> str:
    rows = [
        (
            model["model"] + (" (handed out)" if model["model"] == scores["shipped"] else ""),
            f"{model['score']:.2f}",
            f"{model['score_low']:.1f} to {model['score_high']:.1f}",
            ""
            if model["model"] == "teacher"
            else f"{model['difference']:+.2f} "
            f"({model['difference_low']:+.1f} to {model['difference_high']:+.1f})",
            ", ".join(f"{name} {value:.2f}" for name, value in model["metrics"].items()),
        )
        for model in scores["models"]
    ]
    return page.section(
        "Scores on your labels",
        page.paragraph(
            f"{scores['metric'].capitalize()} on the {scores['examples']} texts of the dev file, "
            "in percent, with 95 % bootstrap intervals over the texts; differences from the "
            "teacher are taken on the same texts."
        ),
        page.table(("", scores["metric"], "95 %", "from the teacher", "all metrics"), rows),
    )


def _rungs(outcome: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{rung['speedup']:g}",
            rung["architecture"] or "",
            rung["outcome"],
            "" if rung["score_drop"] is None else f"{rung['score_drop']:.2f}",
            "yes" if rung["holds"] else "no",
        )
        for rung in outcome["rungs"]
    ]
    return page.section(
        "How fast within the quality",
        page.paragraph(
            f"At most {outcome['max_score_drop']:g} points below the teacher were allowed. "
            "Speed-ups over the teacher were tried by bisection, each with a search, a "
            "verification and further training of its own. The dev file chose between them, so its "
            "score of the last one is a little optimistic."
        ),
        page.table(("times as fast", "best shape", "verification", "points lost", "holds"), rows),
    )
