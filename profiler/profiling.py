"""Profiles a machine: the choice of a graph variant, the campaign, what else was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from autotinybert.command import Answer
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder
from device_profiles.journal import Journal
from device_profiles.profile import (
    BLOCK_FILES,
    BLOCKS_JOURNAL_FILE,
    JOURNAL_FILE,
    PROFILE_FILES,
    VARIANTS_FILE,
    DeviceProfile,
    save_profile,
)
from device_profiles.rows import rows_of
from device_profiles.target import Target, check_target
from device_profiles.visits import CampaignRecord
from profiler.affinity import check_cpus, cpus_text, parse_cpus
from profiler.answer import profile_answer
from profiler.campaign import ConnectionLostError, Progress, Worker, run_campaign
from profiler.child import open_child
from profiler.doctor_cli import unreachable
from profiler.extras import ExtrasWorker, run_extras
from profiler.extras_answer import announce, with_extras
from profiler.growth import Grow
from profiler.profiling_options import ProfilingJob
from profiler.progress import progress_bar
from profiler.ssh import RemoteHost
from profiler.variant_choice import VariantChoice, choose_variants

COMMAND = "profile-device"

# Of --minutes, what the choice of a graph variant may take.
_SHARE_OF_CHOICE = 0.3

# Of --minutes, what is kept for the blocks.
_SHARE_OF_BLOCKS = 0.4


class MachineWorker(Worker, ExtrasWorker, Protocol):
    """Whatever measures everything: a child process, or a fake."""


def profile_machine(
    job: ProfilingJob,
    out: Path,
    *,
    overwrite: bool,
    grow: Grow | None = None,
    open_worker: Callable[[], MachineWorker] | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Answer:
    """Profiles what the job names, or goes on with it.

    Args:
        job: what to measure.
        out: the profile's folder.
        overwrite: replace what another request left there.
        grow: decides what is measured besides, and when that is enough.
        open_worker: starts what measures; a child process, if it is left out.
        clock_s: reads seconds.

    Raises:
        InputError: if the machine is not the target, or `out` holds something else.
        WorkError: if the machine cannot be reached, or the disk is full.
    """
    request = job.request()
    files = [*PROFILE_FILES]
    files += [VARIANTS_FILE] if job.chooses_variant else []
    files += BLOCK_FILES if job.options.blocks else []
    folder = OutputFolder.claim(out, COMMAND, request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        profile = DeviceProfile.load(out)
        return with_extras(profile_answer(profile, finished_before=True), profile.document)
    # Not pinned yet: whether the processors are there is checked by these facts.
    unpinned = open_worker or partial(open_child, job.remote, provider=job.provider)
    host = _checked_host(job, unpinned)
    if open_worker is None:
        open_worker = partial(open_child, job.remote, cpus=job.cpus, provider=job.provider)
    folder.create()
    fresh = folder.state == "new"
    # The lock comes first: nothing of another campaign's is touched while it runs.
    with Journal(out / JOURNAL_FILE, fresh=fresh) as journal, progress_bar() as on_progress:
        others = (*PROFILE_FILES, VARIANTS_FILE, *BLOCK_FILES)
        folder.begin([name for name in others if name != JOURNAL_FILE])
        targets, spent_s = job.targets, 0.0
        choices: list[VariantChoice] = []
        if job.chooses_variant:
            choices, spent_s = _choose(
                job, out, open_worker, host, clock_s, on_progress, fresh=fresh
            )
            targets = [choice.target for choice in choices]
        campaign = run_campaign(
            job.plan(targets),
            job.protocol,
            journal,
            open_worker,
            host=host,
            clock_s=clock_s,
            time_limit_s=_time_limit_s(
                job, spent_s, share=1 - _SHARE_OF_BLOCKS if job.options.blocks else 1.0
            ),
            shorten_plan=job.options.architectures is None,
            grow=grow,
            on_progress=on_progress,
        )
        block_campaign = None
        if job.options.blocks:
            spent_s += campaign.elapsed_s
            block_campaign = _measure_blocks(
                job, out, targets, open_worker, host, clock_s, on_progress, spent_s, fresh=fresh
            )
        run_extras(
            job.extras,
            campaign,
            journal,
            open_worker,
            references=job.references,
            announce=announce,
        )
        rows = rows_of(campaign, job.protocol)
        save_profile(
            out,
            target=job.options.target,
            host=host,
            protocol=job.protocol,
            arguments=job.options.typed(),
            campaign=campaign,
            rows=rows,
            references=job.references,
            lengths=job.lengths,
            graph_variants=[choice.to_json() for choice in choices],
            block_campaign=block_campaign,
        )
        folder.finish()
    profile = DeviceProfile.load(out)
    return with_extras(profile_answer(profile, rows), profile.document)


def _choose(
    job: ProfilingJob,
    out: Path,
    open_worker: Callable[[], Worker],
    host: Mapping[str, Any],
    clock_s: Callable[[], float],
    on_progress: Callable[[Progress], None],
    *,
    fresh: bool,
) -> tuple[list[VariantChoice], float]:
    """Measures every graph variant, and how long that took in seconds."""
    with Journal(out / VARIANTS_FILE, fresh=fresh) as journal:
        campaign = run_campaign(
            job.variant_plan(),
            job.protocol,
            journal,
            open_worker,
            host=host,
            clock_s=clock_s,
            time_limit_s=_time_limit_s(job, 0.0, share=_SHARE_OF_CHOICE),
            on_progress=on_progress,
        )
    choices = choose_variants(rows_of(campaign, job.protocol), job.targets)
    return choices, campaign.elapsed_s


def _measure_blocks(
    job: ProfilingJob,
    out: Path,
    targets: list[Target],
    open_worker: Callable[[], Worker],
    host: Mapping[str, Any],
    clock_s: Callable[[], float],
    on_progress: Callable[[Progress], None],
    spent_s: float,
    *,
    fresh: bool,
) -> CampaignRecord:
    """Measures the blocks that the campaign's architectures are made of."""
    with Journal(out / BLOCKS_JOURNAL_FILE, fresh=fresh) as journal:
        return run_campaign(
            job.block_plan(targets),
            job.protocol,
            journal,
            open_worker,
            host=host,
            clock_s=clock_s,
            time_limit_s=_time_limit_s(job, spent_s),
            on_progress=on_progress,
        )


