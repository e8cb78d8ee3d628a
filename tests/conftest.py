"""A device that answers like a real one, from arithmetic: no session, no clock, no waiting."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_profiles.journal import Journal
from device_profiles.machine import KEY_FIELDS
from device_profiles.profile import BLOCKS_JOURNAL_FILE, JOURNAL_FILE, save_profile
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.blocks import block_plan
from profiler.campaign import VisitFailedError, run_campaign
from profiler.plan import Plan, make_plan, sample_architectures
from supernet.architecture import Architecture, to_matrix
from supernet.cost import flops
from supernet.space import kd_space
from supernet.variants import SUB_LAYERS

HOST: dict[str, Any] = {
    **dict.fromkeys(KEY_FIELDS, "test"),
    "machine": "x86_64",
    "cpu_model": "Test CPU",
    "isa_flags": ["avx2"],
    "cpu_count": 2,
    "onnxruntime_version": "1.0",
    "emulated": False,
    "available_providers": ["CPUExecutionProvider"],
    "memory_gib": 8.0,
    "operating_system": "Test OS",
    "load_average": 0.0,
}


class FakeDevice:
    """Times a configuration by its FLOPs, with seeded noise that is never below the truth.

    Attributes:
        now_s: its clock; every visit moves it on.
        broken: whether every visit fails.
        visited: every configuration asked for, in order.
    """

    def __init__(self, seed: int = 0, noise: float = 0.01) -> None:
        self.host: Mapping[str, Any] = HOST
        self.now_s = 0.0
        self.visited: list[Configuration] = []
        self.workers_opened = 0
        self.broken = False
        self._rng = np.random.default_rng(seed)
        self._noise = noise

    def clock_s(self) -> float:
        return self.now_s

    def quiet_ms(self, configuration: Configuration) -> float:
        workload = configuration.workload
        kinds = SUB_LAYERS[configuration.part]
        operations = flops(
            to_matrix([configuration.architecture]),
            batch_size=workload.batch_size,
            sequence_length=workload.sequence_length,
        )[0]
        layers = configuration.architecture.num_layers
        if not kinds:
            return 0.1
        return float(operations) / 8e7 + 0.01 * len(kinds) * layers + 0.1

    def visit(self, configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
        self.visited.append(configuration)
        if self.broken:
            raise VisitFailedError("out of memory")
        scatter = 1 + self._noise * self._rng.exponential(size=max(protocol.min_runs, 5))
        runs_ns = (self.quiet_ms(configuration) * 1e6 * scatter).astype(int).tolist()
        self.now_s += 0.3
        return {"runs_ns": runs_ns, "facts": {}}

    def open(self) -> FakeDevice:
        self.workers_opened += 1
        return self

    def close(self) -> None:
        pass


@pytest.fixture
def fake_device() -> Callable[..., FakeDevice]:
    return FakeDevice


@pytest.fixture(scope="session")
def make_profile_in() -> Callable[..., Path]:
    """Makes the folder of a finished profile, measured on a fake device, in a parent folder."""

    def make(
        parent: Path,
        name: str = "profile",
        *,
        configs: int = 40,
        seed: int = 0,
        host: Mapping[str, Any] = HOST,
        workloads: Sequence[Workload] = (Workload(),),
        targets: Sequence[Target] = (Target(),),
        rivals: bool = False,
        references: Sequence[Architecture] = (),
        broken: bool = False,
        blocks: bool = False,
    ) -> Path:
        folder = parent / name
        folder.mkdir()
        device = FakeDevice(seed)
        device.host = host
        device.broken = broken
        protocol = Protocol()
        plan = make_plan(
            sample_architectures(kd_space(), configs, seed),
            workloads=workloads,
            targets=targets,
            rivals=rivals,
            seed=seed,
            references=references,
        )
        with Journal(folder / JOURNAL_FILE) as journal:
            campaign = run_campaign(
                plan, protocol, journal, device.open, host=host, clock_s=device.clock_s
            )
            save_profile(
                folder,
                target="cpu-x86",
                host=host,
                protocol=protocol,
                arguments=["--target", "cpu-x86", "--seed", str(seed)],
                campaign=campaign,
                rows=rows_of(campaign, protocol),
                references=references,
                block_campaign=_measured_blocks(folder, plan, device) if blocks else None,
            )
        return folder

    return make


def _measured_blocks(folder: Path, whole: Plan, device: FakeDevice) -> CampaignRecord:
    """A campaign of the blocks of another one's architectures."""
    shapes = [found.architecture for found in whole.configurations]
    plan = block_plan(
        shapes,
        shapes,
        workloads=[found.workload for found in whole.configurations],
        targets=[found.target for found in whole.configurations],
        seed=whole.seed,
    )
    with Journal(folder / BLOCKS_JOURNAL_FILE) as journal:
        return run_campaign(
            plan, Protocol(), journal, device.open, host=device.host, clock_s=device.clock_s
        )


@pytest.fixture
def make_profile(tmp_path: Path, make_profile_in: Callable[..., Path]) -> Callable[..., Path]:
    """Makes the folder of a finished profile, measured on a fake device."""
    return functools.partial(make_profile_in, tmp_path)
