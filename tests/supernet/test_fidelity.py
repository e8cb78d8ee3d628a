"""One architecture, one function: as a slice, extracted, as ONNX, and in transformers.

The spaces are those of the package, clipped to SuperPLMs that are small enough for hundreds of
shapes in minutes, and one with every number of heads and odd sizes throughout.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supernet import modeling_autotinybert
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.distillation import Distillation, Teacher
from supernet.elastic import DepthRule
from supernet.encoder import Encoder
from supernet.extraction import as_model, extract
from supernet.heads import HEAD_KINDS, SPAN_LABELS, HeadKind
from supernet.learner import Learner
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.model_config import model_config
from supernet.model_folder import huggingface_weights, onnx_content
from supernet.objectives import ObjectiveSpec
from supernet.space import Space, axis_values, hf_native_space, kd_space, mlm_space
from supernet.stock_form import stock_architecture
from supernet.task_head import TaskHead
from supernet.training import TrainingSettings, TrainingState, shapes_of_batch, train
from supernet.variants import GRAPH_VARIANTS, GraphVariant

Array = npt.NDArray[np.float32]
Inputs = tuple[Tensor, Tensor, Tensor]

VOCAB_SIZE = 97
MAX_POSITIONS = 24
TOLERANCE = 1e-5

ODD = Space(
    name="odd",
    num_layers=(1, 2, 3, 5),
    hidden_sizes=axis_values(17, 71, 1),
    ffn_sizes=axis_values(9, 95, 1),
    num_heads=axis_values(1, 12, 1),
    qkv_rule="free",
    qkv_sizes=axis_values(1, 83, 1),
)
# Each space and the SuperPLM that it is clipped to.
SPACES = (
    (kd_space(), Architecture(5, 160, 192, 12, 264)),
    (mlm_space(), Architecture(5, 148, 160, 12, 768)),
    (hf_native_space(), Architecture(5, 156, 160, 12, 768)),
    (ODD, Architecture(5, 71, 95, 12, 84)),
)
RULES: tuple[DepthRule, ...] = get_args(DepthRule)
LABELS: dict[HeadKind, tuple[str, ...]] = {
    "classification": ("no", "yes", "maybe"),
    "regression": ("score",),
    "span": SPAN_LABELS,
}


def randomise(module: nn.Module, seed: int) -> None:
    """Weights large enough for attention to be far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(0.0, 0.08, generator=generator)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1.0)


@functools.cache
def superplm(largest: Architecture, rule: DepthRule) -> SuperPLM:
    config = SuperPLMConfig(
        largest=largest, depth_rule=rule, vocab_size=VOCAB_SIZE, max_positions=MAX_POSITIONS
    )
    model = SuperPLM(config)
    randomise(model, 1)
    return model


@functools.cache
def head_of(largest: Architecture, kind: HeadKind) -> TaskHead:
    head = TaskHead(kind, largest.hidden_size, LABELS[kind])
    randomise(head, 2)
    return head


def tokens(seed: int = 0) -> Inputs:
    """Ids, mask and segments of three sequences: full, half padded, and one token."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(11) < np.array([[11], [5], [1]])).astype(np.int64)
    ids, segments = rng.integers(0, VOCAB_SIZE, (3, 11)), rng.integers(0, 2, (3, 11))
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(segments)


def onnx_run(encoder: Encoder, variant: GraphVariant) -> Callable[[Inputs], Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_content(encoder, variant=variant, precision="fp32"),
        options,
        providers=["CPUExecutionProvider"],
    )
    names = ("input_ids", "attention_mask", "token_type_ids")

    def run(batch: Inputs) -> Array:
        feed = {name: value.numpy() for name, value in zip(names, batch, strict=True)}
        return np.asarray(session.run(None, feed)[0])

    return run


def huggingface_model(encoder: Encoder) -> Any:
    """What a model folder's two files make: no weight is missing and none is left over."""
    stock = stock_architecture(encoder.architecture)
    document = model_config(encoder, stock, pad_token_id=0)
    (name,) = document["architectures"]
    options: dict[str, Any] = {} if encoder.head or not stock else {"add_pooling_layer": False}
    home: Any = transformers if stock else modeling_autotinybert
    config = home.BertConfig if stock else home.AutoTinyBertConfig
    model = getattr(home, name)(config.from_dict(document), **options)
    weights = huggingface_weights(encoder, stock)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return model.train(False)


