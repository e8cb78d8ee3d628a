"""Hugging Face `datasets` folders, in the format on disk of `save_to_disk`, and Parquet files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from autotinybert.errors import DamagedFileError, InputError
from supernet.corpus_text import corpus_identity, read_documents
from supernet.text_document import Tally
from supernet.text_files import DocumentText

SPLIT = DocumentText()


def save_to_disk(folder: Path, *shards: list[str | None], kind: Any = None) -> Path:
    """What `Dataset.save_to_disk` writes: Arrow stream files, the schema's features, the state."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(shards):05}.arrow" for i in range(len(shards))]
    schema = pa.schema([("text", kind or pa.string()), ("label", pa.int64())])
    for name, texts in zip(names, shards, strict=True):
        table = pa.table({"text": texts, "label": list(range(len(texts)))}, schema=schema)
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.RecordBatchStreamWriter(sink, schema) as writer,
        ):
            writer.write_table(table, max_chunksize=2)
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"dtype": "int64", "_type": "Value"},
    }
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0a1b2c3d4e5f6071",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True))
    return folder


def read(source: Path, how: DocumentText = SPLIT) -> list[tuple[str, ...]]:
    return [document.sentences for document in read_documents(str(source), how, Tally())]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_the_rows_of_a_datasets_folder_are_documents(tmp_path: Path, kind: Any) -> None:
    folder = save_to_disk(
        tmp_path / "set", ["This is one. It goes on.", None, "Two."], ["", "Three."], kind=kind
    )
    assert read(folder) == [("This is one.", "It goes on."), ("Two.",), ("Three.",)]


def test_the_folders_of_a_dict_are_read_in_its_order(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "train", ["One."])
    save_to_disk(tmp_path / "a", ["Two."])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "a"]}')
    assert read(tmp_path) == [("One.",), ("Two.",)]
    before = corpus_identity(str(tmp_path))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["a", "train"]}')
    assert read(tmp_path) == [("Two.",), ("One.",)]
    assert corpus_identity(str(tmp_path)) != before


def test_parquet_files_of_a_folder_are_read(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"body": ["One.", "Two."]}), tmp_path / "a.parquet")
    assert read(tmp_path, DocumentText("body")) == [("One.",), ("Two.",)]
    with pytest.raises(InputError, match=r"no column 'text' of text: say with --text-key .* body"):
        read(tmp_path)


def test_a_column_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "set", ["One."])
    with pytest.raises(InputError, match=r"no column 'label' of text"):
        read(folder, DocumentText("label"))


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "a.parquet"])
def test_a_torn_file_is_refused(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        folder = tmp_path
        parquet.write_table(pa.table({"text": ["One.", "Two."]}), folder / name)
    else:
        folder = save_to_disk(tmp_path / "set", ["One.", "Two.", "Three."])
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name) as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "state", ["{}", '{"_data_files": [{"filename": "../x"}]}', '{"_data_files": 3}']
)
def test_a_state_that_names_no_files_of_its_folder_is_refused(tmp_path: Path, state: str) -> None:
    folder = save_to_disk(tmp_path / "set", ["One."])
    (folder / "state.json").write_text(state)
    with pytest.raises(DamagedFileError, match="is no whole datasets folder"):
        read(folder)


def test_a_file_that_is_lost_is_named(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "set", ["One."])
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(InputError, match=r"cannot read corpus .*data-00000-of-00001.arrow"):
        read(folder)


def test_without_pyarrow_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_to_disk(tmp_path / "set", ["One."])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"install autotinybert\[datasets\]") as error:
        read(folder)
    assert "\n" not in str(error.value)
