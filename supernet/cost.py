"""What an architecture costs, in closed form: parameters, floating-point operations, bytes.

Every function takes a matrix of architectures `[N, 5]` (columns as in `ARCHITECTURE_FIELDS`) and
returns int64 `[N]`, so that a whole space can be scored in blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from supernet.architecture import IntMatrix
from supernet.variants import Precision

VOCAB_SIZE = 30522
MAX_POSITIONS = 512
TYPE_VOCAB_SIZE = 2

IntVector = npt.NDArray[np.int64]


def embedding_parameters(
    architectures: IntMatrix, *, vocab_size: int = VOCAB_SIZE, max_positions: int = MAX_POSITIONS
) -> IntVector:
    """Parameters of the three embeddings and their LayerNorm."""
    hidden_size: IntVector = architectures[:, 1]
    return (vocab_size + max_positions + TYPE_VOCAB_SIZE + 2) * hidden_size


def layer_parameters(architectures: IntMatrix) -> IntVector:
    """Parameters of one transformer layer."""
    _, hidden_size, ffn_size, _, qkv_size = architectures.T
    attention = 3 * (hidden_size + 1) * qkv_size + (qkv_size + 1) * hidden_size
    feed_forward = (hidden_size + 1) * ffn_size + (ffn_size + 1) * hidden_size
    total: IntVector = attention + feed_forward + 4 * hidden_size  # the last, two LayerNorms
    return total


def parameters(
    architectures: IntMatrix,
    *,
    vocab_size: int = VOCAB_SIZE,
    max_positions: int = MAX_POSITIONS,
    pooler: bool = False,
) -> IntVector:
    """Parameters of the encoder; `pooler` adds the dense layer that `BertModel` ends with."""
    num_layers, hidden_size = architectures[:, 0], architectures[:, 1]
    embeddings = embedding_parameters(
        architectures, vocab_size=vocab_size, max_positions=max_positions
    )
    total: IntVector = embeddings + num_layers * layer_parameters(architectures)
    return total + (hidden_size + 1) * hidden_size if pooler else total


def flops(
    architectures: IntMatrix, *, batch_size: int = 1, sequence_length: int = 128
) -> IntVector:
    """Floating-point operations of the matrix products of one run, a multiply-add counted as two.

    Normalisation, activations and softmax are left out, as is usual: below 2 % of a BERT.
    """
    num_layers, hidden_size, ffn_size, _, qkv_size = architectures.T
    tokens = batch_size * sequence_length
    projections = 4 * hidden_size * qkv_size + 2 * hidden_size * ffn_size
    attention = 2 * sequence_length * qkv_size
    total: IntVector = 2 * tokens * num_layers * (projections + attention)
    return total


def weight_bytes(
    architectures: IntMatrix, precision: Precision = "fp32", *, vocab_size: int = VOCAB_SIZE
) -> IntVector:
    """Bytes of the weights in a file of this precision.

    `int8` quantises the word embedding, with a scale for each row, and the weights of the linear
    layers, with a scale for each output, as the int8 graphs do; the rest stays in four bytes.
    """
    total = parameters(architectures, vocab_size=vocab_size)
    if precision == "fp16":
        return 2 * total
    if precision == "fp32":
        return 4 * total
    num_layers, hidden_size, ffn_size, _, qkv_size = architectures.T
    matrices = num_layers * (4 * hidden_size * qkv_size + 2 * hidden_size * ffn_size)
    scales = vocab_size + num_layers * (3 * qkv_size + 2 * hidden_size + ffn_size)
    whole: IntVector = 4 * total - 3 * (matrices + vocab_size * hidden_size) + 4 * scales
    return whole
