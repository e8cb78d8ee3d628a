"""`profile-device`: profiles this machine and writes a device profile."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from autotinybert.command import (
    Answer,
    JsonOption,
    OverwriteOption,
    VersionOption,
    typed_options,
)
from autotinybert.command import main as run
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, canonical_json, sha256_text
from device_profiles.journal import Journal
from device_profiles.measurements import (
    architecture_columns,
)
from device_profiles.profile import JOURNAL_FILE, PROFILE_FILES, DeviceProfile, save_profile
from device_profiles.protocol import Protocol
from device_profiles.table import read_table
from device_profiles.target import TARGET_NAMES, Target, Workload, check_target
from device_profiles.visits import rows_of
from profiler.answer import profile_answer
from profiler.campaign import run_campaign
from profiler.child import ChildWorker, local_command
from profiler.plan import make_plan, sample_architectures
from profiler.progress import progress_bar
from profiler.recheck_cli import recheck_profile
from supernet.architecture import Architecture, from_matrix
from supernet.space_file import load_space
from supernet.variants import GRAPH_VARIANTS

_COMMAND = "profile-device"

DEFAULT_CONFIGS = 60

# With --minutes alone the plan is as long as time allows; this only bounds its making.
_MOST_CONFIGS = 5000


def profile_device(
    *,
    target: Annotated[
        str | None,
        typer.Option(help="What is profiled: cpu-x86, cpu-arm, gpu-cuda, gpu-tensorrt."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the device profile.")] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Space to sample: kd (default), mlm, hf-native, or a .toml or .json."),
    ] = None,
    configs: Annotated[
        int | None, typer.Option(min=1, max=_MOST_CONFIGS, help="Shapes to sample; default 60.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Time limit; sampled shapes that do not fit are left out."),
    ] = None,
    architectures: Annotated[
        Path | None, typer.Option(help="CSV with the five columns: measure these shapes instead.")
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(metavar="L-d-f-h-q", help="Only shapes that a SuperPLM of this shape holds."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="L-d-f-h-q", help="Measure this shape as a reference; repeatable."),
    ] = None,
    rivals: Annotated[
        bool, typer.Option("--rivals", help="Measure the published shapes, too.")
    ] = False,
    sequence_length: Annotated[
        list[int] | None, typer.Option(help="Tokens; repeatable; default 128.")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Sequences; repeatable; default 1.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Repeatable; default 1.")] = None,
    graph_variant: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(GRAPH_VARIANTS)}; repeatable; default plain."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and of the order.")] = 0,
    recheck: Annotated[
        Path | None,
        typer.Option(
            metavar="PROFILE", help="Measure 5 shapes of this profile again: does it still hold?"
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Times BERT shapes on this machine and writes a device profile.

    Interrupted, it goes on where it stopped when the same command is given again. With --recheck
    it measures 5 shapes (--configs) of a profile again; --out is not needed then.
    """
    del json, version  # the frame around every command reads them
    if recheck is not None:
        _only_for_profiling(
            target=target,
            space=space,
            minutes=minutes,
            architectures=architectures,
            within=within,
            reference=reference,
            rivals=rivals,
            sequence_length=sequence_length,
            batch_size=batch_size,
            threads=threads,
            graph_variant=graph_variant,
        )
        with progress_bar() as on_progress:
            return recheck_profile(
                recheck,
                open_worker=lambda: ChildWorker(local_command()),
                host_facts=_host_facts,
                configs=configs,
                out=out,
                seed=seed,
                overwrite=overwrite,
                on_progress=on_progress,
            )
    if target is None:
        raise InputError(f"--target is needed: {', '.join(TARGET_NAMES)}")
    if out is None:
        raise InputError("--out is needed: name the folder of the device profile")
    protocol = Protocol()
    workloads = [
        Workload(batch, length)
        for batch in batch_size or [1]
        for length in sequence_length or [128]
    ]
    targets = [
        Target(threads=count, graph_variant=variant)  # type: ignore[arg-type] # checked there
        for count in threads or [1]
        for variant in graph_variant or ["plain"]
    ]
    largest = None if within is None else Architecture.parse(within)
    references = [Architecture.parse(text) for text in reference or []]
    chosen = _architectures(
        space, architectures, largest, configs=configs, minutes=minutes, seed=seed
    )
    plan = make_plan(
        chosen,
        workloads=workloads,
        targets=targets,
        rivals=rivals,
        seed=seed,
        references=references,
        within=largest,
    )
    arguments = typed_options(
        target=target,
        # Of files only the name: where they lie on this machine is nobody else's business.
        space=None if space is None else Path(space).name,
        configs=configs,
        minutes=minutes,
        architectures=None if architectures is None else architectures.name,
        within=within,
        reference=reference,
        rivals=rivals,
        sequence_length=sequence_length,
        batch_size=batch_size,
        threads=threads,
        graph_variant=graph_variant,
        seed=seed,
    )
    request = {
        "target": target,
        "minutes": minutes,
        "seed": seed,
        "configurations": len(plan.configurations),
        "references": [str(shape) for shape in references],
        "plan": sha256_text(canonical_json([c.to_json() for c in plan.configurations])),
        "protocol": protocol.to_json(),
    }
    host = _host_facts()
    check_target(target, host)
    most_threads = max(target.threads for target in targets)
    if most_threads > host["cpu_count"]:
        raise InputError(
            f"--threads {most_threads} on a machine with {host['cpu_count']} cores: "
            f"use at most {host['cpu_count']}"
        )
    folder = OutputFolder.claim(out, _COMMAND, request, files=PROFILE_FILES, overwrite=overwrite)
    if folder.state == "finished":
        return profile_answer(DeviceProfile.load(out), finished_before=True)
    folder.create()
    # The lock comes first: nothing of another campaign's is touched while it runs.
    with (
        Journal(out / JOURNAL_FILE, fresh=folder.state == "new") as journal,
        progress_bar() as on_progress,
    ):
        folder.begin([name for name in PROFILE_FILES if name != JOURNAL_FILE])
        campaign = run_campaign(
            plan,
            protocol,
            journal,
            lambda: ChildWorker(local_command()),
            host=host,
            clock_s=time.monotonic,
            time_limit_s=None if minutes is None else 60 * minutes,
            shorten_plan=architectures is None,
            on_progress=on_progress,
        )
        rows = rows_of(campaign, protocol)
        save_profile(
            out,
            target=target,
            host=host,
            protocol=protocol,
            arguments=arguments,
            campaign=campaign,
            rows=rows,
            references=references,
        )
        folder.finish()
    return profile_answer(DeviceProfile.load(out), rows)


