"""An exported model as verification takes it: the file, and what its folder says it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_json_object, sha256_file
from device_profiles.target import Target
from supernet.architecture import Architecture
from supernet.variants import GraphVariant

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.json"

# The object in the configuration that is ours, beside what other libraries keep there.
_SECTION = "autotinybert"


@dataclass(frozen=True)
class ExportedModel:
    """An exported file and what it holds.

    Attributes:
        path: the ONNX file.
        sha256: of its bytes.
        architecture: the shape that it computes with; never a padded one.
        graph_variant: which graph of that shape it is.
    """

    path: Path
    sha256: str
    architecture: Architecture
    graph_variant: GraphVariant

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads a model folder and checks that the file is the one that was exported.

        Raises:
            InputError: if a file or a key is missing or wrong.
            DamagedFileError: if the ONNX file is not the one that the configuration names.
        """
        path = folder / MODEL_FILE
        if not folder.is_dir() or not path.is_file():
            raise InputError(f"no {MODEL_FILE} in {folder}: make one with export-model --out")
        config = folder / CONFIG_FILE
        if not config.is_file():
            raise InputError(f"no {CONFIG_FILE} in {folder}: make one with export-model --out")
        section = read_json_object(config).get(_SECTION)
        architecture = Architecture.parse(_text(section, "architecture", config))
        variant = Target(graph_variant=_text(section, "graph_variant", config))  # type: ignore[arg-type] # checked there
        try:
            sha256 = sha256_file(path)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        if sha256 != _text(section, "onnx_sha256", config):
            raise DamagedFileError(
                f"{path} is not the file that {config} names (torn or replaced?): export it anew"
            )
        return cls(path, sha256, architecture, variant.graph_variant)


def _text(section: Any, key: str, config: Path) -> str:
    """One of our keys in the configuration."""
    value = section.get(key) if isinstance(section, Mapping) else None
    if not isinstance(value, str):
        raise InputError(f"{config} lacks {_SECTION}.{key}: make the folder with export-model")
    return value
