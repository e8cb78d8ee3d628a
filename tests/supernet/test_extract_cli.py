"""`extract-model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.cli import extract_model
from supernet.train_model_cli import train_model

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
Options = dict[str, object]


def typed(options: Options) -> list[object]:
    """Options as typed; None leaves one out."""
    return [part for pair in options.items() if pair[1] is not None for part in pair]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--architecture": "4-24-48-4-24"}, "4-24-48-4-24 is no slice of the SuperPLM"),
        ({"--architecture": "3-24-48-3-24"}, "with heads of 6: name a shape within it"),
        ({"--architecture": "3-24-48-4-22"}, "not divisible by num_heads 4"),
        ({"--architecture": "half"}, "'half' is no architecture"),
        ({"--supernet": "absent"}, "no finished SuperPLM in absent"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    refused: Refused, supernet: Path, tmp_path: Path, changes: Options, message: str
) -> None:
    request: Options = {
        "--supernet": supernet,
        "--architecture": "1-8-16-4-8",
        "--out": tmp_path / "out",
        **changes,
    }
    assert message in refused(extract_model, *typed(request))
    assert not (tmp_path / "out").exists()


def test_a_damaged_superplm_or_slice_is_refused(
    cli: Cli, refused: Refused, supernet: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    request = ("--supernet", supernet, "--architecture", "1-8-16-4-8", "--out", out)
    assert cli(extract_model, *request)[0] == 0
    (out / "encoder.safetensors").write_bytes(b"torn")
    assert "encoder.safetensors is torn" in refused(extract_model, *request)
    assert cli(extract_model, *request, "--overwrite")[0] == 0
    (supernet / "tokenizer.json").unlink()
    assert "no tokenizer in" in refused(extract_model, *request)
    (supernet / "supernet.safetensors").write_bytes(b"torn")
    assert "supernet.safetensors is not as" in refused(extract_model, *request)


def test_overwriting_leaves_no_tokenizer_of_the_one_before(
    cli: Cli, refused: Refused, supernet: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    request = ("--supernet", supernet, "--out", out)
    assert cli(extract_model, *request, "--architecture", "1-8-16-4-8")[0] == 0
    (out / "vocab.txt").write_text("of another")
    assert "different request" in refused(extract_model, *request, "--architecture", "2-8-16-4-8")
    other = (*request, "--architecture", "2-8-16-4-8", "--overwrite")
    assert cli(extract_model, *other)[0] == 0
    assert not (out / "vocab.txt").exists()


def test_a_moved_superplm_is_extracted_from_and_its_slice_is_trained(
    cli: Cli, supernet: Path, tmp_path: Path
) -> None:
    moved, slice_ = supernet.rename(tmp_path / "moved"), tmp_path / "slice"
    request = ("--supernet", moved, "--architecture", "1-8-16-4-8", "--out", slice_)
    assert cli(extract_model, *request)[0] == 0
    further = ("--model", slice_, "--steps", 1, "--out", tmp_path / "model")
    assert cli(train_model, *further)[0] == 0


def test_the_superplm_is_never_written_over(refused: Refused, supernet: Path) -> None:
    before = contents(supernet)
    request = ("--supernet", supernet, "--architecture", "1-8-16-4-8", "--out", supernet)
    assert "is the SuperPLM's own folder" in refused(extract_model, *request, "--overwrite")
    assert contents(supernet) == before
