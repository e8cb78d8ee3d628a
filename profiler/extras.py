"""Measures what a campaign was asked for besides latencies, once these are there.

Every result is journalled before the next is begun, and what is in the journal is not measured
again: a campaign that was killed goes on with what is missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from autotinybert.errors import InputError
from device_profiles.extras import ExtraKind
from device_profiles.footprint import Footprint
from device_profiles.journal import Journal
from device_profiles.machine import key_differences, measurement_key
from device_profiles.sustained import MAX_LOAD_S, LoadSeries
from device_profiles.target import Configuration
from device_profiles.visits import CampaignRecord
from profiler.campaign import ConnectionLostError, VisitFailedError, WorkerLostError
from profiler.outage import Outage
from profiler.sustained import Load
from supernet.architecture import Architecture
from supernet.published import REFERENCE_SHAPES

FootprintScope = Literal["references", "all"]
FOOTPRINT_SCOPES: tuple[FootprintScope, ...] = get_args(FootprintScope)

# A campaign has just warmed the device: it rests for a fifth of the load before it, within reason.
_REST_SHARE = 0.2
_LONGEST_REST_S = 60


class ExtrasWorker(Protocol):
    """Whatever measures more than latencies: `profiler.child.ChildWorker`, or a fake."""

    @property
    def host(self) -> Mapping[str, Any]:
        """Facts of the machine that it measures."""

    def footprint(self, configuration: Configuration) -> Mapping[str, Any]:
        """Takes a footprint; raises as `profiler.campaign.Worker.visit` does."""

    def sustained(self, configuration: Configuration, load: Load) -> Mapping[str, Any]:
        """Runs a lasting load; raises as `profiler.campaign.Worker.visit` does."""

    def close(self) -> None:
        """Ends the worker."""


@dataclass(frozen=True, kw_only=True)
class ExtraWork:
    """What is to be measured besides latencies.

    Attributes:
        footprint: of which architectures a footprint is taken; None for none.
        load: a lasting load on the references, or None.
    """

    footprint: FootprintScope | None = None
    load: Load | None = None

    @classmethod
    def asked(cls, footprint: str | None, sustained_minutes: float | None) -> ExtraWork:
        """From the options `--footprint` and `--sustained`.

        Raises:
            InputError: if one makes no sense.
        """
        scope = next((scope for scope in FOOTPRINT_SCOPES if scope == footprint), None)
        if footprint is not None and scope is None:
            raise InputError(f"--footprint {footprint!r}: use {' or '.join(FOOTPRINT_SCOPES)}")
        if sustained_minutes is None:
            return cls(footprint=scope)
        most = MAX_LOAD_S // 60
        if not (math.isfinite(sustained_minutes) and 0 < sustained_minutes <= most):
            raise InputError(f"--sustained {sustained_minutes}: give minutes, at most {most}")
        seconds = max(round(60 * sustained_minutes), 1)
        rest_s = min(round(_REST_SHARE * seconds), _LONGEST_REST_S)
        return cls(footprint=scope, load=Load(seconds=seconds, rest_s=rest_s))

    def request(self) -> dict[str, Any]:
        """What of it decides the contents of a profile; empty where nothing was asked for."""
        asked = {
            "footprint": self.footprint,
            "load": None if self.load is None else self.load.to_json(),
        }
        return {name: value for name, value in asked.items() if value is not None}

    def tasks(
        self, record: CampaignRecord, references: Sequence[Architecture]
    ) -> list[tuple[ExtraKind, int]]:
        """What is to be measured, as kind and index in the plan, footprints first.

        Each architecture is measured once for each precision and graph variant, under the
        largest workload and with the most threads: there it needs most memory and gets hottest.
        """
        named = {*references, *(shape.architecture for shape in REFERENCE_SHAPES)}
        largest: dict[tuple[Any, ...], int] = {}
        configurations = record.configurations
        for index, configuration in enumerate(configurations[: record.num_planned]):
            target = configuration.target
            group = (
                configuration.architecture,
                target.precision,
                target.graph_variant,
                target.provider,
            )
            before = largest.setdefault(group, index)
            if _size(configuration) > _size(configurations[before]):
                largest[group] = index
        chosen = list(largest.values())
        of_references = [index for index in chosen if configurations[index].architecture in named]
        tasks: list[tuple[ExtraKind, int]] = []
        if self.footprint is not None:
            indices = chosen if self.footprint == "all" else of_references
            tasks += [("footprint", index) for index in indices]
        if self.load is not None:
            tasks += [("sustained", index) for index in of_references]
        return tasks


def _size(configuration: Configuration) -> tuple[int, int]:
    workload = configuration.workload
    return configuration.target.threads, workload.batch_size * workload.sequence_length


def run_extras(
    work: ExtraWork,
    record: CampaignRecord,
    journal: Journal,
    open_worker: Callable[[], ExtrasWorker],
    *,
    references: Sequence[Architecture] = (),
    announce: Callable[[str], None] = lambda _: None,
    sleep_s: Callable[[float], None] = time.sleep,
) -> None:
    """Measures what is still missing, and adds it to the journal and to the record.

    Args:
        work: what is asked for.
        record: the campaign, its latencies measured.
        journal: the campaign's.
        open_worker: starts a fresh worker.
        references: references besides the usual ones.
        announce: told what is measured next.
        sleep_s: waits, before an attempt to reach a worker whose connection was lost.

    Raises:
        InputError: if a fresh worker is on another kind of machine than the campaign was.
        WorkError: if the connection to the workers stays lost.
    """
    due = [
        (kind, index)
        for kind, index in work.tasks(record, references)
        if not record.extras.is_done(kind, index)
    ]
    workers = _Workers(open_worker, record.key, sleep_s)
    try:
        for number, (kind, index) in enumerate(due, start=1):
            configuration = record.configurations[index]
            announce(f"{_NAMES[kind]} of {configuration.architecture} ({number} of {len(due)})")
            outcome = workers.outcome(kind, configuration, work.load)
            journal.append({"kind": kind, "configuration": index, **outcome})
            record.add(journal.records[-1])
    finally:
        workers.close()


_NAMES: dict[ExtraKind, str] = {"footprint": "footprint", "sustained": "sustained latency"}


class _Workers:
    """One worker after another: a fresh one where the last was lost."""

    def __init__(
        self,
        open_worker: Callable[[], ExtrasWorker],
        key: Mapping[str, Any],
        sleep_s: Callable[[float], None],
    ) -> None:
        self._open_worker = open_worker
        self._key = key
        self._outage = Outage(sleep_s)
        self._worker: ExtrasWorker | None = None

    def outcome(
        self, kind: ExtraKind, configuration: Configuration, load: Load | None
    ) -> dict[str, Any]:
        """A result, or with what it failed; a lost connection is neither, and is waited for."""
        while True:  # bounded: an outage can only be waited for so often
            self._outage.wait()
            try:
                found = _measure(self._reached(), kind, configuration, load)
            except VisitFailedError as error:
                found = {"error": str(error)}
            except ConnectionLostError as error:
                self._outage.lost(str(error))
                self.close()
                continue
            except WorkerLostError as error:
                found = {"error": str(error)}
                self.close()
            self._outage.steady()
            return found

    def _reached(self) -> ExtrasWorker:
        """The worker, or a fresh one on the same kind of machine."""
        if self._worker is None:
            self._worker = self._open_worker()
            differences = key_differences(self._key, measurement_key(self._worker.host))
            if differences:
                raise InputError(
                    "this machine is not as it was when its latencies were measured "
                    f"({'; '.join(differences)}): start anew in another --out"
                )
        return self._worker

    def close(self) -> None:
        """Ends the worker, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _measure(
    worker: ExtrasWorker, kind: ExtraKind, configuration: Configuration, load: Load | None
) -> dict[str, Any]:
    """One result, checked: nothing else may enter a journal."""
    try:
        if kind == "footprint":
            return Footprint.from_json(worker.footprint(configuration)).to_json()
        assert load is not None
        return LoadSeries.from_json(worker.sustained(configuration, load)).to_json()
    except InputError as error:
        raise WorkerLostError(f"it sent something else than was asked for: {error}") from error
