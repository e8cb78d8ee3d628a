from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.learner import Learner
from supernet.masked_language import MaskedLanguage, MaskedLanguageHead, uniform_loss
from supernet.model import SuperPLM

MakeSuperPLM = Callable[..., SuperPLM]
SMALL = Architecture(3, 16, 20, 4, 12)
MASK, SPECIAL = 4, (0, 1, 2, 3, 4)


def objective(seed: int = 0) -> MaskedLanguage:
    return MaskedLanguage(special_ids=SPECIAL, mask_id=MASK, vocab_size=100, seed=seed)


def texts(count: int = 64, length: int = 32) -> Batch:
    """[CLS] words [SEP], half of them padded."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 100, (count, length))
    ids[:, 0] = 2
    lengths = np.where(np.arange(count) % 2, length, length // 2)
    ids[np.arange(count), lengths - 1] = 3
    mask = np.arange(length) < lengths[:, None]
    return Batch(torch.from_numpy(np.where(mask, ids, 0)), torch.from_numpy(mask).long())


def learner(make: MakeSuperPLM) -> Learner:
    head = MaskedLanguageHead(24, 100)
    head.initialise(torch.Generator().manual_seed(0), 0.2)
    return Learner(make(), mlm_head=head)


def test_fifteen_per_cent_of_the_words_are_chosen_and_most_of_them_hidden() -> None:
    batch = texts()
    shares = []
    for number in range(20):
        lesson = objective().lesson(batch, number)
        rows, labels = lesson.targets.rows, lesson.targets.labels
        before, after = batch.input_ids.flatten(), lesson.batch.input_ids.flatten()
        words = (batch.mask.flatten() > 0) & ~torch.isin(before, torch.tensor(SPECIAL))
        assert bool(words[rows].all()), "padding and special tokens are never chosen"
        assert torch.equal(before[rows], labels)
        assert len(rows) == round(0.15 * int(words.sum())) == int(lesson.counts)
        changed = torch.ones_like(words)
        changed[rows] = False
        assert torch.equal(before[changed], after[changed])
        shown = after[rows]
        shares.append(
            [float((shown == MASK).float().mean()), float((shown == labels).float().mean())]
        )
    masked, kept = np.mean(shares, axis=0)
    assert masked == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1 + 0.1 / 100, abs=0.02)


def test_what_is_hidden_is_drawn_anew_for_every_number_and_the_same_for_the_same() -> None:
    batch = texts()
    first, again, other = (objective().lesson(batch, number) for number in (5, 5, 6))
    assert torch.equal(first.batch.input_ids, again.batch.input_ids)
    assert not torch.equal(first.targets.rows, other.targets.rows)
    assert not torch.equal(first.targets.rows, objective(seed=1).lesson(batch, 5).targets.rows)
    assert torch.equal(batch.input_ids, texts().input_ids), "the batch itself is left as it was"


def test_a_text_of_one_word_has_it_chosen() -> None:
    batch = Batch(torch.tensor([[2, 9, 3]]), torch.ones(1, 3, dtype=torch.long))
    assert objective().lesson(batch, 0).targets.rows.tolist() == [1]


@pytest.mark.parametrize("shape", [None, SMALL])
def test_the_loss_is_the_cross_entropy_at_chosen_positions_alone(
    make_superplm: MakeSuperPLM, shape: Architecture | None
) -> None:
    found, lesson = learner(make_superplm), objective().lesson(texts(), 0)
    with torch.no_grad():
        sums, _ = found(objective(), lesson, shape)
        hidden = found.student(*lesson.batch, architecture=shape).last_hidden_state
        assert found.mlm_head is not None
        d = hidden.shape[-1]
        own = found.mlm_head.slice(d)
        words = found.student.embeddings.word_embeddings.weight[:, :d]
        everywhere = own(hidden, words)  # [B, S, V]
        logits = everywhere.flatten(0, 1)[lesson.targets.rows]
    expected = F.cross_entropy(logits, lesson.targets.labels, reduction="sum")
    torch.testing.assert_close(sums, expected[None])


def test_a_model_that_knows_nothing_loses_the_logarithm_of_the_vocabulary(
    make_superplm: MakeSuperPLM,
) -> None:
    found, lesson = learner(make_superplm), objective().lesson(texts(), 0)
    with torch.no_grad():
        for parameter in found.mlm_head.parameters() if found.mlm_head else ():
            parameter.zero_()
        sums, _ = found(objective(), lesson)
    assert float(sums / lesson.counts) == pytest.approx(uniform_loss(100), rel=1e-5)


def test_in_place_targets_are_the_largest_slices_distribution(make_superplm: MakeSuperPLM) -> None:
    found, lesson = learner(make_superplm), objective().lesson(texts(), 0)
    with torch.no_grad():
        _, taught = found(objective(), lesson, teaching=True)
        own, _ = found(objective(), taught)
        smaller, _ = found(objective(), taught, SMALL)
    assert float(own) == pytest.approx(0.0, abs=1e-3)
    assert float(smaller) > 1.0