def huggingface_output(encoder: Encoder, batch: Inputs) -> Array:
    ids, mask, segments = batch
    found = huggingface_model(encoder)(ids, attention_mask=mask, token_type_ids=segments)
    if encoder.head is None:
        output = found.last_hidden_state
    elif encoder.head.kind == "span":
        output = torch.stack([found.start_logits, found.end_logits], dim=-1)
    else:
        output = found.logits
    return np.asarray(output.numpy())


def every_output(
    model: SuperPLM, architecture: Architecture, head: TaskHead | None
) -> Iterator[tuple[str, Array]]:
    """The slice's output, then that of every form into which it is brought."""
    batch = tokens()
    encoder = extract(model, architecture)
    if head is not None:
        encoder = replace(encoder, head=head.extract(architecture.hidden_size))
    hidden = model(*batch, architecture=architecture).last_hidden_state
    yield "slice", np.asarray((head(hidden) if head else hidden).numpy())
    hidden = as_model(encoder)(*batch).last_hidden_state
    own = TaskHead.from_head(encoder.head) if encoder.head else None
    yield "extracted", np.asarray((own(hidden) if own else hidden).numpy())
    for variant in GRAPH_VARIANTS:
        yield variant, onnx_run(encoder, variant)(batch)
    yield "transformers", huggingface_output(encoder, batch)


