"""Checks what a whole path is asked for before anything is written or measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autotinybert.errors import InputError
from autotinybert.files import sha256_bytes, sha256_file
from device_profiles.machine import key_differences, measurement_key, refuse_emulated
from device_profiles.measurements import rows_of_slice, slice_of
from device_profiles.profile import PROFILE_FILE, DeviceProfile
from device_profiles.target import Configuration, Target, Workload, check_target, provider_of
from profiler.host import facts_as_of, host_facts
from profiler.variant_choice import AUTO
from search.constraints import Budget
from search.graph_choice import graph_variant_of
from search.path_request import PathRequest
from search.path_task import TASK_OPTIONS, TaskTexts, check_task
from search.verification_plan import choose_slice
from supernet.architecture import Architecture
from supernet.corpus import CORPUS_FILE
from supernet.corpus_cli import PreparedCorpus, corpus_identity
from supernet.demo_teacher import teacher_folder
from supernet.huggingface import BertFolder, read_bert_folder
from supernet.published import BERT_BASE
from supernet.space import Space
from supernet.space_file import load_space, space_document
from supernet.starting import check_positions
from supernet.tokenizer_files import check_tokenizer_files, read_tokenizer_files
from supernet.training import TrainingSettings
from supernet.training_request import DEFAULT_SEQUENCE_LENGTH, ready_corpus


DEFAULT_WORKLOAD_LENGTH = 128


@dataclass(frozen=True)
class CheckedRequest:
    """A request in which nothing is wrong, as far as can be told without measuring.

    Attributes:
        request: what is asked.
        teacher: read.
        tokenizer: its files by name.
        identity: everything that decides the result, as JSON values.
    """

    request: PathRequest
    teacher: BertFolder
    tokenizer: Mapping[str, bytes]
    identity: Mapping[str, Any]


def check_request(
    *,
    teacher: str,
    max_latency_ms: float | None,
    speedup: float | None,
    speedup_reference: str | None,
    budget_statistic: str,
    **options: Any,
) -> CheckedRequest:
    """Reads the teacher and checks every option of `autotinybert`.

    Args:
        teacher: a folder, or the demo's name.
        max_latency_ms: the budget, or None.
        speedup: the budget instead, or None.
        speedup_reference: `teacher`, or an architecture; None is the default.
        budget_statistic: of the latency.
        options: the attributes of `PathRequest` that are not named here.

    Raises:
        InputError: naming the first that is wrong.
    """
    read = read_bert_folder(teacher_folder(teacher))
    tokenizer = read_tokenizer_files(read.path)
    check_tokenizer_files(tokenizer, read.config.vocab_size)
    largest = read.config.largest
    if read.cannot_start is not None:
        raise InputError(f"{read.path}: {read.cannot_start}; use another teacher")
    texts = check_task(read, **{name: options[name] for name in TASK_OPTIONS})
    if options["max_score_drop"] is not None:
        speedup = _slowest(options["max_score_drop"], max_latency_ms, speedup, texts)
        speedup_reference = "teacher"
    if speedup_reference is None:
        speedup_reference = str(BERT_BASE.architecture) if texts is None else "teacher"
    budget = Budget(
        statistic=budget_statistic,
        max_latency_ms=max_latency_ms,
        min_speedup=speedup,
        speedup_reference=(
            largest if speedup_reference == "teacher" else Architecture.parse(speedup_reference)
        ),
    )
    for name, found in (
        ("sequence_length", DEFAULT_WORKLOAD_LENGTH if texts is None else texts.usual_length),
        ("training_sequence_length", None if texts is None else texts.training_length),
    ):
        options[name] = found if options[name] is None else options[name]
    request = PathRequest(teacher=teacher, largest=largest, budget=budget, **options)
    for minutes in (request.supernet_minutes, request.train_minutes):
        TrainingSettings(minutes=minutes)
    ready = _check_text(request, read)
    space = load_space(request.space).clipped(largest)
    host = host_facts()
    check_target(request.target, host)
    if request.sequence_length > read.config.max_positions:
        raise InputError(
            f"--sequence-length {request.sequence_length}: the teacher in {read.path} reads up to "
            f"{read.config.max_positions} tokens, and so will its slices"
        )
    if host["emulated"]:
        raise InputError(
            f"this machine is emulated ({host['emulation_evidence']}), and latencies under an "
            "emulator say nothing about a real device: run autotinybert on the device itself"
        )
    _check_measuring(request, space, host)
    if request.profile is not None:
        _check_profile(DeviceProfile.load(request.profile), request)
    identity = {
        **request.to_json(),
        "teacher": read.sha256,
        "tokenizer": {name: sha256_bytes(content) for name, content in tokenizer.items()},
        "corpus": _corpus_identity(request, ready),
        "space": space_document(space),
        "profile": request.profile and sha256_file(request.profile / PROFILE_FILE),
    }
    return CheckedRequest(request, read, tokenizer, identity)


def _slowest(
    max_score_drop: float,
    max_latency_ms: float | None,
    speedup: float | None,
    texts: TaskTexts | None,
) -> float:
    """The budget of a path that looks for the fastest within a quality: the teacher's own speed."""
    if texts is None:
        raise InputError("--max-score-drop needs a --task: without labels nothing is scored")
    if max_latency_ms is not None or speedup is not None:
        raise InputError(
            "--max-score-drop looks for the fastest model: leave --max-latency and --speedup out"
        )
    if not (math.isfinite(max_score_drop) and max_score_drop >= 0):
        raise InputError(f"--max-score-drop {max_score_drop} is no number of points from 0")
    return 1.0


