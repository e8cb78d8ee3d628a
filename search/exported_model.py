"""An exported model as verification takes it: the file, and what its folder says it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from device_profiles.target import Target
from supernet.architecture import Architecture
from supernet.model_folder import ONNX_FILE, load_model_folder
from supernet.variants import GraphVariant, Precision


@dataclass(frozen=True)
class ExportedModel:
    """An exported file and what it holds.

    Attributes:
        path: the ONNX file.
        sha256: of its bytes.
        architecture: the shape that it computes with; never a padded one.
        graph_variant: which graph of that shape it is.
        precision: what it computes products in.
    """

    path: Path
    sha256: str
    architecture: Architecture
    graph_variant: GraphVariant
    precision: Precision

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads a model folder and checks that the file is the one that was exported.

        Raises:
            InputError: if a file or a key is missing or wrong.
            DamagedFileError: if the ONNX file is not the one that the configuration names.
        """
        found = load_model_folder(folder)
        # Target knows the names of the variants.
        variant = Target(graph_variant=found.graph_variant).graph_variant  # type: ignore[arg-type]
        return cls(
            folder / ONNX_FILE, found.onnx_sha256, found.architecture, variant, found.precision
        )
