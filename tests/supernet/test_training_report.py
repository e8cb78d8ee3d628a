from __future__ import annotations

from pathlib import Path

import pytest

from supernet.student_folder import load_student
from supernet.supernet_folder import load_supernet
from supernet.training import StepReport, TrainingSettings
from supernet.training_report import (
    last_log_row,
    progress_line,
    progress_text,
    supernet_answer,
)

REPORT = StepReport(
    step=3,
    elapsed_s=1.5,
    remaining_s=83.4,
    learning_rate=1e-3,
    tokens_per_s=12345.6,
    largest_loss=0.123,
    sampled_loss=0.456,
)


def test_progress_tells_speed_losses_and_time_left() -> None:
    text = progress_text(REPORT)
    assert text == "12,346 tokens/s, loss 0.12, sampled 0.46, about 1:23 left"


def test_without_sampled_slices_there_is_no_loss_of_them() -> None:
    alone = StepReport(**{**REPORT.to_json(), "sampled_loss": None, "remaining_s": 3599.6})
    assert progress_text(alone) == "12,346 tokens/s, loss 0.12, about 60:00 left"


def test_progress_is_silent_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_line(TrainingSettings(steps=5)) as on_step:
        on_step(REPORT)
    assert capsys.readouterr() == ("", "")


def test_the_last_row_of_a_log_is_read_by_column(tmp_path: Path, supernet: Path) -> None:
    row = last_log_row(supernet)
    assert (row["step"], row["tokens_per_s"] > 0) == (2, True)
    (tmp_path / "training.csv").write_text("step,largest_loss\n")
    assert last_log_row(tmp_path) == {}


def test_an_answer_tells_a_person_what_the_data_tells_a_program(supernet: Path) -> None:
    answer = supernet_answer(load_supernet(supernet), {"tokens_per_s": 1234.0})
    text = str(answer.text)
    assert "SuperPLM 3-24-48-4-24, evenly-spaced layers, from teacher weights: 2 steps" in text
    assert "1,234 tokens/s" in text
    for name, loss in answer.data["held_out_losses"].items():
        assert f"{name}" in text
        assert f"{loss:.3f}" in text
    assert answer.data["space_size"] == 54
    assert text.endswith(f"wrote {supernet}")


def test_a_slice_is_not_said_to_be_trained(student: Path) -> None:
    assert "held_out_loss" not in load_student(student).history[-1]