def _corpus_identity(request: PathRequest, ready: PreparedCorpus | None) -> object:
    """What tells one text from another."""
    if request.task is not None:
        return [sha256_file(path) for path in (request.train, request.dev) if path is not None]
    return sha256_file(ready.path / CORPUS_FILE) if ready else corpus_identity(request.corpus)


def _check_text(request: PathRequest, teacher: BertFolder) -> PreparedCorpus | None:
    """Refuses sequences that the teacher cannot read; returns the corpus if it is ready."""
    if request.task is not None:
        return None  # checked with the task
    ready = ready_corpus(request.corpus, request.training_sequence_length, request.max_megabytes)
    length = request.training_sequence_length or DEFAULT_SEQUENCE_LENGTH
    check_positions(ready.corpus.sequence_length if ready else length, teacher.config, teacher.path)
    return ready


def _check_measuring(request: PathRequest, space: Space, host: Mapping[str, Any]) -> None:
    """Refuses workloads, targets and numbers of shapes that cannot be measured here."""
    Workload(request.batch_size, request.sequence_length)
    _target(request)
    if request.threads > host["cpu_count"]:
        raise InputError(
            f"--threads {request.threads} on a machine with {host['cpu_count']} cores: "
            f"use at most {host['cpu_count']}"
        )
    if request.profile is None and request.configs > space.size:
        raise InputError(
            f"--configs {request.configs}: space {request.space} holds {space.size} shapes that "
            "are slices of the teacher; ask for fewer"
        )


def _target(request: PathRequest) -> Target:
    """What the model is to run under; refuses names that are unknown, and what cannot run."""
    return Target(
        provider=provider_of(request.target),
        threads=request.threads,
        precision=request.precision,  # type: ignore[arg-type] # checked there
        # One that is chosen by measurement begins as the plain one.
        graph_variant="plain" if request.graph_variant == AUTO else request.graph_variant,  # type: ignore[arg-type]
    )


def _check_profile(profile: DeviceProfile, request: PathRequest) -> None:
    """Refuses a profile that says nothing about this machine, or about what is asked.

    Raises:
        InputError: saying what is missing; of another machine, the fields of its key; of an
            emulated one, that.
    """
    refuse_emulated(profile.key, profile.folder)
    here = facts_as_of(profile.key, profile.target)
    differences = key_differences(profile.key, measurement_key(here))
    if differences:
        raise InputError(
            f"{profile.folder} was measured on another machine or build "
            f"({'; '.join(differences)}): leave --profile out to measure this one"
        )
    asked = _target(request)
    workload, target = choose_slice(
        profile,
        graph_variant=graph_variant_of(profile, request),
        precision=asked.precision,
        **request.workload_options(),
    )
    wanted = slice_of(Configuration(request.largest, workload, target))
    request.budget.limit_ms(
        rows_of_slice(profile.references, wanted)
    )  # refuses a reference that is not there
