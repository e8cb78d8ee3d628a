from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import canonical_json, sha256_text
from supernet.encoder import ENCODER_FILE, load_encoder
from supernet.held_out import HeldOutLoss
from supernet.student_folder import HEADS_FILE, STUDENT_FILES, load_student, save_student
from supernet.supernet_folder import load_supernet
from supernet.tokenizer_files import read_tokenizer_files


def test_a_student_computes_what_its_slice_computes(supernet: Path, student: Path) -> None:
    trained, found = load_supernet(supernet), load_student(student)
    architecture = found.architecture
    assert str(architecture) == "2-16-16-4-8"
    assert found.history == ({"did": "extract-model", "supernet_sha256": trained.sha256},)
    corpus = found.origin.read_corpus()
    held_out = HeldOutLoss(found.origin.read_objective(corpus), corpus.splits["test"])
    slice_loss = held_out(trained.learner, architecture).loss
    assert held_out(found.learner).loss == pytest.approx(slice_loss)


def test_what_is_saved_again_is_the_same_bytes(student: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_student(other, load_student(student), read_tokenizer_files(student))
    assert {path.name for path in other.iterdir()} == {
        *STUDENT_FILES,
        *("tokenizer.json", "tokenizer_config.json"),
    }
    for path in other.iterdir():
        assert path.read_bytes() == (student / path.name).read_bytes()


def test_a_moved_student_finds_its_corpus_and_a_moved_corpus_is_missed(
    supernet: Path, student: Path, tmp_path: Path
) -> None:
    moved = load_student(student.rename(tmp_path / "moved"))
    assert moved.origin.read_corpus().sequence_length == 64
    supernet.rename(tmp_path / "other")
    with pytest.raises(InputError, match="no corpus in"):
        moved.origin.read_corpus()


def test_what_is_read_shares_no_memory_with_the_file(student: Path) -> None:
    found = load_student(student)
    (student / HEADS_FILE).write_bytes(b"")
    with torch.no_grad():
        for parameter in found.learner.parameters():
            parameter.add_(1)


@pytest.mark.parametrize("damage", ["edited", "truncated", "emptied"])
def test_a_damaged_projection_is_refused(student: Path, damage: str) -> None:
    path = student / HEADS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    kept = {"edited": content, "truncated": content[:-9], "emptied": content[:0]}
    path.write_bytes(kept[damage])
    with pytest.raises(DamagedFileError, match=r"heads.safetensors is not as it was written"):
        load_student(student)


def test_an_encoder_without_its_teacher_cannot_be_trained(student: Path, tmp_path: Path) -> None:
    (student / HEADS_FILE).unlink()
    assert load_encoder(student)
    with pytest.raises(InputError, match="encoder without its teacher: name what extract-model"):
        load_student(student)
    with pytest.raises(InputError, match="no encoder in"):
        load_student(tmp_path / "absent")


@pytest.mark.parametrize("gone", ["history", "heads", "objective"])
def test_an_incomplete_document_is_refused(student: Path, gone: str) -> None:
    path = student / ENCODER_FILE
    document = json.loads(path.read_text())
    document.pop("sha256")
    document["extra"].pop(gone, None)
    document["extra"]["origin"].pop(gone, None)
    path.write_text(json.dumps({**document, "sha256": sha256_text(canonical_json(document))}))
    with pytest.raises(DamagedFileError, match=f"holds no student .*{gone}"):
        load_student(student)


def test_a_projection_of_another_student_is_refused(supernet: Path, student: Path) -> None:
    shutil.copy(supernet / "supernet.safetensors", student / HEADS_FILE)
    with pytest.raises(DamagedFileError, match="not as it was written"):
        load_student(student)
