from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import canonical_json, sha256_text
from supernet.architecture import Architecture
from supernet.held_out import HeldOutLoss
from supernet.space_file import load_space
from supernet.supernet_folder import (
    SUPERNET_FILE,
    WEIGHTS_FILE,
    Supernet,
    load_supernet,
    save_supernet,
)


def resigned(folder: Path, **changes: Any) -> Path:
    """A document that was changed by somebody who knows how to sign it."""
    path = folder / SUPERNET_FILE
    document = {**json.loads(path.read_text()), **changes}
    document.pop("sha256")
    path.write_text(json.dumps({**document, "sha256": sha256_text(canonical_json(document))}))
    return folder


def losses_of(found: Supernet) -> dict[str, float]:
    """The held-out losses that were written down, taken again from what was read."""
    corpus = found.origin.read_corpus()
    held_out = HeldOutLoss(found.origin.read_objective(corpus), corpus.splits["search"])
    return {
        name: held_out(found.learner, Architecture.parse(name)).loss
        for name in found.document["training"]["held_out_losses"]
    }


def test_what_was_trained_is_read_back_and_scores_as_it_did(
    supernet: Path, space_file: Path
) -> None:
    found = load_supernet(supernet)
    assert found.model.config.largest == Architecture(3, 24, 48, 4, 24)
    assert found.model.config.depth_rule == "evenly-spaced"
    assert found.space.size == load_space(str(space_file)).size
    assert losses_of(found) == pytest.approx(found.document["training"]["held_out_losses"])


def test_saving_what_was_read_gives_the_same_bytes(supernet: Path, tmp_path: Path) -> None:
    found = load_supernet(supernet)
    other = tmp_path / "other"
    other.mkdir()
    save_supernet(
        other,
        found.learner,
        found.space,
        found.origin,
        found.document["training"],
    )
    assert (other / WEIGHTS_FILE).read_bytes() == (supernet / WEIGHTS_FILE).read_bytes()
    again = load_supernet(other)
    assert again.origin.read_corpus().facts == found.origin.read_corpus().facts
    assert (again.space, again.sha256) == (found.space, found.sha256)


def test_a_moved_folder_finds_the_corpus_inside_it(supernet: Path, tmp_path: Path) -> None:
    moved = supernet.rename(tmp_path / "elsewhere")
    found = load_supernet(moved)
    assert found.origin.corpus == moved / "corpus"
    assert losses_of(found) == pytest.approx(found.document["training"]["held_out_losses"])


def test_a_relative_path_reads_the_same(supernet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(supernet.parent)
    found = load_supernet(Path(supernet.name))
    assert len(found.origin.read_corpus().splits["train"]) > 0


def test_a_teacher_that_has_changed_or_gone_is_named(supernet: Path, teacher: Path) -> None:
    origin = load_supernet(supernet).origin
    config = teacher / "config.json"
    before = config.read_text()
    config.write_text(before.replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-06'))
    assert config.read_text() != before
    with pytest.raises(InputError, match=r"not the one that was distilled from .*: restore it"):
        origin.read_teacher()
    shutil.rmtree(teacher)
    with pytest.raises(InputError, match=r"cannot be read: no teacher folder .*; restore it"):
        origin.read_teacher()


def test_a_corpus_that_has_changed_or_gone_is_named(supernet: Path) -> None:
    origin = load_supernet(supernet).origin
    path = supernet / "corpus" / "corpus.json"
    document = json.loads(path.read_text())
    document.pop("sha256")
    document["facts"]["source"] = "another text"
    path.write_text(json.dumps({**document, "sha256": sha256_text(canonical_json(document))}))
    with pytest.raises(InputError, match=r"corpus is not the one that was trained on: restore"):
        origin.read_corpus()
    path.unlink()
    with pytest.raises(InputError, match="no corpus in"):
        origin.read_corpus()


@pytest.mark.parametrize("name", [SUPERNET_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("damage", ["edited", "truncated", "emptied"])
def test_a_torn_truncated_or_edited_file_is_refused_by_name(
    supernet: Path, name: str, damage: str
) -> None:
    path = supernet / name
    content = bytearray(path.read_bytes())
    if damage == "edited":
        content[len(content) // 2] ^= 1
    kept = {"edited": content, "truncated": content[:-50], "emptied": content[:0]}
    path.write_bytes(kept[damage])
    with pytest.raises(DamagedFileError, match=name):
        load_supernet(supernet)


def test_lost_weights_are_named(supernet: Path) -> None:
    (supernet / WEIGHTS_FILE).unlink()
    with pytest.raises(DamagedFileError, match=r"cannot read .*supernet.safetensors: No such file"):
        load_supernet(supernet)


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_a_finished_superplm_says_what_to_do(
    tmp_path: Path, *, exists: bool
) -> None:
    folder = tmp_path if exists else tmp_path / "absent"
    with pytest.raises(InputError, match=r"no finished SuperPLM in .* train-supernet --out"):
        load_supernet(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "sandwich"}, "is no superplm: train it again"),
        ({"schema_version": 3}, "schema version 3, this version reads up to 2"),
        ({"architecture": "big"}, "holds no SuperPLM"),
        ({"architecture": "3-24-48-4-20"}, "holds no SuperPLM"),
        ({"architecture": None}, "holds no SuperPLM"),
        ({"depth_rule": None}, "no depth rule None"),
        ({"layer_norm_epsilon": "1"}, "holds no SuperPLM"),
        ({"vocab_size": 5}, "holds no SuperPLM"),
        ({"space": {}}, "holds no SuperPLM"),
        ({"origin": {"teacher": "x"}}, "holds no SuperPLM"),
        ({"weights_sha256": "0"}, "is not as it was written"),
    ],
)
def test_a_document_of_another_kind_or_version_is_refused(
    supernet: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_supernet(resigned(supernet, **changes))
    assert caught.type is (InputError if "version" in message else DamagedFileError)


def test_the_projection_was_trained_with_the_superplm(supernet: Path) -> None:
    found = load_supernet(supernet)
    assert found.learner.head_tensors()["projection.weight"].shape == (24, 24)
    assert set(found.learner.head_tensors()["projection.weight"].flatten().tolist()) != {0.0, 1.0}
