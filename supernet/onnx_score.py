"""Runs an exported file where held-out text is scored: the file itself, not its weights in torch.

A quantised file differs from the encoder that it was made of, and by how much only its own outputs
tell. Its bytes are run as they are, with more outputs declared: the attention scores of the last
layer, which the objective compares with the teacher's, and where the file has a head the last
hidden state, which the head reads.
"""

from __future__ import annotations

import onnx
import onnxruntime
import torch

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.model import EncoderOutput
from supernet.onnx_graph import INPUT_NAMES, OUTPUT_NAME


class OnnxEncoder:
    """An exported file as something that computes an encoder's outputs, on the CPU.

    Args:
        content: the file.
        architecture: its shape.

    Attributes:
        tells_scores: whether its graph has the scores before softmax as a tensor; one node that
            does the whole attention keeps them to itself.
    """

    def __init__(self, content: bytes, architecture: Architecture) -> None:
        model = onnx.load_model_from_string(content)
        name = f"encoder.layer.{architecture.num_layers - 1}.attention.self.scores"
        self.tells_scores = any(name in node.output for node in model.graph.node)
        self._outputs = [OUTPUT_NAME, name] if self.tells_scores else [OUTPUT_NAME]
        declared = {output.name for output in model.graph.output}
        # The runtime infers their types.
        model.graph.output.extend(
            onnx.ValueInfoProto(name=each) for each in self._outputs if each not in declared
        )
        content = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, batch: Batch) -> EncoderOutput:
        """Last hidden state and, where it tells them, scores."""
        types = torch.zeros_like(batch.mask) if batch.token_types is None else batch.token_types
        values = (batch.input_ids, batch.mask, types)
        feed = {name: value.numpy() for name, value in zip(INPUT_NAMES, values, strict=True)}
        found = [
            torch.from_numpy(value).float() for value in self._session.run(self._outputs, feed)
        ]
        return EncoderOutput(found[0], found[1] if self.tells_scores else None)
