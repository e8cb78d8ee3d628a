"""The usual road to an ONNX file: `torch.onnx.export`, then ONNX Runtime's optimizer for BERT."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnxruntime.transformers import optimizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from supernet.architecture import Architecture
from supernet.modeling_autotinybert import AutoTinyBertConfig, AutoTinyBertModel
from supernet.onnx_graph import INPUT_NAMES, OUTPUT_NAME


class _Positional(nn.Module):
    """The encoder with its inputs in the order of `INPUT_NAMES`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, words: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """The last hidden state, `[B, S, d]`."""
        output: Tensor = self.model(
            input_ids=words, attention_mask=mask, token_type_ids=segments
        ).last_hidden_state
        return output


def _torch_model(
    architecture: Architecture, weights: Mapping[str, npt.NDArray[np.float32]]
) -> nn.Module:
    common: dict[str, Any] = {
        "vocab_size": len(weights["embeddings.word_embeddings.weight"]),
        "hidden_size": architecture.hidden_size,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "intermediate_size": architecture.ffn_size,
    }
    model: nn.Module
    if architecture.qkv_size == architecture.hidden_size:
        # Attention written out is what the optimizer's fusions look for.
        config = BertConfig(**{**common, "attn_implementation": "eager"})
        model = BertModel(config, add_pooling_layer=False)
    else:
        model = AutoTinyBertModel(AutoTinyBertConfig(**common, qkv_size=architecture.qkv_size))
    model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in weights.items()}, strict=False
    )
    model.train(mode=False)
    return model


def export_usual(
    architecture: Architecture,
    weights: Mapping[str, npt.NDArray[np.float32]],
    inputs: Mapping[str, npt.NDArray[np.int64]],
    folder: Path,
) -> tuple[Path, Path]:
    """Exports an encoder, both axes dynamic.

    Returns:
        The file as exported, and as optimised.
    """
    exported, optimised = folder / "exported.onnx", folder / "optimised.onnx"
    arguments = tuple(torch.from_numpy(inputs[name]) for name in INPUT_NAMES)
    axes = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("sequence", min=2, max=512)}
    logging.disable(logging.WARNING)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Positional(_torch_model(architecture, weights)),
            arguments,
            dynamo=True,
            dynamic_shapes=[axes] * len(arguments),
            input_names=list(INPUT_NAMES),
            output_names=[OUTPUT_NAME],
            opset_version=20,
        )
        assert program is not None
        program.save(str(exported))
        stock = architecture.qkv_size == architecture.hidden_size
        # With another width of the attention the optimizer has to find the heads itself.
        optimizer.optimize_model(
            str(exported),
            model_type="bert",
            num_heads=architecture.num_heads if stock else 0,
            hidden_size=architecture.hidden_size if stock else 0,
        ).save_model_to_file(str(optimised))
    return exported, optimised
