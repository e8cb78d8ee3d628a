"""The options of the training commands, checked and brought into values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.corpus import CORPUS_FILE
from supernet.corpus_cli import PreparedCorpus
from supernet.demo_teacher import teacher_folder
from supernet.distillation import attention_loss_for, check_attention_loss
from supernet.elastic import DEPTH_RULES, DepthRule
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.model import SuperPLMConfig
from supernet.objectives import ATTENTION_LOSSES, OBJECTIVES, AttentionLoss
from supernet.space import Space
from supernet.space_file import load_space
from supernet.starting import STARTS, Start, StartingPoint
from supernet.tokenizer import load_tokenizer, vocabulary_size
from supernet.training import TrainingSettings

DEFAULT_MINUTES = 30.0
DEFAULT_SEQUENCE_LENGTH = 64

T = TypeVar("T", bound=str)


def one_of(option: str, name: str, choices: Iterable[T]) -> T:
    """The choice of a name.

    Raises:
        InputError: if there is none of it.
    """
    known = tuple(choices)
    for choice in known:
        if choice == name:
            return choice
    raise InputError(f"no {option} {name!r}: use {' or '.join(known)}")


def settings_of(steps: int | None, minutes: float | None, **others: Any) -> TrainingSettings:
    """How long to train, and how.

    Raises:
        InputError: if both are given, or a value makes no sense.
    """
    if steps is not None and minutes is not None:
        raise InputError("--steps and --minutes say the same thing twice: leave one out")
    if steps is None and minutes is None:
        minutes = DEFAULT_MINUTES
    return TrainingSettings(steps=steps, minutes=minutes, **others)


def starting_point(
    *,
    objective: str,
    teacher: str | None,
    tokenizer: Path | None,
    space: str,
    start: str | None,
    largest: str | None,
    depth_rule: str | None,
    attention_loss: str,
) -> StartingPoint:
    """Understands the options that say what is trained; see `train-supernet`.

    Raises:
        InputError: naming the first that is wrong.
    """
    goal = one_of("--objective", objective, OBJECTIVES)
    if teacher is None and goal != "mlm":
        raise InputError(
            f"--objective {goal} needs a --teacher: only mlm does without, with --tokenizer"
        )
    if teacher is not None and tokenizer is not None:
        raise InputError("--teacher brings its own tokenizer: leave --tokenizer out")
    read = None if teacher is None else read_bert_folder(teacher_folder(teacher))
    if read is not None and goal == "task":
        read.task_head()  # refuses a teacher without one
    begins = _start(start, read)
    rule = _depth_rule(depth_rule, begins)
    if read is None:
        if tokenizer is None:
            raise InputError("--objective mlm without a --teacher needs a --tokenizer folder")
        whole = load_space(space)
        shape = whole.corners()[-1] if largest is None else Architecture.parse(largest)
        words = vocabulary_size(load_tokenizer(tokenizer))
        config = SuperPLMConfig(largest=shape, depth_rule=rule, vocab_size=words)
        return StartingPoint(
            goal, None, tokenizer, begins, config, whole.clipped(shape), attention=None
        )
    shape = _largest(begins, largest, read)
    chosen = load_space(space).clipped(shape)
    return StartingPoint(
        objective=goal,
        teacher=read,
        source=read.path,
        start=begins,
        config=SuperPLMConfig(
            largest=shape,
            depth_rule=rule,
            vocab_size=read.config.vocab_size,
            max_positions=read.config.max_positions,
            layer_norm_epsilon=read.config.layer_norm_epsilon,
        ),
        space=chosen,
        attention=None if goal == "mlm" else _attention(attention_loss, chosen, read),
    )


def _start(name: str | None, teacher: BertFolder | None) -> Start:
    found: Start = "random" if teacher is None else "teacher"
    if name is not None:
        found = one_of("--start", name, STARTS)
    if found == "teacher" and teacher is None:
        raise InputError("--start teacher without a --teacher: name one, or use --start random")
    if found == "teacher" and teacher is not None and teacher.cannot_start is not None:
        raise InputError(f"{teacher.path}: {teacher.cannot_start}; use --start random")
    return found


def _depth_rule(name: str | None, start: Start) -> DepthRule:
    if name is None:
        return "evenly-spaced" if start == "teacher" else "first"
    return one_of("--depth-rule", name, DEPTH_RULES)


def _attention(name: str, space: Space, teacher: BertFolder) -> AttentionLoss:
    if name == "auto":
        return attention_loss_for(space.num_heads, teacher.config.largest)
    found = one_of("--attention-loss", name, ATTENTION_LOSSES)
    check_attention_loss(found, space.num_heads, teacher.config.largest)
    return found


def _largest(start: Start, largest: str | None, teacher: BertFolder) -> Architecture:
    """The SuperPLM's own shape."""
    if largest is None:
        return teacher.config.largest
    shape = Architecture.parse(largest)
    if start == "teacher" and shape != teacher.config.largest:
        raise InputError(
            f"--largest {shape} with --start teacher: it begins as the teacher, which is "
            f"{teacher.config.largest}; leave --largest out, or use --start random"
        )
    return shape


def ready_corpus(
    corpus: str, sequence_length: int | None, max_megabytes: float | None
) -> PreparedCorpus | None:
    """The token corpus that `--corpus` names; None if it names text."""
    path = Path(corpus)
    if not (path / CORPUS_FILE).exists():
        return None
    ready = PreparedCorpus.read(path)
    length = ready.corpus.sequence_length
    if max_megabytes is not None or sequence_length not in (None, length):
        raise InputError(
            f"the corpus in {path} is ready, with sequences of {length} tokens: leave out "
            "--sequence-length and --max-megabytes, or make another with prepare-corpus"
        )
    return ready
