"""The work of `finetune-model`: every run of a grid, and the answers of the best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.distributed import Group
from supernet.encoder import Encoder, load_encoder, save_encoder
from supernet.tasks.encoding import EncodedExamples, encode_examples
from supernet.tasks.examples import TaskData
from supernet.tasks.finetune_grid import FinetuneSettings
from supernet.tasks.finetune_results import Results, Run, save_results
from supernet.tasks.finetuning import finetune, predict, training_settings
from supernet.tasks.metrics import answers, bootstrap_interval, scores
from supernet.tasks.task_examples import TaskExamples
from supernet.tasks.task_files import write_answers
from supernet.tokenizer import load_tokenizer
from supernet.training_report import progress_line

# What stands in an encoder's document of files that are not copied with it.
_LEFT_BEHIND = ("heads", "projection")


class FinetuneJob:
    """Fine-tunes an encoder with several settings, into a folder that is already there.

    Args:
        out: the folder.
        encoder: what is trained.
        extra: what was kept beside it.
        examples: of all files.
        model: the folder with its tokenizer.
        sequence_length: the most tokens of an example.
        group: one process alone; its device computes.
    """

    def __init__(
        self,
        out: Path,
        encoder: Encoder,
        extra: Mapping[str, Any],
        examples: TaskExamples,
        *,
        model: Path,
        sequence_length: int,
        group: Group,
    ) -> None:
        self._out, self._encoder, self._extra = out, encoder, extra
        self._examples, self._data = examples, examples.train
        self._sequence_length, self._group = sequence_length, group
        tokenizer = load_tokenizer(model)

        def encode(data: TaskData) -> EncodedExamples:
            return encode_examples(tokenizer, data, sequence_length=sequence_length)

        self._train = encode(examples.train)
        self._dev = {name: encode(data) for name, data in examples.dev.items()}
        self._answered = {name: encode(data) for name, data in examples.answered.items()}

    def try_all(self, tried: Sequence[FinetuneSettings], results: Results) -> Results:
        """Makes the runs that are not made yet; the best encoder so far is always in the folder.

        Args:
            tried: the settings of all runs, in order.
            results: those of the runs that were made before.

        Raises:
            WorkError: if a loss is no finite number any more.
        """
        for settings in tried[len(results.runs) :]:
            made, encoder = self._try(settings)
            results = results.with_run(made)
            # A crash between the two leaves the encoder of a run that is then made again, the same.
            if results.chosen is made:
                save_encoder(self._out, encoder, extra=self._extra_after(made, results.primary))
            save_results(self._out, results)
        return results

    def judge(self, results: Results) -> Results:
        """Answers the test files with the chosen encoder, and says how sure its score is."""
        chosen, _ = load_encoder(self._out)
        test = {}
        for name, examples in self._answered.items():
            found = predict(chosen, examples, device=self._group.device)
            data = self._examples.answered[name]
            write_answers(self._out / name, data, answers(data.kind, found))
            if examples.labels is not None:
                test[name] = self._scores(examples, found)
        dev = next(iter(self._dev.values()))
        assert dev.labels is not None
        interval = bootstrap_interval(
            self._data.task,
            dev.labels,
            answers(self._data.kind, predict(chosen, dev, device=self._group.device)),
            rng=np.random.default_rng(0),
            labels=self._data.labels,
        )
        return replace(results, interval=(interval.low, interval.high), test=test)

    def _try(self, settings: FinetuneSettings) -> tuple[Run, Encoder]:
        with progress_line(training_settings(settings, len(self._train))) as on_step:
            found = finetune(
                self._encoder,
                self._data,
                self._train,
                next(iter(self._dev.values())),
                settings,
                clock_s=time.monotonic,
                on_step=on_step,
                group=self._group,
            )
        dev = {
            name: self._scores(
                examples, predict(found.encoder, examples, device=self._group.device)
            )
            for name, examples in self._dev.items()
        }
        made = Run(settings=settings, epoch=found.epoch, epoch_scores=found.epoch_scores, dev=dev)
        return made, found.encoder

    def _scores(
        self, examples: EncodedExamples, logits: npt.NDArray[np.float32]
    ) -> dict[str, float]:
        assert examples.labels is not None
        data = self._data
        found = answers(data.kind, logits)
        return scores(data.task, examples.labels, found, labels=data.labels)

    def _extra_after(self, made: Run, primary: str) -> dict[str, Any]:
        """What is kept beside the encoder: what was there before, and what was done now."""
        step = {
            "did": "finetune-model",
            "task": self._data.task,
            "sequence_length": self._sequence_length,
            **made.to_json(),
            "primary": primary,
        }
        kept = {name: value for name, value in self._extra.items() if name not in _LEFT_BEHIND}
        before = kept.get("history")
        return {**kept, "history": [*(before if isinstance(before, list) else []), step]}