def sampled(count: int) -> Iterator[tuple[SuperPLM, Architecture, HeadKind]]:
    """As many shapes as asked for, of every space under every depth rule in turn."""
    rng = np.random.default_rng(count)
    places = list(itertools.product(SPACES, RULES))
    draws = -(-count // len(places))
    drawn = [space.clipped(largest).sample(rng, draws) for (space, largest), _ in places]
    for index in range(count):
        turn, place = divmod(index, len(places))
        (_, largest), rule = places[place]
        yield superplm(largest, rule), drawn[place][turn], HEAD_KINDS[turn % len(HEAD_KINDS)]


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_slice_equals_extracted_equals_onnx_equals_transformers(count: int) -> None:
    with torch.no_grad():
        for model, architecture, kind in sampled(count):
            for head in (None, head_of(model.config.largest, kind)):
                outputs = every_output(model, architecture, head)
                _, expected = next(outputs)
                for form, found in outputs:
                    told = f"{architecture} {model.config.depth_rule} {kind if head else ''} {form}"
                    assert found.shape == expected.shape, told
                    assert np.abs(found - expected).max() <= TOLERANCE, told


def test_the_shapes_that_are_compared_are_of_every_kind() -> None:
    cases = list(sampled(50))
    shapes = [shape for _, shape, _ in cases]
    assert len(set(shapes)) == 50
    assert {model.config.depth_rule for model, _, _ in cases} == set(RULES)
    assert {kind for _, _, kind in cases} == set(HEAD_KINDS)
    assert {stock_architecture(shape) is None for shape in shapes} == {True, False}
    assert any(shape.head_size % 2 for shape in shapes)
    assert any(shape.qkv_size > shape.hidden_size for shape in shapes)
    heads = {shape.num_heads for _, shape, _ in sampled(1000)}
    assert heads == set(range(1, 13))


@st.composite
def odd_shapes(draw: st.DrawFn) -> Architecture:
    largest = SPACES[-1][1]
    heads = draw(st.integers(1, largest.num_heads))
    return Architecture(
        draw(st.integers(1, 3)),
        draw(st.integers(1, largest.hidden_size)),
        draw(st.integers(1, largest.ffn_size)),
        heads,
        heads * draw(st.integers(1, largest.head_size)),
    )


@settings(max_examples=25, deadline=None)
@given(
    architecture=odd_shapes(),
    kind=st.sampled_from((None, *HEAD_KINDS)),
    variant=st.sampled_from(GRAPH_VARIANTS),
    seed=st.integers(1, 1000),
    longer=st.integers(0, MAX_POSITIONS - 11),
)
def test_a_padded_token_never_changes_another_ones_output(
    architecture: Architecture,
    kind: HeadKind | None,
    variant: GraphVariant,
    seed: int,
    longer: int,
) -> None:
    largest = SPACES[-1][1]
    encoder = extract(superplm(largest, "first"), architecture)
    if kind is not None:
        encoder = replace(encoder, head=head_of(largest, kind).extract(architecture.hidden_size))
    ids, mask, segments = tokens()
    others, _, other_segments = tokens(seed)
    kept = mask.bool()
    changed = (
        torch.where(kept, ids, others),
        mask,
        torch.where(kept, segments, other_segments),
    )
    extended = (
        nn.functional.pad(changed[0], (0, longer), value=seed % VOCAB_SIZE),
        nn.functional.pad(mask, (0, longer)),
        nn.functional.pad(changed[2], (0, longer), value=1),
    )

    def in_torch(batch: Inputs) -> Array:
        with torch.no_grad():
            hidden = as_model(encoder)(*batch).last_hidden_state
            own = TaskHead.from_head(encoder.head) if encoder.head else None
            return np.asarray((own(hidden) if own else hidden).numpy())

    per_token = kind in (None, "span")
    for run in (in_torch, onnx_run(encoder, variant)):
        expected, same, longest = (run(each) for each in ((ids, mask, segments), changed, extended))
        if per_token:
            where = kept.numpy()
            expected, same, longest = expected[where], same[where], longest[:, :11][where]
        np.testing.assert_array_equal(same, expected)
        np.testing.assert_allclose(longest, expected, atol=TOLERANCE, rtol=0)


def trained(seed: int) -> dict[str, Tensor]:
    """A SuperPLM's weights two steps after they were drawn."""
    largest = Architecture(3, 24, 40, 4, 32)
    config = SuperPLMConfig(
        largest=largest, depth_rule="first", vocab_size=VOCAB_SIZE, max_positions=MAX_POSITIONS
    )
    model, teacher = SuperPLM(config), superplm(largest, "first")
    generator = torch.Generator().manual_seed(seed)
    model.initialise(generator)
    projection = nn.Linear(24, 24)
    with torch.no_grad():
        projection.weight.normal_(0.0, 0.02, generator=generator)
        projection.bias.zero_()
    space = Space(
        name="small",
        num_layers=(1, 2, 3),
        hidden_sizes=(8, 16, 24),
        ffn_sizes=(16, 40),
        num_heads=(4,),
        qkv_rule="free",
        qkv_sizes=(8, 16, 32),
    )
    state = TrainingState(Learner(model, projection=projection))
    spec = ObjectiveSpec(name="kd", attention="scores", units={"scores": 1.0, "hidden": 1.0})
    told = TrainingSettings(steps=2, seed=seed)
    ids, mask, _ = tokens()
    ticks = itertools.count(0.0, 1.0)
    train(
        state,
        Distillation(Teacher(teacher), spec),
        lambda _: Batch(ids, mask),
        lambda number: shapes_of_batch(space, largest, told, number),
        told,
        clock_s=lambda: next(ticks),
        on_step=lambda _: None,
    )
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    first, again, other = trained(3), trained(3), trained(4)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not any(
        torch.equal(value, other[name])
        for name, value in first.items()
        if name.endswith("dense.weight")
    )
