"""`profile-device`: profiles this machine and writes a device profile."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
from device_profiles.target import TARGET_NAMES
from profiler.doctor_cli import examine_machine
from profiler.profiling import COMMAND, profile_machine
from profiler.profiling_options import (
    MOST_CONFIGS,
    MOST_VISITS,
    ProfilingJob,
    ProfilingOptions,
    remote_host,
)
from profiler.progress import progress_bar
from profiler.recheck_cli import recheck_machine
from profiler.until_error_cli import growing
from profiler.variant_choice import AUTO
from profiler.workload_options import DEFAULT_NUM_LENGTHS, MAX_NUM_LENGTHS
from supernet.variants import GRAPH_VARIANTS, PRECISIONS

# What `--recheck` takes besides the profile, and `--doctor` besides `--out`.
_OF_RECHECK = {"configs", "seed", "ssh", "ssh_python", "ssh_config"}
_OF_DOCTOR = {"ssh", "ssh_python", "ssh_config"}


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
        int | None,
        typer.Option(
            min=1,
            max=MOST_CONFIGS,
            help="Shapes to sample; default 60. With --until-error, the most; 200.",
        ),
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
        typer.Option(help=f"{', '.join(GRAPH_VARIANTS)}; repeatable; default plain; or {AUTO}."),
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
    blocks: Annotated[
        bool,
        typer.Option("--blocks", help="Measure attention, FFN and embeddings alone, too."),
    ] = False,
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
    visits: Annotated[
        int | None,
        typer.Option(
            max=MOST_VISITS, help="Of each configuration; default 6; more make steadier labels."
        ),
    ] = None,
    until_error: Annotated[
        str | None,
        typer.Option(
            metavar="2%",
            help="Choose shapes by what was measured, until predictions are this good.",
        ),
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
    remote = remote_host(ssh, ssh_python, ssh_config)
    options: dict[str, Any] = {
        "target": target,
        "space": space,
        "configs": configs,
        "minutes": minutes,
        "architectures": architectures,
        "within": within,
        "reference": reference,
        "rivals": rivals,
        "sequence_length": sequence_length,
        "lengths_from": lengths_from,
        "tokenizer": tokenizer,
        "num_lengths": num_lengths,
        "batch_size": batch_size,
        "threads": threads,
        "precision": precision,
        "graph_variant": graph_variant,
        "footprint": footprint,
        "sustained": sustained,
        "blocks": blocks,
        "provider_option": provider_option,
        "cpus": cpus,
        "percentile": percentile,
        "visits": visits,
        "until_error": until_error,
        "under_load": under_load,
        "seed": seed,
        "ssh": ssh,
        "ssh_python": ssh_python,
        "ssh_config": ssh_config,
    }
    if doctor:
        others = {**options, "seed": seed or None, "recheck": recheck, "overwrite": overwrite}
        _refuse_others(others, _OF_DOCTOR, "--doctor measures no profile and takes no {}")
        return examine_machine(remote, out)
    if recheck is not None:
        _refuse_others(options, _OF_RECHECK, "--recheck takes {} from the profile")
        with progress_bar() as on_progress:
            return recheck_machine(
                recheck,
                remote,
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
    job = ProfilingJob.of(ProfilingOptions(**options))
    grow = None if job.until is None else growing(job.until, job.num_named, job.protocol)
    return profile_machine(job, out, overwrite=overwrite, grow=grow)


def _refuse_others(options: Mapping[str, Any], taken: Collection[str], why: str) -> None:
    """Refuses options that another way of using the command does not take.

    Args:
        options: as they were given, by name.
        taken: the names of those that it takes.
        why: says that it does not take `{}`.

    Raises:
        InputError: naming the first.
    """
    given = typed_options(**{name: options[name] for name in options if name not in taken})
    if given:
        raise InputError(f"{why.format(given[0])}: leave it out")


def main() -> None:
    """Runs `profile-device`."""
    run(profile_device, COMMAND)


if __name__ == "__main__":
    main()
