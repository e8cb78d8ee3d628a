from __future__ import annotations

import math

import numpy as np
import pytest

from supernet.architecture import Architecture, to_matrix
from supernet.cost import flops, parameters, weight_bytes
from supernet.onnx_graph import build_encoder
from supernet.space import kd_space
from supernet.variants import PRECISIONS
from supernet.weights import weight_shapes


def test_parameters_of_bert_base_are_the_published_110_million() -> None:
    bert_base = to_matrix([Architecture(12, 768, 3072, 12, 768)])
    assert parameters(bert_base, pooler=True).tolist() == [109_482_240]


def test_parameters_equal_the_sizes_of_the_graphs_weights() -> None:
    architectures = kd_space().sample(np.random.default_rng(0), 20)
    counted = [
        sum(math.prod(shape) for shape in weight_shapes(architecture).values())
        for architecture in architectures
    ]
    assert parameters(to_matrix(architectures)).tolist() == counted


def test_flops_count_two_for_each_multiply_add_of_each_product() -> None:
    # 1 layer, d 2, f 3, 1 head, q 4; batch 5, sequence 7: products written out one by one.
    expected = 0
    for rows, inner, columns in (
        (7, 2, 4),  # query
        (7, 2, 4),  # key
        (7, 2, 4),  # value
        (7, 4, 7),  # scores
        (7, 7, 4),  # context
        (7, 4, 2),  # output
        (7, 2, 3),  # FFN in
        (7, 3, 2),  # FFN out
    ):
        expected += 2 * rows * inner * columns
    matrix = to_matrix([Architecture(1, 2, 3, 1, 4)])
    assert flops(matrix, batch_size=5, sequence_length=7).tolist() == [5 * expected]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_costs_are_one_per_row(count: int) -> None:
    matrix = to_matrix(kd_space().sample(np.random.default_rng(0), count))
    for cost in (parameters(matrix), flops(matrix), weight_bytes(matrix)):
        assert cost.shape == (count,)
        assert cost.dtype == np.int64
        assert (cost > 0).all()


def test_bytes_follow_the_precision() -> None:
    matrix = to_matrix([Architecture(4, 312, 1200, 12, 312)])
    total = parameters(matrix)
    products = 4 * (4 * 312 * 312 + 2 * 312 * 1200)
    assert (weight_bytes(matrix) == 4 * total).all()
    assert (weight_bytes(matrix, "fp16") == 2 * total).all()
    whole = products + 30522 * 312  # a byte each, the word embedding among them
    scales = 4 * (4 * 312 + 1200 + 312) + 30522
    assert (weight_bytes(matrix, "int8") == 4 * (total - whole) + whole + 4 * scales).all()


def test_bytes_are_those_of_the_weights_that_the_graphs_store() -> None:
    for precision in PRECISIONS:
        architecture = Architecture(2, 36, 50, 3, 51)
        graph = build_encoder(architecture, precision=precision)
        stored = sum(math.prod(w.shape) * w.dtype.itemsize for w in graph.weights.values())
        assert weight_bytes(to_matrix([architecture]), precision)[0] == stored
