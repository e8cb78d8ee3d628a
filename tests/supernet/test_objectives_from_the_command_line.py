"""Every objective from `train-supernet` to an exported model, as users type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from supernet.cli import export_model, extract_model
from supernet.encoder import load_encoder
from supernet.masked_language import uniform_loss
from supernet.model_folder import load_model_folder
from supernet.student_folder import load_student
from supernet.supernet_folder import load_supernet
from supernet.train_model_cli import train_model
from supernet.training_cli import train_supernet

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]

SHAPE = "2-16-16-4-8"


@pytest.fixture
def train(cli: Cli, text: Path, space_file: Path, tmp_path: Path) -> Callable[..., Path]:
    def run(*more: object, steps: int = 4, space: Path | None = None) -> Path:
        out = tmp_path / "supernet"
        request = ("--corpus", text, "--space", space or space_file, "--steps", steps)
        common = ("--sequence-length", 32, "--batch-size", 8, "--device", "cpu")
        code, _, error = cli(train_supernet, *request, *common, *more, "--out", out)
        assert code == 0, error
        return out

    return run


def extracted(cli: Cli, supernet: Path, shape: str = SHAPE) -> Path:
    out = supernet.parent / "slice"
    request = ("--supernet", supernet, "--architecture", shape, "--out", out)
    code, _, error = cli(extract_model, *request)
    assert code == 0, error
    return out


def further(cli: Cli, student: Path, *more: object, out: str = "trained") -> dict[str, Any]:
    request = ("--model", student, "--steps", 3, "--out", student.parent / out, *more, "--json")
    code, text, error = cli(train_model, *request)
    assert code == 0, error
    found: dict[str, Any] = json.loads(text)
    return found


def test_words_are_learnt_without_a_teacher_and_the_head_comes_along(
    cli: Cli, train: Callable[..., Path], teacher: Path, tmp_path: Path
) -> None:
    space = tmp_path / "heads.toml"
    space.write_text(
        "num_layers = [1, 2]\nhidden_size = [8, 16, 24]\nffn_size = [16, 48]\n"
        "num_heads = [1, 2, 4]\nqkv_size = {per_head = 4}\n"
    )
    options = ("--objective", "mlm", "--tokenizer", teacher)
    supernet = train(*options, steps=30, space=space)
    found = load_supernet(supernet)
    assert found.origin.objective.name == "mlm"
    assert found.origin.teacher_sha256 is None
    assert found.model.config.depth_rule == "first"
    losses = found.document["training"]["held_out_losses"]
    assert all(loss < uniform_loss(found.model.config.vocab_size) for loss in losses.values())
    slice_ = extracted(cli, supernet, "1-16-16-2-8")
    student = load_student(slice_)
    assert student.learner.mlm_head is not None
    assert student.learner.projection is None
    step = further(cli, slice_)
    assert step["objective"] == "mlm"
    for split in ("search", "test"):
        assert step["held_out_loss"][split] < step["held_out_loss_before"][split]


def test_words_are_learnt_from_a_teachers_own_weights(
    train: Callable[..., Path], teacher: Path
) -> None:
    found = load_supernet(train("--objective", "mlm", "--teacher", teacher))
    assert found.document["training"]["start"] == "teacher"
    assert found.model.config.depth_rule == "evenly-spaced"


def test_a_space_with_other_heads_than_the_teacher_is_distilled_by_relations(
    cli: Cli, train: Callable[..., Path], teacher: Path, tmp_path: Path
) -> None:
    space = tmp_path / "heads.toml"
    space.write_text(
        "num_layers = [1, 2]\nhidden_size = [8, 16, 24]\nffn_size = [16, 48]\n"
        "num_heads = [1, 2, 4]\nqkv_size = {per_head = 4}\n"
    )
    supernet = train("--teacher", teacher, space=space, steps=12)
    spec = load_supernet(supernet).origin.objective
    assert (spec.attention, spec.relation_heads) == ("relations", 4)
    assert set(spec.units) == {"relations", "hidden"}
    step = further(cli, extracted(cli, supernet, "1-16-16-1-4"))
    assert step["held_out_loss"]["search"] < step["held_out_loss_before"]["search"]


def test_a_classifier_is_distilled_to_a_file_with_logits(
    cli: Cli,
    train: Callable[..., Path],
    save_teacher: Callable[..., Any],
    tmp_path: Path,
) -> None:
    names = {0: "bad", 1: "good", 2: "so-so"}
    save_teacher(tmp_path / "classifier", head=True, num_labels=3, id2label=names)
    supernet = train("--objective", "task", "--teacher", tmp_path / "classifier", steps=12)
    spec = load_supernet(supernet).origin.objective
    assert set(spec.units) == {"scores", "hidden", "logits"}
    whole = load_supernet(supernet).learner.task_head
    assert whole is not None
    assert whole.labels == ("bad", "good", "so-so")
    step = further(cli, extracted(cli, supernet))
    assert step["held_out_loss"]["search"] < step["held_out_loss_before"]["search"]
    head = load_encoder(tmp_path / "trained")[0].head
    assert head is not None
    assert head.labels == ("bad", "good", "so-so")
    for precision in ("fp32", "int8"):
        out = tmp_path / precision
        request = ("--model", tmp_path / "trained", "--out", out, "--precision", precision)
        assert cli(export_model, *request)[0] == 0
        assert load_model_folder(out).labels == ("bad", "good", "so-so")
        session = onnxruntime.InferenceSession(str(out / "model.onnx"))
        ids = np.ones((2, 5), dtype=np.int64)
        feed = {name.name: ids for name in session.get_inputs()}
        assert session.run(["logits"], feed)[0].shape == (2, 3)


def test_a_student_may_learn_something_else_from_now_on(
    cli: Cli, refused: Refused, train: Callable[..., Path], teacher: Path
) -> None:
    """Words after distillation, and a teacher after words: what is missing is begun anew."""
    slice_ = extracted(cli, train("--teacher", teacher))
    assert further(cli, slice_, "--objective", "mlm", out="words")["objective"] == "mlm"
    words = load_student(slice_.parent / "words")
    assert words.learner.mlm_head is not None
    assert words.origin.objective.name == "mlm"
    back = further(cli, slice_.parent / "words", "--objective", "kd", out="back")
    assert back["objective"] == "kd"
    assert load_student(slice_.parent / "back").learner.projection is not None
    request = ("--model", slice_, "--steps", 2, "--objective", "task")
    assert "has no classifier on it" in refused(
        train_model, *request, "--out", slice_.parent / "never"
    )


@pytest.mark.parametrize(
    "more",
    [
        ("--always", "sandwich"),
        ("--always", "none"),
        ("--in-place",),
        ("--always", "sandwich", "--in-place"),
        ("--batches-per-step", 2),
        ("--channel-order", "teacher"),
        ("--depth-rule", "first"),
        ("--precision", "bf16"),
        ("--attention-loss", "relations"),
    ],
    ids=lambda more: " ".join(map(str, more)),
)
def test_every_option_of_training_trains(
    train: Callable[..., Path], teacher: Path, more: tuple[object, ...]
) -> None:
    losses = load_supernet(train("--teacher", teacher, *more)).document["training"]
    assert losses["steps"] == 4
    assert all(np.isfinite(list(losses["held_out_losses"].values())))


def test_what_an_option_asks_for_is_part_of_the_request(
    refused: Refused, train: Callable[..., Path], teacher: Path, text: Path, space_file: Path
) -> None:
    out = train("--teacher", teacher)
    request = ("--corpus", text, "--space", space_file, "--steps", 4, "--sequence-length", 32)
    same = (*request, "--batch-size", 8, "--teacher", teacher, "--out", out)
    assert "--overwrite" in refused(train_supernet, *same, "--always", "sandwich")
