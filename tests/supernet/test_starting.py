from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.corpus import TokenCorpus
from supernet.corpus_preparation import make_corpus
from supernet.distillation import Distillation, measured_spec
from supernet.held_out import HeldOutLoss
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.importance import ChannelOrder
from supernet.starting import (
    check_corpus,
    learner_from_random,
    learner_from_teacher,
    learner_in_order,
    training_batches,
)
from supernet.supernet_folder import teacher_of
from supernet.tokenizer_files import read_tokenizer_files

SMALL = Architecture(1, 8, 16, 4, 8)


@pytest.fixture
def read(teacher: Path) -> BertFolder:
    return read_bert_folder(teacher)


@pytest.fixture
def corpus(text: Path, teacher: Path) -> TokenCorpus:
    return make_corpus(str(text), teacher, sequence_length=32)


def batches(corpus: TokenCorpus) -> Callable[[int], Batch]:
    return training_batches(corpus, batch_size=8, seed=0)


def distil(read: BertFolder, corpus: TokenCorpus) -> Distillation:
    teacher = teacher_of(read, "kd")
    calibration = map(batches(corpus), range(8))
    spec = measured_spec(teacher, calibration, name="kd", attention="scores", relation_heads=None)
    return Distillation(teacher, spec)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_student_from_a_teacher_begins_as_the_teacher(
    read: BertFolder, corpus: TokenCorpus, *, ordered: bool
) -> None:
    learner = learner_from_teacher(read, batches(corpus), ordered=ordered)
    held_out = HeldOutLoss(distil(read, corpus), corpus.splits["search"])
    assert held_out(learner).loss < 1e-6
    assert held_out(learner, SMALL).loss > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_channels_is_undone_by_the_projection(
    read: BertFolder, corpus: TokenCorpus, seed: int
) -> None:
    torch.manual_seed(seed)
    layers, heads = range(3), range(4)

    def within_heads() -> torch.Tensor:
        return torch.cat([torch.randperm(6) + 6 * head for head in heads])

    order = ChannelOrder(
        hidden=torch.randperm(24),
        ffn=tuple(torch.randperm(48) for _ in layers),
        query_key=tuple(within_heads() for _ in layers),
        value=tuple(within_heads() for _ in layers),
    )
    learner = learner_in_order(read, order, depth_rule="first")
    held_out = HeldOutLoss(distil(read, corpus), corpus.splits["test"])
    assert held_out(learner).loss < 1e-6


def test_important_channels_first_make_better_slices(
    save_teacher: Callable[..., Any], tmp_path: Path, text: Path
) -> None:
    """In a teacher whose channels differ in size, as those of trained ones do."""
    peer = save_teacher(tmp_path / "uneven", num_hidden_layers=1)
    with torch.no_grad():
        scale = torch.linspace(0.1, 2, 24)
        for name, parameter in peer.named_parameters():
            if "LayerNorm" in name:
                parameter.mul_(scale)
    peer.save_pretrained(tmp_path / "uneven")
    read = read_bert_folder(tmp_path / "uneven")
    corpus = make_corpus(str(text), tmp_path / "uneven", sequence_length=32)
    held_out = HeldOutLoss(distil(read, corpus), corpus.splits["search"])
    slice_ = Architecture(1, 12, 48, 4, 24)
    with_order, without = (
        held_out(learner_from_teacher(read, batches(corpus), ordered=ordered), slice_).terms[
            "hidden"
        ]
        for ordered in (True, False)
    )
    assert with_order < 0.8 * without


def test_a_student_from_random_weights_has_any_shape_and_follows_from_the_seed(
    read: BertFolder,
) -> None:
    largest = Architecture(5, 40, 20, 4, 12)
    config = replace(read.config, largest=largest)
    first, second, other = (
        learner_from_random(config, teacher=read, seed=seed) for seed in (1, 1, 2)
    )
    assert first.student.config.largest == largest
    assert first.head_tensors()["projection.weight"].shape == (24, 40)
    for (name, value), same, different in zip(
        first.named_parameters(), second.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(value, same)
        assert ("LayerNorm" in name or "bias" in name) == torch.equal(value, different)


def test_a_teacher_that_says_the_same_of_every_token_is_refused(
    read: BertFolder, corpus: TokenCorpus
) -> None:
    nothing = {name: torch.zeros_like(value) for name, value in read.weights.items()}
    with pytest.raises(InputError, match="says the same of every text"):
        distil(replace(read, weights=nothing), corpus)


class TestCheckCorpus:
    def test_the_teachers_own_is_accepted(self, read: BertFolder, corpus: TokenCorpus) -> None:
        check_corpus(corpus, read.config, read_tokenizer_files(read.path), read.path)

    @pytest.mark.parametrize(
        "change",
        [
            {"facts": {}},
            {"facts": {"tokenizer_file": "tokenizer.json", "tokenizer_sha256": "0" * 64}},
            {"facts": {"tokenizer_file": "vocab.txt", "tokenizer_sha256": "0" * 64}},
            {"vocab_size": 10_000},
        ],
        ids=["unknown", "other content", "other file", "larger"],
    )
    def test_one_of_another_tokenizer_is_refused(
        self, read: BertFolder, corpus: TokenCorpus, change: Mapping[str, Any]
    ) -> None:
        with pytest.raises(InputError, match=r"another tokenizer .* prepare-corpus --teacher"):
            check_corpus(
                replace(corpus, **change), read.config, read_tokenizer_files(read.path), read.path
            )

    def test_sequences_longer_than_its_positions_are_refused(
        self, read: BertFolder, corpus: TokenCorpus
    ) -> None:
        longer = replace(corpus, sequence_length=65)
        with pytest.raises(InputError, match=r"sequences of 65 tokens .* reads up to 64; choose"):
            check_corpus(longer, read.config, read_tokenizer_files(read.path), read.path)
