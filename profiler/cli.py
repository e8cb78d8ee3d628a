"""`profile-device`: profiles this machine and writes a device profile."""

from __future__ import annotations

import dataclasses
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
from device_profiles.provider_options import canonical_options
from device_profiles.table import read_table
from device_profiles.target import (
    TARGET_NAMES,
    Target,
    Workload,
    check_target,
    provider_of,
)
from device_profiles.visits import rows_of
from profiler.affinity import check_cpus, cpus_text, parse_cpus
from profiler.answer import profile_answer
from profiler.campaign import ConnectionLostError, run_campaign
from profiler.child import open_child
from profiler.doctor_cli import examine_machine, unreachable
from profiler.extras import ExtraWork, run_extras
from profiler.extras_answer import announce, with_extras
from profiler.plan import make_plan, sample_architectures
from profiler.progress import progress_bar
from profiler.ssh import RemoteHost
from profiler.workload_options import DEFAULT_NUM_LENGTHS, MAX_NUM_LENGTHS, lengths_of
from supernet.architecture import Architecture, from_matrix
from supernet.space_file import load_space
from supernet.variants import GRAPH_VARIANTS, PRECISIONS

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
    lengths_from: Annotated[
        Path | None,
        typer.Option(help="Lengths, or texts with --tokenizer: choose sequence lengths for them."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Hugging Face BERT folder, tokenizer.json or vocab.txt for the texts."),
    ] = None,
    num_lengths: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_NUM_LENGTHS,
            help=f"Most lengths to choose; default {DEFAULT_NUM_LENGTHS}.",
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Sequences; repeatable; default 1.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Repeatable; default 1.")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(PRECISIONS)}; repeatable; default fp32."),
    ] = None,
    graph_variant: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(GRAPH_VARIANTS)}; repeatable; default plain."),
    ] = None,
    footprint: Annotated[
        str | None,
        typer.Option(
            metavar="references|all",
            help="Measure file size, memory and time to the first result of these, too.",
        ),
    ] = None,
    sustained: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Keep each reference under load for so long, too."),
    ] = None,
    provider_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of a GPU's execution provider; repeatable."),
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(help="Measure on these CPUs, 0,2-3 for example, one for each thread."),
    ] = None,
    percentile: Annotated[
        int | None,
        typer.Option(help="Make enough runs to report this one: 50, 90, 95 or 99."),
    ] = None,
    under_load: Annotated[
        bool,
        typer.Option("--under-load", help="Accept visits that waited for the core: labels rise."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample and of the order.")] = 0,
    ssh: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Measure that machine; the profile is written here."),
    ] = None,
    ssh_python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The Python on HOST that has autotinybert."),
    ] = None,
    ssh_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of ~/.ssh/config.")
    ] = None,
    doctor: Annotated[
        bool,
        typer.Option("--doctor", help="Say whether the machine is fit to measure on; no profile."),
    ] = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Times BERT shapes on this machine and writes a device profile.

    Interrupted, it goes on where it stopped when the same command is given again.
    """
    del json, version  # the frame around every command reads them
    remote = _remote_host(ssh, ssh_python, ssh_config)
    if doctor:
        return examine_machine(remote, out)
    if target is None or out is None:
        option = "--out DIR" if target else f"--target ({', '.join(TARGET_NAMES)})"
        raise InputError(f"{option} is needed; only --doctor goes without")
    protocol = Protocol()
    extra_work = ExtraWork.asked(footprint, sustained)
    lengths = lengths_of(
        lengths_from, tokenizer=tokenizer, num_lengths=num_lengths, sequence_length=sequence_length
    )
    protocol = Protocol() if percentile is None else Protocol.for_percentile(percentile)
    if under_load:
        protocol = dataclasses.replace(protocol, most_waiting_share=1.0)
    workloads = [
        Workload(batch, length)
        for batch in batch_size or [1]
        for length in (lengths.sequence_lengths if lengths else sequence_length or [128])
    ]
    provider = provider_of(target)
    options = canonical_options(provider, provider_option or [])
    pinned = parse_cpus(cpus or "")
    targets = [
        Target(
            provider=provider,
            threads=count,
            precision=number_format,  # type: ignore[arg-type] # checked there
            graph_variant=variant,  # type: ignore[arg-type]
            provider_options=options,
        )
        for count in threads or [1]
        for number_format in precision or ["fp32"]
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
        space=space,
        configs=configs,
        minutes=minutes,
        architectures=architectures,
        within=within,
        reference=reference,
        rivals=rivals,
        sequence_length=sequence_length,
        lengths_from=lengths_from,
        tokenizer=tokenizer,
        num_lengths=num_lengths,
        batch_size=batch_size,
        threads=threads,
        precision=precision,
        graph_variant=graph_variant,
        footprint=footprint,
        sustained=sustained,
        provider_option=provider_option,
        cpus=cpus,
        percentile=percentile,
        under_load=under_load,
        seed=seed,
        ssh=ssh,
        ssh_python=ssh_python,
        ssh_config=ssh_config,
    )
    request: dict[str, Any] = {
        "target": target,
        "minutes": minutes,
        "seed": seed,
        "configurations": len(plan.configurations),
        "references": [str(shape) for shape in references],
        "plan": sha256_text(canonical_json([c.to_json() for c in plan.configurations])),
        "protocol": protocol.to_json(),
        **extra_work.request(),
        **({} if lengths is None else {"lengths": lengths.to_json()}),
        "cpus": cpus_text(pinned),
    }
    if remote is not None:
        request["ssh"] = remote.host
    host = _host_facts(remote, provider)
    try:
        check_target(target, host)
    except InputError as error:
        raise InputError(f"{remote.host}: {error}" if remote else str(error)) from error
    most_threads = max(target.threads for target in targets)
    if most_threads > host["cpu_count"]:
        raise InputError(
            f"--threads {most_threads} on a machine with {host['cpu_count']} cores: "
            f"use at most {host['cpu_count']}"
        )
    if pinned:
        check_cpus(pinned, parse_cpus(str(host.get("allowed_cpus", ""))), most_threads)
        host["pinned_cpus"] = cpus_text(pinned)
    folder = OutputFolder.claim(out, _COMMAND, request, files=PROFILE_FILES, overwrite=overwrite)
    if folder.state == "finished":
        profile = DeviceProfile.load(out)
        return with_extras(profile_answer(profile, finished_before=True), profile.document)
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
            lambda: open_child(remote, cpus=pinned, provider=provider),
            host=host,
            clock_s=time.monotonic,
            time_limit_s=None if minutes is None else 60 * minutes,
            shorten_plan=architectures is None,
            on_progress=on_progress,
        )
        run_extras(
            extra_work,
            campaign,
            journal,
            lambda: open_child(remote, cpus=pinned, provider=provider),
            references=references,
            announce=announce,
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
            lengths=lengths,
        )
        folder.finish()
    profile = DeviceProfile.load(out)
    return with_extras(profile_answer(profile, rows), profile.document)


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


def _remote_host(ssh: str | None, python: str | None, config: Path | None) -> RemoteHost | None:
    """The machine behind --ssh, if one is named."""
    if ssh is not None:
        return RemoteHost(host=ssh, python="python3" if python is None else python, config=config)
    if python is not None or config is not None:
        option = "--ssh-config" if python is None else "--ssh-python"
        raise InputError(f"{option} is for another machine: name it with --ssh HOST")
    return None


def _host_facts(remote: RemoteHost | None, provider: str) -> dict[str, Any]:
    """Facts of the machine that will be measured, from a measuring child on it."""
    try:
        worker = open_child(remote, provider=provider)
    except ConnectionLostError as error:
        raise unreachable(error, remote) from error
    try:
        return dict(worker.host)
    finally:
        worker.close()


def main() -> None:
    """Runs `profile-device`."""
    run(profile_device, _COMMAND)


if __name__ == "__main__":
    main()
