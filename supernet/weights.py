"""An encoder's weights: their names and shapes, as `BertModel.state_dict()` has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.cost import MAX_POSITIONS, TYPE_VOCAB_SIZE, VOCAB_SIZE
from supernet.variants import SUB_LAYERS, Part

FloatArray = npt.NDArray[np.float32]

LAYER_NORM_EPSILON = 1e-12  # BERT's


def weight_shapes(
    architecture: Architecture,
    *,
    vocab_size: int = VOCAB_SIZE,
    max_positions: int = MAX_POSITIONS,
    part: Part = "encoder",
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an encoder's weights as `BertModel.state_dict()` has them.

    Linear weights are `[out, in]`. There is no pooler. A part has those of its sub-layers only.
    """
    d, f, q = architecture.hidden_size, architecture.ffn_size, architecture.qkv_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocab_size, d),
        "embeddings.position_embeddings.weight": (max_positions, d),
        "embeddings.token_type_embeddings.weight": (TYPE_VOCAB_SIZE, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for index in range(architecture.num_layers):
        layer = f"encoder.layer.{index}."
        for kind, name, out_size, in_size in (
            ("attention", "attention.self.query", q, d),
            ("attention", "attention.self.key", q, d),
            ("attention", "attention.self.value", q, d),
            ("attention", "attention.output.dense", d, q),
            ("ffn", "intermediate.dense", f, d),
            ("ffn", "output.dense", d, f),
        ):
            if kind in SUB_LAYERS[part]:
                shapes[f"{layer}{name}.weight"] = (out_size, in_size)
                shapes[f"{layer}{name}.bias"] = (out_size,)
        for kind, name in (
            ("attention", "attention.output.LayerNorm"),
            ("ffn", "output.LayerNorm"),
        ):
            if kind in SUB_LAYERS[part]:
                shapes[f"{layer}{name}.weight"] = (d,)
                shapes[f"{layer}{name}.bias"] = (d,)
    return shapes


def table_sizes(weights: Mapping[str, FloatArray]) -> tuple[int, int]:
    """The rows of the word and of the position embedding.

    Raises:
        InputError: if either is missing, or is no table.
    """
    sizes: list[int] = []
    for table in ("word_embeddings", "position_embeddings"):
        name = f"embeddings.{table}.weight"
        if name not in weights:
            raise InputError(f"the weights lack {name}: name them as BertModel.state_dict() does")
        shape = weights[name].shape
        if len(shape) != 2:
            raise InputError(f"weight {name} has shape {list(shape)}: it must be rows of a table")
        sizes.append(shape[0])
    return sizes[0], sizes[1]


def check_weights(
    shapes: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, FloatArray],
    architecture: Architecture,
) -> None:
    """Checks that weights are there and have the shapes that an architecture needs.

    Raises:
        InputError: naming the first that is missing or has another shape.
    """
    for name, shape in shapes.items():
        if name not in weights:
            raise InputError(f"the weights lack {name}, which {architecture} needs")
        if weights[name].shape != shape:
            raise InputError(
                f"weight {name} has shape {list(weights[name].shape)}, "
                f"but {architecture} needs {list(shape)}"
            )
