"""What the card of a handed-out model says of how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from device_profiles.measurements import describe_slice, slice_of_columns
from device_profiles.profile import DeviceProfile
from search.candidates import Try
from search.file_score import load_score
from search.task_scores import card_scores, load_scores
from supernet.encoder import load_encoder
from supernet.model_card import ModelCard
from supernet.supernet_folder import read_document

if TYPE_CHECKING:
    from search.pipeline import WholePath


def card_of(path: WholePath, found: Try) -> ModelCard:
    """The card of what passed."""
    return ModelCard(
        teacher=path.request.teacher_name,
        budget=path.request.budget.describe(),
        device=device_text(DeviceProfile.load(path.profile)),
        verification=str(found.verification["reason"]),
        facts=_facts(path, found),
    )


def device_text(profile: DeviceProfile) -> str:
    """The machine of a profile in words."""
    host = profile.host
    return (
        f"{profile.target}: {host['cpu_model']}, {host['cpu_count']} cores, ONNX Runtime "
        f"{host['onnxruntime_version']}"
    )


def _facts(path: WholePath, found: Try) -> list[tuple[str, str]]:
    """What a user of the model must know that its weights do not say."""
    _, extra = load_encoder(found.folder / "trained")
    trained = extra["history"][-1]
    verification = found.verification
    workload = describe_slice(slice_of_columns(verification))
    supernet_s = read_document(path.supernet)["training"]["elapsed_s"]
    loss = _loss(path, found, trained["held_out_loss"]["test"])
    if path.request.task is None:
        known = "on documents that neither training nor search has seen; no task was tried"
        scores = []
    else:
        known = "on the texts of the dev file"
        scores = card_scores(load_scores(found.folder))
    return [
        ("Latency is for", f"{workload}; longer sequences take longer"),
        *scores,
        (
            "Held-out distillation loss",
            f"{loss} (0 is the teacher; a constant scores 1 in each of its terms), {known}",
        ),
        (
            "Trained",
            f"{trained['elapsed_s'] / 60:.1f} minutes on its own, after {supernet_s / 60:.1f} "
            "minutes as a slice of a SuperPLM",
        ),
    ]


def _loss(path: WholePath, found: Try, float32: float) -> str:
    """The test loss: of float32 weights, and of the file where that is something else."""
    file = load_score(found.folder / "trained-verified")["splits"]["test"]["file"]["loss"]
    if path.request.precision == "fp32" or file is None:
        return f"{float32:.3f}"
    return f"{file:.3f} for `model.onnx`, {float32:.3f} for the float32 weights"
