"""`import-model`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from supernet.cli import export_model
from supernet.encoder import Encoder, load_encoder
from supernet.huggingface import WEIGHTS_FILE
from supernet.import_cli import ARCHITECTURES_FILE, import_model
from supernet.importing import CHECKPOINT_FILE
from supernet.supernet_folder import load_supernet
from supernet.teacher_config import CONFIG_FILE
from supernet.training_cli import train_supernet

Cli = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
SaveTeacher = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def released(
    tmp_path: Path, random_encoder: Callable[..., Encoder], tokenizer_files: dict[str, bytes]
) -> Path:
    """A folder as AutoTinyBERT releases them: weights, config and vocabulary."""
    encoder = random_encoder("3-24-48-4-16")
    folder = tmp_path / "released"
    folder.mkdir()
    state = {f"bert.{name}": torch.from_numpy(value) for name, value in encoder.weights.items()}
    torch.save(state, folder / CHECKPOINT_FILE)
    config = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "qkv_size": 16,
        "type_vocab_size": 2,
        "vocab_size": 97,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    (folder / "vocab.txt").write_bytes(tokenizer_files["vocab.txt"])
    return folder


def test_a_released_checkpoint_is_imported_and_exported(
    cli: Cli, released: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text, _ = cli(import_model, released, "--out", out)
    assert code == 0
    assert "autotinybert 3-24-48-4-16: 15,624 parameters, 97 tokens, 40 positions; no head" in text
    assert f"profile-device --architectures {out / ARCHITECTURES_FILE}" in text
    assert "--depth-rule first --channel-order teacher" in text
    assert (out / ARCHITECTURES_FILE).read_text().splitlines()[1] == "3,24,48,4,16"
    assert cli(export_model, "--model", out, "--out", tmp_path / "model")[0] == 0


def test_a_superplm_starts_from_an_imported_one(
    cli: Cli, teacher: Path, options: dict[str, object], tmp_path: Path
) -> None:
    weights = load_file(teacher / WEIGHTS_FILE)
    state = {
        f"bert.{name.replace('encoder.layer.', 'encoder.layers.')}": value
        for name, value in weights.items()
    }
    torch.save(state, teacher / CHECKPOINT_FILE)
    (teacher / WEIGHTS_FILE).unlink()
    imported = tmp_path / "imported"
    assert cli(import_model, teacher, "--out", imported)[0] == 0
    given = {**options, "--teacher": imported, "--steps": 1, "--learning-rate": 1e-9}
    typed = [part for pair in given.items() for part in pair]
    order = ("--depth-rule", "first", "--channel-order", "teacher")
    assert cli(train_supernet, *typed, *order)[0] == 0
    began = load_supernet(tmp_path / "out").model
    name = "encoder.layer.2.output.dense.weight"
    torch.testing.assert_close(began.get_parameter(name).detach(), weights[name])


def test_a_classifier_is_imported_with_its_labels(
    cli: Cli, save_teacher: SaveTeacher, tmp_path: Path
) -> None:
    save_teacher(tmp_path / "teacher", head=True, id2label={0: "no", 1: "yes"})
    out = tmp_path / "out"
    code, text, _ = cli(import_model, tmp_path / "teacher", "--out", out, "--json")
    answer = json.loads(text)
    assert code == 0
    assert (answer["family"], answer["head"], answer["labels"]) == (
        "bert",
        "classification",
        ["no", "yes"],
    )
    head = load_encoder(out)[0].head
    assert head is not None
    assert head.labels == ("no", "yes")


def saved_electra(folder: Path, teacher: Path, *, embedding_size: int) -> None:
    """A classifier of the teacher's vocabulary, with the teacher's tokenizer."""
    vocab_size = json.loads((teacher / CONFIG_FILE).read_text())["vocab_size"]
    config = transformers.ElectraConfig(
        vocab_size=vocab_size,
        hidden_size=24,
        embedding_size=embedding_size,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    quiet: Any = transformers.utils.logging.disable_progress_bar
    quiet()  # a bar would stand among what we print
    transformers.ElectraForSequenceClassification(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((teacher / "tokenizer.json").read_bytes())


def test_a_classifier_that_ours_cannot_be_is_left_out_and_said(
    cli: Cli, teacher: Path, tmp_path: Path
) -> None:
    saved_electra(tmp_path / "electra", teacher, embedding_size=24)
    code, text, _ = cli(import_model, tmp_path / "electra", "--out", tmp_path / "out")
    assert code == 0
    assert "positions; no head" in text
    assert "left out: its classifier has gelu between its layers, where ours has tanh" in text
    assert load_encoder(tmp_path / "out")[0].head is None


def test_an_encoder_with_narrow_embeddings_is_refused(
    refused: Refused, teacher: Path, tmp_path: Path
) -> None:
    saved_electra(tmp_path / "electra", teacher, embedding_size=12)
    error = refused(import_model, tmp_path / "electra", "--out", tmp_path / "out")
    assert "its embeddings are 12 wide and its layers 24" in error
    assert not (tmp_path / "out").exists()


def test_an_encoder_with_narrow_embeddings_teaches_its_task_and_starts_nothing(
    cli: Cli, refused: Refused, teacher: Path, options: dict[str, object], tmp_path: Path
) -> None:
    saved_electra(tmp_path / "electra", teacher, embedding_size=12)
    given = {**options, "--teacher": tmp_path / "electra", "--objective": "task", "--steps": 1}
    del given["--space"]
    largest = tmp_path / "space.toml"
    largest.write_text(
        "num_layers = [1, 2]\nhidden_size = [8, 16]\nffn_size = [16]\nnum_heads = [4]\n"
        "qkv_size = [8]\n"
    )
    typed = [part for pair in given.items() for part in pair] + ["--space", largest]
    error = refused(train_supernet, *typed)
    assert "no slice can be taken of it: it can teach, but not be started from" in error
    random = ("--start", "random", "--largest", "2-16-16-4-8")
    code, _, error = cli(train_supernet, *typed, *random)
    assert code == 0, error


def test_the_same_command_again_says_so_and_another_is_refused(
    cli: Cli, refused: Refused, released: Path, teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert cli(import_model, released, "--out", out)[0] == 0
    before = contents(out)
    code, text, _ = cli(import_model, released, "--out", out)
    assert (code, contents(out)) == (0, before)
    assert "was imported before; nothing was written" in text
    assert "different request" in refused(import_model, teacher, "--out", out)
    assert cli(import_model, teacher, "--out", out, "--overwrite")[0] == 0
    assert not (out / "vocab.txt").exists()
    (out / "encoder.safetensors").write_bytes(b"torn")
    assert "encoder.safetensors is torn" in refused(import_model, teacher, "--out", out)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "vocab.txt").unlink(), "no tokenizer in"),
        (lambda folder: (folder / CONFIG_FILE).unlink(), "cannot read"),
        (lambda folder: (folder / CHECKPOINT_FILE).unlink(), "model_type None is not supported"),
        (lambda folder: (folder / CHECKPOINT_FILE).write_bytes(b"torn"), "is no whole checkpoint"),
        (lambda folder: (folder / "vocab.txt").write_text("a\n" * 98), "has the token id 97"),
    ],
)
def test_a_folder_that_lacks_something_is_one_line_and_nothing_is_written(
    refused: Refused,
    released: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(released)
    assert message in refused(import_model, released, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_imported_is_never_written_over(refused: Refused, released: Path) -> None:
    before = contents(released)
    error = refused(import_model, released, "--out", released, "--overwrite")
    assert "is the folder of what is imported" in error
    assert contents(released) == before
