"""Tables of text: folders of Hugging Face `datasets`, and Parquet files, read through pyarrow.

A folder of `Dataset.save_to_disk` holds `dataset_info.json`, `state.json`, which names its Arrow
files in order, and these. One of `DatasetDict.save_to_disk` holds `dataset_dict.json`, which names
folders of the first kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_json_object
from autotinybert.values import items, mapping, text
from supernet.text_document import Document
from supernet.text_files import DocumentText

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema

STATE_FILE = "state.json"
DICT_FILE = "dataset_dict.json"
PARQUET_SUFFIX = ".parquet"
ARROW_SUFFIX = ".arrow"

_ROWS = 1000


def is_dataset(folder: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote."""
    return (folder / STATE_FILE).is_file() or (folder / DICT_FILE).is_file()


def dataset_files(folder: Path) -> list[Path]:
    """The Arrow files of a `datasets` folder, in order.

    Raises:
        InputError: if it is damaged, or names a file outside of it.
    """
    try:
        if not (folder / DICT_FILE).is_file():
            state = read_json_object(folder / STATE_FILE)
            names = items(state["_data_files"], lambda value: text(mapping(value)["filename"]))
            return [_inside(folder, name) for name in names]
        names = items(read_json_object(folder / DICT_FILE)["splits"], text)
        return [file for name in names for file in dataset_files(_inside(folder, name))]
    except DamagedFileError:
        raise
    except (LookupError, ValueError) as error:
        raise DamagedFileError(
            f"{folder} is no whole datasets folder ({error}): write it again with save_to_disk"
        ) from error


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name or name in ("", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    return folder / name


def check_tables() -> None:
    """Refuses tables where nothing can read them.

    Raises:
        InputError: saying what to install.
    """
    try:
        import pyarrow  # noqa: F401 # asked whether it is there
    except ImportError as error:
        raise InputError(
            "datasets folders and Parquet files need the package pyarrow: install "
            "autotinybert[datasets]"
        ) from error


def table_documents(path: Path, how: DocumentText) -> Iterator[Document]:
    """The documents of an Arrow or Parquet file, one a row; a row without text is left out.

    Raises:
        InputError: if pyarrow is not installed, the file cannot be read, or it has no such column.
    """
    check_tables()
    from pyarrow import ArrowException

    first_row = 0
    try:
        for batch in _batches(path, how.key):
            for start in range(0, batch.num_rows, _ROWS):
                values: list[Any] = batch.column(how.key).slice(start, _ROWS).to_pylist()
                for index, value in enumerate(values, first_row + start):
                    if value is not None:
                        yield from how.documents(value, f"{path}, row {index}")
            first_row += batch.num_rows
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        # Not all of pyarrow's errors have a number of the system, and some have several lines.
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise InputError(f"cannot read corpus {path}: {reason}; write it again") from error


def _batches(path: Path, key: str) -> Iterator[RecordBatch]:
    import pyarrow
    from pyarrow import parquet

    if path.suffix == PARQUET_SUFFIX:
        with parquet.ParquetFile(path) as table:
            _check_column(path, table.schema_arrow, key)
            yield from table.iter_batches(batch_size=_ROWS, columns=[key])
        return
    with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
        _check_column(path, reader.schema, key)
        yield from reader


def _check_column(path: Path, schema: Schema, key: str) -> None:
    from pyarrow import types

    texts = [
        field.name
        for field in schema
        if types.is_string(field.type)
        or types.is_large_string(field.type)
        or types.is_string_view(field.type)
    ]
    if key not in texts:
        raise InputError(
            f"corpus {path} has no column {key!r} of text: say with --text-key which of "
            f"{', '.join(texts) or 'its columns, none of which is text,'} it is"
        )