def _only_for_profiling(**options: object) -> None:
    """Refuses options that `--recheck` takes from the profile.

    Raises:
        InputError: naming the first.
    """
    given = typed_options(**options)
    if given:
        raise InputError(f"--recheck takes {given[0]} from the profile: leave it out")


def _architectures(
    space: str | None,
    path: Path | None,
    within: Architecture | None,
    *,
    configs: int | None,
    minutes: float | None,
    seed: int,
) -> list[Architecture]:
    """The shapes to measure, from a file or sampled from a space."""
    if minutes is not None and not math.isfinite(minutes):
        raise InputError(f"--minutes {minutes} is no time: give a number of minutes")
    if path is not None:
        if configs is not None or space is not None or within is not None:
            raise InputError(
                "--architectures names the shapes: leave out --configs, --space and --within"
            )
        return from_matrix(architecture_columns(read_table(path)))
    found = load_space("kd" if space is None else space)
    if within is not None:
        found = found.clipped(within)
    if configs is not None and configs > found.size:
        raise InputError(f"space {found.name} holds {found.size} shapes: ask for fewer --configs")
    default = DEFAULT_CONFIGS if minutes is None else _MOST_CONFIGS
    return sample_architectures(found, configs or min(default, found.size), seed)


def _host_facts() -> dict[str, Any]:
    """Facts of the machine that will be measured, from a measuring child on it."""
    worker = ChildWorker(local_command())
    try:
        return dict(worker.host)
    finally:
        worker.close()


def main() -> None:
    """Runs `profile-device`."""
    run(profile_device, _COMMAND)


if __name__ == "__main__":
    main()
