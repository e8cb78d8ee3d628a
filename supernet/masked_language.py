"""Masked-language modelling: BERT's objective, for a SuperPLM and its slices.

15 % of the tokens are chosen: of these 80 % become [MASK], 10 % a random token, 10 % stay (Devlin
et al., 2019, section 3.1). Special tokens are never chosen. Which ones is drawn anew for every
batch number, and so anew in every epoch; the same number always draws the same. Logits are computed
at the chosen positions only, by a head that is tied to the word embedding.

The loss is the cross-entropy in nats per chosen token. A slice that is taught by the largest one
has its distribution as target, and the loss is the divergence from it.

Shape letters: B batch size, S sequence length, d hidden size of the slice, V vocabulary size, M
chosen tokens of a batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.batch import Batch
from supernet.elastic import layer_norm, linear
from supernet.objectives import Lesson, ObjectiveSpec, in_full

if TYPE_CHECKING:
    from supernet.learner import Learner
    from supernet.model import EncoderOutput

CHOSEN_SHARE = 0.15
_MASKED_SHARE, _RANDOM_SHARE = 0.8, 0.1


class MaskedLanguageHead(nn.Module):
    """BERT's head for masked tokens; the decoder's weights are the word embedding.

    Args:
        hidden_size: of the widest slice that it stands on.
        vocab_size: V.
        epsilon: of its LayerNorm.
    """

    def __init__(self, hidden_size: int, vocab_size: int, epsilon: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=epsilon)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Logits `[M, V]` of hidden states `[M, d]`; `words` is the word embedding `[V, D]`."""
        size = hidden.shape[-1]
        transformed = layer_norm(F.gelu(linear(hidden, self.dense, size)), self.LayerNorm)
        return F.linear(transformed, words[:, :size], self.bias)

    def initialise(self, generator: torch.Generator, deviation: float = 0.02) -> None:
        """Draws BERT's initial weights."""
        with torch.no_grad():
            self.dense.weight.normal_(0.0, deviation, generator=generator)
            for zero in (self.dense.bias, self.LayerNorm.bias, self.bias):
                zero.zero_()
            self.LayerNorm.weight.fill_(1.0)

    @torch.no_grad()
    def slice(self, hidden_size: int) -> MaskedLanguageHead:
        """The head of a slice, with weights of its own."""
        part = MaskedLanguageHead(hidden_size, len(self.bias), self.LayerNorm.eps)
        part.dense.weight.copy_(self.dense.weight[:hidden_size, :hidden_size])
        part.dense.bias.copy_(self.dense.bias[:hidden_size])
        part.LayerNorm.weight.copy_(self.LayerNorm.weight[:hidden_size])
        part.LayerNorm.bias.copy_(self.LayerNorm.bias[:hidden_size])
        part.bias.copy_(self.bias)
        return part


@dataclass(frozen=True)
class MaskedTargets:
    """What was hidden.

    Attributes:
        rows: where the chosen tokens stand in the flattened batch, `[M]`.
        labels: what they were, `[M]`.
        log_probabilities: of a larger slice instead of the labels, `[M, V]`, or None.
    """

    rows: Tensor
    labels: Tensor
    log_probabilities: Tensor | None = None


class MaskedLanguage:
    """See the module; an `Objective`.

    Args:
        special_ids: tokens that are never chosen.
        mask_id: the id of [MASK].
        vocab_size: random tokens are drawn below it.
        seed: of the choices.
    """

    term_names: tuple[str, ...] = ("mlm",)
    needs_scores = False
    needs_parts = False

    def __init__(
        self, *, special_ids: Collection[int], mask_id: int, vocab_size: int, seed: int
    ) -> None:
        self.spec = ObjectiveSpec(name="mlm")
        self._special = np.array(sorted(special_ids))
        self._mask_id, self._vocab_size, self._seed = mask_id, vocab_size, seed

    def lesson(self, batch: Batch, number: int) -> Lesson:
        """Hides some tokens of a batch."""
        rng = np.random.default_rng([self._seed, 3, number])
        ids = batch.input_ids.cpu().numpy()
        candidates = np.flatnonzero(
            (batch.mask.cpu().numpy() > 0).ravel() & ~np.isin(ids, self._special).ravel()
        )
        # At least one: a batch of very short texts would have none otherwise.
        count = min(len(candidates), max(1, round(CHOSEN_SHARE * len(candidates))))
        rows = np.sort(rng.choice(candidates, count, replace=False))
        labels = ids.ravel()[rows]
        fate = rng.random(count)
        shown = np.where(fate < _MASKED_SHARE, self._mask_id, labels)
        at_random = rng.integers(0, self._vocab_size, count)
        shown = np.where(fate >= 1 - _RANDOM_SHARE, at_random, shown)
        hidden = ids.copy()
        hidden.reshape(-1)[rows] = shown
        device = batch.input_ids.device
        targets = MaskedTargets(
            torch.from_numpy(rows).to(device), torch.from_numpy(labels).long().to(device)
        )
        masked = batch._replace(input_ids=torch.from_numpy(hidden).to(device))
        return Lesson(masked, torch.tensor([float(count)], dtype=torch.float64), targets)

    def sums(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> dict[str, Tensor]:
        """The sum of the cross-entropy over chosen tokens."""
        targets = lesson.targets
        assert isinstance(targets, MaskedTargets)
        logits = self._logits(output, learner, targets)
        if targets.log_probabilities is None:
            return {"mlm": F.cross_entropy(logits, targets.labels, reduction="sum")}
        own, told = logits.log_softmax(-1), targets.log_probabilities
        return {"mlm": F.kl_div(own, told, reduction="sum", log_target=True)}

    def taught_by(self, output: EncoderOutput, learner: Learner, lesson: Lesson) -> Lesson:
        """The lesson as the largest slice tells it."""
        with torch.no_grad():
            told = self._logits(output, learner, lesson.targets).log_softmax(-1)
        targets = dataclasses.replace(lesson.targets, log_probabilities=told)
        return dataclasses.replace(lesson, targets=targets)

    def _logits(self, output: EncoderOutput, learner: Learner, targets: MaskedTargets) -> Tensor:
        assert learner.mlm_head is not None, "masked-language modelling needs its head"
        hidden = output.last_hidden_state.flatten(0, 1)[targets.rows]
        words = learner.student.embeddings.word_embeddings.weight
        return in_full(learner.mlm_head(hidden, words))


def uniform_loss(vocab_size: int) -> float:
    """The loss of a model that knows nothing, in nats."""
    return math.log(vocab_size)