def _time_limit_s(job: ProfilingJob, spent_s: float, *, share: float = 1.0) -> float | None:
    """What --minutes leaves, or a share of it."""
    minutes = job.options.minutes
    return None if minutes is None else max(60 * minutes * share - spent_s, 1.0)


def machine_facts(open_worker: Callable[[], Worker], remote: RemoteHost | None) -> dict[str, Any]:
    """Facts of the machine that will be measured, from a measuring process on it.

    Raises:
        WorkError: if it does not start.
    """
    try:
        worker = open_worker()
    except ConnectionLostError as error:
        raise unreachable(error, remote) from error
    try:
        return dict(worker.host)
    finally:
        worker.close()


def _checked_host(job: ProfilingJob, open_worker: Callable[[], Worker]) -> dict[str, Any]:
    """Facts of the machine, if it is what the job is for.

    Raises:
        InputError: saying what it is, and what to do.
    """
    host = machine_facts(open_worker, job.remote)
    try:
        check_target(job.options.target, host)
    except InputError as error:
        raise InputError(f"{job.remote.host}: {error}" if job.remote else str(error)) from error
    most_threads = max(target.threads for target in job.targets)
    if most_threads > host["cpu_count"]:
        raise InputError(
            f"--threads {most_threads} on a machine with {host['cpu_count']} cores: "
            f"use at most {host['cpu_count']}"
        )
    if job.cpus:
        check_cpus(job.cpus, parse_cpus(str(host.get("allowed_cpus", ""))), most_threads)
        host["pinned_cpus"] = cpus_text(job.cpus)
    return host
