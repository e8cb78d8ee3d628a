"""What came of the whole path, as plain data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autotinybert.text_table import text_table
from device_profiles.profile import DeviceProfile
from search.candidates import MODEL_FOLDER, Try
from search.constraints import name_of
from search.file_score import load_score, score_text, term_of
from search.card_facts import device_text
from search.pipeline import WholePath
from search.task_scores import load_scores, scores_text
from search.result import load_search
from supernet.architecture import Architecture, to_matrix
from supernet.cost import parameters
from supernet.encoder import load_encoder
from supernet.published import BERT_BASE

# How much more the shipped file may lose than its float32 weights before that is worth a warning.
_WORSE = 1.1

STAGE_NAMES = {
    "corpus": "preparing the text",
    "profile": "measuring the device",
    "predictor": "fitting the predictor",
    "supernet": "training the SuperPLM",
    "search": "searching",
    "shortlist": "measuring the best found",
    "comparison": "scoring the profile's shapes",
    "verification": "exporting and verifying",
    "training": "training the winner further",
    "scores": "scoring on the dev file",
    "report": "writing the report",
}


def outcome_of(path: WholePath, tries: Sequence[Try]) -> dict[str, Any]:
    """What came of the whole path, as a JSON object.

    Args:
        path: it has run.
        tries: what was verified, in order.
    """
    request = path.request
    profile = DeviceProfile.load(path.profile)
    result = load_search(path.out / "search")
    last = tries[-1] if tries else None
    passed = last is not None and last.outcome == "passed"
    data: dict[str, Any] = {
        "outcome": last.outcome if last else "failed",
        "reason": last.verification["reason"] if last else "every candidate was measured above it",
        "model": str(path.shared / MODEL_FOLDER) if passed else None,
        "report": str(path.shared / "report.html"),
        "device": device_text(profile),
        "precision": request.precision,
        "graph_variant": path.graph_variant,
        "budget": request.budget.describe(),
        "statistic": result.statistic,
        "limit_ms": result.limit_ms,
        "architecture": str(last.candidate.architecture) if last else None,
        "tries": [
            {
                "architecture": str(found.candidate.architecture),
                "form": found.stage,
                "outcome": found.outcome,
                "reason": found.verification["reason"],
            }
            for found in tries
        ],
        "stages_s": dict(path.stages.seconds),
    }
    if last is None:
        return data
    verification = last.verification
    data |= {
        "measured_ms": verification["measured_ms"],
        "upper_ms": verification["upper_ms"],
        "speedup": verification["speedup"],
        "speedup_lower": verification["speedup_lower"],
        "min_speedup": request.budget.min_speedup,
        "predicted_ms": last.candidate.latency_ms,
        "predicted_high_ms": last.candidate.high_ms,
        "held_out_loss_of_slice": last.candidate.loss,
    }
    if passed:
        encoder, extra = load_encoder(last.folder / "trained")
        data |= {
            "onnx_sha256": verification["model_sha256"],
            "held_out_loss": extra["history"][-1]["held_out_loss"],
            "file_score": load_score(last.folder / "trained-verified"),
            "parameters": int(
                parameters(
                    to_matrix([encoder.architecture]),
                    vocab_size=encoder.vocab_size,
                    max_positions=encoder.max_positions,
                )[0]
            ),
            "faster_than": _speedups(verification, request.largest),
            "scores": None if request.task is None else load_scores(last.folder),
        }
    return data


def _speedups(verification: Mapping[str, Any], teacher: Architecture) -> dict[str, float]:
    """Times as fast as the teacher and as BERT-base, both measured beside the file."""
    statistic = f"{verification['statistic']}_ms"
    speedups = {}
    for check in verification["references"]:
        shape = Architecture.parse(check["architecture"])
        if shape in (teacher, BERT_BASE.architecture) and check[statistic] is not None:
            name = f"the teacher ({name_of(shape)})" if shape == teacher else name_of(shape)
            speedups[name] = float(check[statistic]) / float(verification["measured_ms"])
    return speedups


def outcome_text(data: Mapping[str, Any]) -> str:
    """The same for a person to read."""
    lines = [data["device"], f"budget: {data['budget']}"]
    for number, found in enumerate(data["tries"], start=1):
        form = "slice" if found["form"] == "slice" else "trained model"
        lines.append(
            f"try {number}: {found['architecture']} ({form}) {found['outcome']}: {found['reason']}"
        )
    lines += [_rung_line(found, data["max_score_drop"]) for found in data.get("rungs", ())]
    rows = [(STAGE_NAMES[name], f"{spent:.0f}") for name, spent in data["stages_s"].items()]
    rows.append(("in all", f"{sum(data['stages_s'].values()):.0f}"))
    lines.append(text_table(("stage", "seconds"), rows))
    if data["model"] is not None:
        faster = ", ".join(
            f"{ratio:.1f} times as fast as {name}" for name, ratio in data["faster_than"].items()
        )
        losses = data["held_out_loss"]
        lines += [
            f"{data['architecture']}: {data['parameters'] / 1e6:.1f} M parameters, "
            f"{data['statistic']} {data['measured_ms']:.3g} ms measured"
            + (f", {faster}{_both_in(data['precision'])}" if faster else "")
            + f"; graph {data['graph_variant']}, {data['precision']}",
            f"held-out distillation loss {losses['search']:.3f} (the slice as searched: "
            f"{data['held_out_loss_of_slice']:.3f}), {losses['test']:.3f} on text that the search "
            "never saw",
            *_file_lines(data),
            *([] if data.get("scores") is None else [scores_text(data["scores"])]),
            f"wrote {data['model']} and {data['report']}",
        ]
    elif data["outcome"] == "undecided":
        lines.append(
            "the machine did not let it be told whether a model meets the budget, so there is "
            f"none; run the same command again to go on; see {data['report']}"
        )
    else:
        lines.append(f"no model met the budget, so there is none; see {data['report']}")
    return "\n".join(lines)


def _rung_line(rung: Mapping[str, Any], limit: float) -> str:
    """What became of a speed-up that was tried."""
    if rung["score_drop"] is None:
        return f"{rung['speedup']:g} times as fast: {rung['outcome']}"
    told = "within" if rung["holds"] else "more than"
    return (
        f"{rung['speedup']:g} times as fast: {rung['architecture']} scores {rung['score_drop']:.2f} "
        f"points below the teacher, {told} the {limit:g} allowed"
    )


def _both_in(precision: str) -> str:
    """What a speed-up compares, where that is not obvious."""
    return "" if precision == "fp32" else f", both in {precision}"


def _file_lines(data: Mapping[str, Any]) -> list[str]:
    """What the shipped file scores itself, where it is something else than its weights."""
    if data["precision"] == "fp32":
        return []
    lines = [score_text(data["file_score"])]
    losses = data["file_score"]["splits"]["test"]
    term = term_of(data["file_score"])
    worse = losses["file"][term] / losses["float32"][term]
    if worse > _WORSE:
        lines.append(
            f"that is {worse - 1:.0%} more than its float32 weights lose: judge it on your task, "
            "or search in fp32"
        )
    return lines
