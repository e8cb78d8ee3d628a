"""What `profile-device` was asked for, and what follows from it before anything is measured."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotinybert.command import typed_options
from autotinybert.errors import InputError
from autotinybert.files import canonical_json, sha256_text
from device_profiles.lengths import LengthHistogram
from device_profiles.measurements import architecture_columns
from device_profiles.protocol import Protocol
from device_profiles.provider_options import canonical_options
from device_profiles.table import read_table
from device_profiles.target import Target, Workload, provider_of
from profiler.affinity import cpus_text, parse_cpus
from profiler.blocks import block_plan
from profiler.extras import ExtraWork
from profiler.plan import Plan, make_plan, sample_architectures
from profiler.ssh import RemoteHost
from profiler.until_error import START_SHAPES, UntilError
from profiler.variant_choice import AUTO, variant_plan
from profiler.workload_options import lengths_of
from supernet.architecture import Architecture, from_matrix
from supernet.space import Space
from supernet.space_file import load_space
from supernet.variants import GRAPH_VARIANTS

DEFAULT_CONFIGS = 60

# With --minutes alone the plan is as long as time allows; this only bounds its making.
MOST_CONFIGS = 5000

# A label of so many visits varies by less than the machine does between campaigns.
MOST_VISITS = 40


@dataclass(frozen=True, kw_only=True)
class ProfilingOptions:
    """The options as they were typed; those of the same name say what they mean."""

    target: str
    space: str | None
    configs: int | None
    minutes: float | None
    architectures: Path | None
    within: str | None
    reference: list[str] | None
    rivals: bool
    sequence_length: list[int] | None
    lengths_from: Path | None
    tokenizer: Path | None
    num_lengths: int | None
    batch_size: list[int] | None
    threads: list[int] | None
    precision: list[str] | None
    graph_variant: list[str] | None
    provider_option: list[str] | None
    cpus: str | None
    percentile: int | None
    visits: int | None
    until_error: str | None
    under_load: bool
    footprint: str | None
    sustained: float | None
    seed: int
    ssh: str | None
    ssh_python: str | None
    ssh_config: Path | None
    blocks: bool = False

    def typed(self) -> list[str]:
        """As they would be typed again; of files only the names, and nothing of --ssh.

        Where files lie on a machine, what it is called and who uses it is nobody else's business,
        and profiles are handed on.
        """
        names = [field.name for field in dataclasses.fields(self)]
        options = {name: getattr(self, name) for name in names if not name.startswith("ssh")}
        for name, value in options.items():
            if isinstance(value, Path):
                options[name] = value.name
        if self.space is not None:
            options["space"] = Path(self.space).name
        return typed_options(**options)


@dataclass(frozen=True, kw_only=True)
class ProfilingJob:
    """What a campaign is to do.

    Attributes:
        options: as they were typed.
        architectures: the shapes that were sampled or named.
        references: shapes that are reference rows besides the usual ones.
        within: only slices of this shape are measured.
        workloads: batch sizes and sequence lengths.
        targets: what they are measured on; `plain` graphs while the variant is not chosen yet.
        lengths: of the texts that the workloads stand for.
        protocol: how.
        extras: what is measured besides latencies.
        until: when enough was measured, if the rows themselves decide; the architectures are
            then those that it begins with.
        cpus: the processors to measure on; empty for any.
        remote: the machine to measure; None for this one.
    """

    options: ProfilingOptions
    architectures: list[Architecture]
    references: list[Architecture]
    within: Architecture | None
    workloads: list[Workload]
    targets: list[Target]
    lengths: LengthHistogram | None
    protocol: Protocol
    extras: ExtraWork
    until: UntilError | None
    cpus: tuple[int, ...]
    remote: RemoteHost | None

    @classmethod
    def of(cls, options: ProfilingOptions) -> ProfilingJob:
        """Reads the files that were named and checks every value.

        Raises:
            InputError: saying which option is wrong, and what to do.
        """
        lengths = lengths_of(
            options.lengths_from,
            tokenizer=options.tokenizer,
            num_lengths=options.num_lengths,
            sequence_length=options.sequence_length,
        )
        within = None if options.within is None else Architecture.parse(options.within)
        protocol = Protocol()
        if options.percentile is not None:
            protocol = Protocol.for_percentile(options.percentile)
        if options.visits is not None:
            protocol = protocol.with_visits(options.visits)
        if options.under_load:
            protocol = dataclasses.replace(protocol, most_waiting_share=1.0)
        sequence_lengths = lengths.sequence_lengths if lengths else options.sequence_length
        return cls(
            options=options,
            architectures=_architectures(options, within),
            references=[Architecture.parse(text) for text in options.reference or []],
            within=within,
            workloads=[
                Workload(batch, length)
                for batch in options.batch_size or [1]
                for length in sequence_lengths or [128]
            ],
            targets=_targets(options),
            lengths=lengths,
            protocol=protocol,
            extras=ExtraWork.asked(options.footprint, options.sustained),
            until=_until_error(options, within),
            cpus=parse_cpus(options.cpus or ""),
            remote=remote_host(options.ssh, options.ssh_python, options.ssh_config),
        )

    @property
    def provider(self) -> str:
        """The execution provider of the target."""
        return provider_of(self.options.target)

    @property
    def chooses_variant(self) -> bool:
        """Whether the graph variant is chosen by measurement."""
        return self.options.graph_variant == [AUTO]

    def plan(self, targets: list[Target]) -> Plan:
        """The plan for these targets."""
        return make_plan(
            self.architectures,
            workloads=self.workloads,
            targets=targets,
            rivals=self.options.rivals,
            seed=self.options.seed,
            references=self.references,
            within=self.within,
        )

    @property
    def num_named(self) -> int:
        """How many architectures of the plan were not sampled: references and rivals."""
        planned = {each.architecture for each in self.plan(self.targets[:1]).configurations}
        return len(planned) - len(self.architectures)

    def variant_plan(self) -> Plan:
        """What is measured to choose a graph variant for every target."""
        return variant_plan(
            self.workloads[0], self.targets, within=self.within, seed=self.options.seed
        )

    def block_plan(self, targets: list[Target]) -> Plan:
        """What is measured for the table of blocks of these targets."""
        plan = self.plan(targets)
        return block_plan(
            self.architectures,
            [configuration.architecture for configuration in plan.configurations],
            workloads=self.workloads,
            targets=targets,
            seed=self.options.seed,
        )

    def request(self) -> dict[str, Any]:
        """What decides the contents of the profile."""
        plan = self.plan(self.targets)
        request: dict[str, Any] = {
            "target": self.options.target,
            "minutes": self.options.minutes,
            "seed": self.options.seed,
            "configurations": len(plan.configurations),
            "references": [str(shape) for shape in self.references],
            "plan": sha256_text(canonical_json([c.to_json() for c in plan.configurations])),
            "protocol": self.protocol.to_json(),
            **self.extras.request(),
            "cpus": cpus_text(self.cpus),
        }
        if self.until is not None:
            request.update(self.until.request())
        if self.lengths is not None:
            request["lengths"] = self.lengths.to_json()
        if self.chooses_variant:
            request["graph_variant"] = AUTO
        if self.options.blocks:
            request["blocks"] = True
        if self.remote is not None:
            request["ssh"] = self.remote.host
        return request


def _targets(options: ProfilingOptions) -> list[Target]:
    provider = provider_of(options.target)
    provider_options = canonical_options(provider, options.provider_option or [])
    variants = options.graph_variant or ["plain"]
    if AUTO in variants:
        if variants != [AUTO]:
            raise InputError(
                f"--graph-variant {AUTO} chooses one of {', '.join(GRAPH_VARIANTS)}: leave the "
                "others out"
            )
        variants = ["plain"]
    return [
        Target(
            provider=provider,
            threads=count,
            precision=precision,  # type: ignore[arg-type] # checked there
            graph_variant=variant,  # type: ignore[arg-type]
            provider_options=provider_options,
        )
        for count in options.threads or [1]
        for precision in options.precision or ["fp32"]
        for variant in variants
    ]


def _architectures(options: ProfilingOptions, within: Architecture | None) -> list[Architecture]:
    """The shapes to measure, from a file or sampled from a space."""
    configs, minutes = options.configs, options.minutes
    if minutes is not None and not math.isfinite(minutes):
        raise InputError(f"--minutes {minutes} is no time: give a number of minutes")
    if options.architectures is not None:
        if options.until_error is not None:
            raise InputError(
                "--until-error chooses the shapes by what was measured: leave out --architectures"
            )
        if configs is not None or options.space is not None or within is not None:
            raise InputError(
                "--architectures names the shapes: leave out --configs, --space and --within"
            )
        return from_matrix(architecture_columns(read_table(options.architectures)))
    found = _space(options, within)
    if configs is not None and configs > found.size:
        raise InputError(f"space {found.name} holds {found.size} shapes: ask for fewer --configs")
    if options.until_error is not None:
        return sample_architectures(found, START_SHAPES, options.seed)
    default = DEFAULT_CONFIGS if minutes is None else MOST_CONFIGS
    return sample_architectures(found, configs or min(default, found.size), options.seed)


def _space(options: ProfilingOptions, within: Architecture | None) -> Space:
    """The space that shapes are sampled from."""
    found = load_space("kd" if options.space is None else options.space)
    return found if within is None else found.clipped(within)


def _until_error(options: ProfilingOptions, within: Architecture | None) -> UntilError | None:
    if options.until_error is None:
        return None
    return UntilError.asked(
        options.until_error, _space(options, within), configs=options.configs, seed=options.seed
    )


def remote_host(ssh: str | None, python: str | None, config: Path | None) -> RemoteHost | None:
    """The machine behind --ssh, if one is named.

    Raises:
        InputError: if something is said about a machine that is not named.
    """
    if ssh is not None:
        return RemoteHost(host=ssh, python="python3" if python is None else python, config=config)
    if python is not None or config is not None:
        option = "--ssh-config" if python is None else "--ssh-python"
        raise InputError(f"{option} is for another machine: name it with --ssh HOST")
    return None
