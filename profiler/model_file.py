"""An exported ONNX file as a session: what is verified is the file itself.

The bytes that were hashed are the bytes that are opened: a file that is replaced while it is
being measured changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from onnx import TensorProto

from autotinybert.errors import InputError
from device_profiles.target import Configuration
from profiler.runtime import runs_of, session_options, start_session
from profiler.session import random_inputs

WORD_TABLE = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class ModelFile:
    """The bytes of an exported file.

    Attributes:
        content: the file.
        sha256: its hash, in hexadecimal.
    """

    content: bytes
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file, whatever is in it.

        Raises:
            InputError: if it cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        return cls(content, hashlib.sha256(content).hexdigest())

    def vocab_size(self) -> int:
        """The rows of its word embedding.

        Raises:
            InputError: if it has none, or keeps weights in another file, which no hash covers.
            google.protobuf.message.DecodeError: if it is no ONNX file.
        """
        tensors = onnx.load_model_from_string(self.content).graph.initializer
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
            raise InputError("the file keeps weights in another file: export it with them inside")
        rows = [tensor.dims[0] for tensor in tensors if tensor.name == WORD_TABLE]
        if not rows:
            raise InputError(f"the file has no initializer {WORD_TABLE}")
        return int(rows[0])

    def open(self, configuration: Configuration, rng: np.random.Generator) -> Callable[[], object]:
        """Opens a session on the file under a workload and target.

        Args:
            configuration: says workload and target; the architecture is the file's own.
            rng: draws the tokens.

        Returns:
            A callable that runs it once, inputs and outputs in ordinary memory.

        Raises:
            InputError: if the file is no encoder of ours.
            WorkError: if the provider that was asked for is not the one that runs.
        """
        target = configuration.target
        inputs = random_inputs(configuration.workload, rng, vocab_size=self.vocab_size())
        session = start_session(self.content, target, session_options(target))
        names = [value.name for value in session.get_inputs()]
        unknown = sorted(set(names) - set(inputs))
        if unknown:
            raise InputError(f"the file has the input {unknown[0]}; known are {', '.join(inputs)}")
        outputs = [value.name for value in session.get_outputs()]
        return runs_of(session, outputs, {name: inputs[name] for name in names})
