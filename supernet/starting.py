"""How a training begins: from a teacher's weights, or from random ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from autotinybert.errors import InputError
from autotinybert.files import sha256_bytes
from supernet.batch import Batch, as_batch
from supernet.batches import BatchOrder
from supernet.corpus import TokenCorpus
from supernet.elastic import DepthRule
from supernet.huggingface import BertFolder
from supernet.importance import ChannelOrder, channel_order, reorder
from supernet.learner import Learner, random_projection
from supernet.masked_language import MaskedLanguageHead
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import AttentionLoss, ObjectiveName
from supernet.space import Space
from supernet.task_head import TaskHead

Start = Literal["teacher", "random"]
STARTS: tuple[Start, ...] = get_args(Start)

# Batches that the teacher's variance and the order of channels are taken from: with 32 sequences
# of 64 tokens each, 16,000 tokens, which fixes both within a few per cent.
CALIBRATION_BATCHES = 8


@dataclass(frozen=True)
class StartingPoint:
    """What a SuperPLM begins as.

    Attributes:
        objective: what it learns.
        teacher: its teacher; None if there is none.
        source: the folder of the tokenizer.
        start: whose weights it begins with.
        config: its own shape, and how its slices choose layers.
        space: what its slices are.
        attention: what a distillation compares of the attention; None for words.
    """

    objective: ObjectiveName
    teacher: BertFolder | None
    source: Path
    start: Start
    config: SuperPLMConfig
    space: Space
    attention: AttentionLoss | None


def check_corpus(
    corpus: TokenCorpus, config: SuperPLMConfig, tokenizer: Mapping[str, bytes], source: object
) -> None:
    """Refuses a corpus of another tokenizer, or sequences longer than a model's positions.

    Args:
        corpus: the corpus.
        config: whose word embedding has a row for every token of its own tokenizer.
        tokenizer: its tokenizer files by name.
        source: where the tokenizer stands.

    Raises:
        InputError: saying which.
    """
    name = corpus.facts.get("tokenizer_file")
    content = tokenizer.get(str(name))
    if (
        content is None
        or sha256_bytes(content) != corpus.facts.get("tokenizer_sha256")
        or corpus.vocab_size > config.vocab_size
    ):
        raise InputError(
            f"the corpus was made with another tokenizer ({name}, {corpus.vocab_size} tokens) than "
            f"the one in {source}: make it again with prepare-corpus --teacher {source}"
        )
    check_positions(corpus.sequence_length, config, source)


def check_positions(sequence_length: int, config: SuperPLMConfig, source: object) -> None:
    """Refuses sequences that are longer than what a model reads.

    Raises:
        InputError: naming both lengths.
    """
    if sequence_length > config.max_positions:
        raise InputError(
            f"sequences of {sequence_length} tokens are too long for the teacher in {source}: it "
            f"reads up to {config.max_positions}; choose a shorter --sequence-length"
        )


def training_batches(corpus: TokenCorpus, *, batch_size: int, seed: int) -> Callable[[int], Batch]:
    """The training batch of a number, the same whenever it is asked for."""
    split = corpus.splits["train"]
    order = BatchOrder(split.lengths, batch_size=batch_size, seed=seed)
    return lambda number: as_batch(split, order.indices(number))


def learner_from_teacher(
    teacher: BertFolder,
    batch_of: Callable[[int], Batch],
    *,
    objective: ObjectiveName = "kd",
    depth_rule: DepthRule = "evenly-spaced",
    ordered: bool = True,
    order_heads: bool = False,
    seed: int = 0,
) -> Learner:
    """A SuperPLM that is the teacher, with what its objective needs on it.

    Args:
        teacher: whose weights it starts from, heads included where it has them.
        batch_of: text to judge the importance of channels by.
        objective: what it is to learn.
        depth_rule: how shallower slices choose layers.
        ordered: put important channels first; without it they stay as the teacher has them.
        order_heads: put important heads first, too: for spaces whose slices have fewer.
        seed: of what the teacher does not have.

    Raises:
        InputError: if the teacher is no encoder that slices can be taken of.
    """
    if teacher.cannot_start is not None:
        raise InputError(f"{teacher.path}: {teacher.cannot_start}; use --start random")
    order = None
    if ordered:
        batches = map(batch_of, range(CALIBRATION_BATCHES))
        order = channel_order(teacher.model(), batches, order_heads=order_heads)
    return learner_in_order(teacher, order, objective=objective, depth_rule=depth_rule, seed=seed)


def learner_in_order(
    teacher: BertFolder,
    order: ChannelOrder | None,
    *,
    objective: ObjectiveName = "kd",
    depth_rule: DepthRule,
    seed: int = 0,
) -> Learner:
    """A SuperPLM that is the teacher with its channels in some order, and the way back.

    Args:
        teacher: whose weights it starts from.
        order: of its channels; None leaves them as they are.
        objective: what it is to learn.
        depth_rule: how shallower slices choose layers.
        seed: of what the teacher does not have.
    """
    size = teacher.config.largest.hidden_size
    weights = teacher.weights if order is None else reorder(teacher.weights, order)
    hidden = torch.arange(size) if order is None else order.hidden
    config = dataclasses.replace(teacher.config, depth_rule=depth_rule)
    student = SuperPLM.from_weights(config, weights)
    generator = torch.Generator().manual_seed(seed)
    if objective == "mlm":
        return Learner(student, mlm_head=_mlm_head(teacher, hidden, generator))
    projection = nn.Linear(size, size)
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.zero_()
        projection.weight[hidden, torch.arange(size)] = 1.0
    head = _task_head(teacher.task_head(), hidden) if objective == "task" else None
    return Learner(student, projection=projection, task_head=head)


def learner_from_random(
    config: SuperPLMConfig,
    *,
    teacher: BertFolder | None = None,
    objective: ObjectiveName = "kd",
    seed: int,
) -> Learner:
    """A SuperPLM with random weights, and random heads on it.

    Args:
        config: its shape and slicing rule.
        teacher: whose width the projection reaches, and whose task it learns.
        objective: what it is to learn.
        seed: of all weights.
    """
    generator = torch.Generator().manual_seed(seed)
    student = SuperPLM(config)
    student.initialise(generator)
    size = config.largest.hidden_size
    if objective == "mlm":
        head = MaskedLanguageHead(size, config.vocab_size, config.layer_norm_epsilon)
        head.initialise(generator)
        return Learner(student, mlm_head=head)
    assert teacher is not None, "distillation has a teacher"
    projection = random_projection(size, teacher.config.largest.hidden_size, generator)
    task_head = None
    if objective == "task":
        found = teacher.task_head()
        task_head = TaskHead(found.kind, size, found.labels)
        task_head.initialise(generator)
    return Learner(student, projection=projection, task_head=task_head)


@torch.no_grad()
def _task_head(head: TaskHead, hidden: Tensor) -> TaskHead:
    """A teacher's head for channels in a new order; its own pooled ones in order of weight."""
    own = TaskHead(head.kind, len(hidden), head.labels)
    found = {name: value.detach() for name, value in head.named_parameters()}
    if head.kind == "span":
        found["qa_outputs.weight"] = found["qa_outputs.weight"][:, hidden]
    else:
        pooled = found["classifier.weight"].square().sum(0).argsort(descending=True, stable=True)
        found["pooler.dense.weight"] = found["pooler.dense.weight"][pooled][:, hidden]
        found["pooler.dense.bias"] = found["pooler.dense.bias"][pooled]
        found["classifier.weight"] = found["classifier.weight"][:, pooled]
    own.load_state_dict(found)
    return own


@torch.no_grad()
def _mlm_head(
    teacher: BertFolder, hidden: Tensor, generator: torch.Generator
) -> MaskedLanguageHead:
    """A teacher's masked-language head for channels in a new order; a random one if it has none."""
    config = teacher.config
    own = MaskedLanguageHead(len(hidden), config.vocab_size, config.layer_norm_epsilon)
    found = teacher.mlm_head
    if found is None:
        own.initialise(generator)
        return own
    own.load_state_dict(
        {
            "dense.weight": found["dense.weight"][hidden][:, hidden],
            "dense.bias": found["dense.bias"][hidden],
            "LayerNorm.weight": found["LayerNorm.weight"][hidden],
            "LayerNorm.bias": found["LayerNorm.bias"][hidden],
            "bias": found["bias"],
        }
    )
    return own
