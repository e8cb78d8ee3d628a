"""Runs an exported file that has a head: token ids to logits, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from autotinybert.errors import InputError
from supernet.onnx_graph import INPUT_NAMES, LOGITS_NAME
from supernet.weights import FloatArray

IntegerArray = npt.NDArray[np.integer[Any]]


class OnnxClassifier:
    """An exported file as a function of batches.

    Args:
        content: the file.
        threads: how many compute one product; None leaves it to the runtime.

    Raises:
        InputError: if the file has no head.
    """

    def __init__(self, content: bytes, *, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        outputs = [output.name for output in self._session.get_outputs()]
        if outputs != [LOGITS_NAME]:
            raise InputError(
                f"the file puts out {', '.join(outputs)}, not {LOGITS_NAME}: export an encoder "
                "that has a head"
            )

    def __call__(
        self,
        input_ids: IntegerArray,
        attention_mask: IntegerArray,
        token_type_ids: IntegerArray | None = None,
    ) -> FloatArray:
        """Logits of a batch, in the order of the head's labels.

        Args:
            input_ids: token ids, `[B, S]`.
            attention_mask: 1 for tokens, 0 for padding, `[B, S]`.
            token_type_ids: segments, `[B, S]`; all 0 where there are none.

        Returns:
            float32 `[B, n]`; of a span head `[B, S, 2]`.
        """
        if token_type_ids is None:
            token_type_ids = np.zeros_like(input_ids)
        values = (input_ids, attention_mask, token_type_ids)
        feed = {
            name: np.asarray(value, dtype=np.int64)
            for name, value in zip(INPUT_NAMES, values, strict=True)
        }
        logits: FloatArray = self._session.run([LOGITS_NAME], feed)[0]
        return logits
