"""A device profile on disk: a folder that says what was measured, where, how, and how well.

- `profile.json`: schema version, host facts, protocol, measurement key, reference rows, the
  campaign's blocks, what a growing one promised, footprints, lasting loads and lengths of texts
  where these were asked for, and checksums of the other files and of itself
- `measurements.jsonl`: the journal, every visit with its raw runs
- `latencies.csv`: one row per architecture, workload and target, with its verdict
- `variants.jsonl`: the journal of the campaign that chose the graph variant, if one did
- `blocks.jsonl` and `blocks.csv`: the journal of the campaign that measured blocks, if one did,
  and what each block takes

History of the schema:

1. The first.
2. The protocol has `planned_visits`, `most_waiting_share` and `max_hold_s`; visits may be
   `disturbed`, and blocks count those; labels are told at the quiet clock rate. Profiles of
   version 1 are refused: nobody noted whether their visits had the core to themselves.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from autotinybert.errors import DamagedFileError, InputError
from autotinybert.files import read_signed_json, sha256_file, write_signed_json
from device_profiles.blocks import BlockTime, block_times_of, read_blocks, write_blocks
from device_profiles.clock_rate import quiet_probe_ns
from device_profiles.extras import lengths_document
from device_profiles.journal import read_journal
from device_profiles.lengths import LengthHistogram
from device_profiles.machine import key_differences, key_hash, measurement_key
from device_profiles.measurements import (
    MeasuredRow,
    Measurements,
    read_measurements,
    write_measurements,
)
from device_profiles.profile_document import check_profile_document
from device_profiles.protocol import Protocol
from device_profiles.rows import factors_of_blocks, rows_of
from device_profiles.verdicts import Verdict
from device_profiles.visits import CampaignRecord, Visit
from supernet.architecture import Architecture
from supernet.published import REFERENCE_SHAPES

SCHEMA_VERSION = 2

PROFILE_FILE = "profile.json"
JOURNAL_FILE = "measurements.jsonl"
LATENCIES_FILE = "latencies.csv"
VARIANTS_FILE = "variants.jsonl"
BLOCKS_JOURNAL_FILE = "blocks.jsonl"
BLOCKS_FILE = "blocks.csv"
BLOCK_FILES = (BLOCKS_JOURNAL_FILE, BLOCKS_FILE)
PROFILE_FILES = (PROFILE_FILE, JOURNAL_FILE, LATENCIES_FILE)


@dataclass(frozen=True)
class DeviceProfile:
    """A finished profile, checked.

    Attributes:
        folder: where it was read.
        target: the name of the target, `cpu-x86` for example.
        host: facts of the machine.
        key: the measurement key's fields.
        protocol: how it was measured.
        references: the reference rows: name, configuration and statistics.
        blocks: of the campaign: number, round, start, slow-down factor, whether it was slow.
        document: `profile.json` as it stands.
        measurements: the rows.
        lengths: of the texts that the workloads stand for, if the profile was made for some.
        block_times: what each block takes; None if none was measured.
    """

    folder: Path
    target: str
    host: Mapping[str, Any]
    key: Mapping[str, Any]
    protocol: Protocol
    references: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    document: Mapping[str, Any]
    measurements: Measurements
    lengths: LengthHistogram | None = None
    block_times: list[BlockTime] | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads a profile and checks every byte of it.

        Raises:
            InputError: if the folder holds no finished profile.
            DamagedFileError: if a file of it was torn, truncated or edited.
        """
        document = _read_document(folder)
        checksums = document.get("checksums")
        if not isinstance(checksums, dict):
            raise DamagedFileError(f"{folder / PROFILE_FILE} has no checksums: measure again")
        checked = [JOURNAL_FILE, LATENCIES_FILE]
        checked += [VARIANTS_FILE] if "graph_variants" in document else []
        checked += BLOCK_FILES if "block_campaign" in document else []
        for name in checked:
            try:
                actual = sha256_file(folder / name)
            except OSError as error:
                raise DamagedFileError(
                    f"cannot read {folder / name}: {error.strerror}; restore the profile or "
                    "measure again"
                ) from error
            if actual != checksums.get(name):
                raise DamagedFileError(
                    f"{folder / name} is not as it was measured (torn, truncated or edited): "
                    "restore it, measure again, or pass your own figures with --csv"
                )
        try:
            check_profile_document(document)
            if ("block_campaign" in document) != (BLOCKS_FILE in checksums):
                raise ValueError("it has blocks and does not say how they were measured")
            found = cls(
                folder=folder,
                target=document["target"],
                host=document["host"],
                key=document["measurement_key"],
                protocol=Protocol.from_json(document["protocol"]),
                references=document["reference_rows"],
                blocks=document["blocks"],
                document=document,
                measurements=read_measurements(folder / LATENCIES_FILE),
                lengths=LengthHistogram.from_json(document["lengths"])
                if "lengths" in document
                else None,
                block_times=read_blocks(folder / BLOCKS_FILE)
                if "block_campaign" in document
                else None,
            )
        except LookupError as error:
            raise DamagedFileError(
                f"{folder / PROFILE_FILE} lacks {error}: make it anew"
            ) from error
        except ValueError as error:
            raise DamagedFileError(
                f"{folder / PROFILE_FILE} is no device profile ({error}): measure again"
            ) from error
        verdicts = found.measurements.verdicts
        if any(document["rows"][name] != verdicts.count(name) for name in get_args(Verdict)):
            raise DamagedFileError(
                f"{folder / PROFILE_FILE} counts other rows than {LATENCIES_FILE} has: measure "
                "again"
            )
        return found

    def campaign(self) -> CampaignRecord:
        """Every visit behind the rows.

        Raises:
            DamagedFileError: if the journal is damaged.
        """
        return CampaignRecord.from_journal(read_journal(self.folder / JOURNAL_FILE))


def _read_document(folder: Path) -> dict[str, Any]:
    """Reads `profile.json` and checks that it is whole, ours, and of a version we know."""
    if not folder.is_dir():
        raise InputError(f"no device profile in {folder}: make one with profile-device --out")
    if not (folder / PROFILE_FILE).exists():
        if (folder / JOURNAL_FILE).exists():
            raise InputError(
                f"the device profile in {folder} is unfinished: run the same profile-device "
                "command again to go on with it"
            )
        raise InputError(f"no device profile in {folder}: make one with profile-device --out")
    document = read_signed_json(
        folder / PROFILE_FILE,
        kind="device-profile",
        schema_version=SCHEMA_VERSION,
        remedy="restore it or measure again",
    )
    if document["schema_version"] < SCHEMA_VERSION:
        raise InputError(
            f"{folder} has schema version {document['schema_version']}, of before visits were "
            "checked for competing load: profile the device again, in another --out"
        )
    return document


def save_profile(
    folder: Path,
    *,
    target: str,
    host: Mapping[str, Any],
    protocol: Protocol,
    arguments: Sequence[str],
    campaign: CampaignRecord,
    rows: Sequence[MeasuredRow],
    references: Sequence[Architecture] = (),
    lengths: LengthHistogram | None = None,
    graph_variants: Sequence[Mapping[str, Any]] = (),
    block_campaign: CampaignRecord | None = None,
) -> None:
    """Writes `latencies.csv` and `profile.json` beside a journal that is already there.

    Writes `blocks.csv` too, where blocks were measured.

    Args:
        folder: the profile's folder.
        target: the name of the target.
        host: facts of the machine.
        protocol: how it was measured.
        arguments: of the command that measured it, less `--out`.
        campaign: what the journal says.
        rows: the rows that follow from it.
        references: shapes that are reference rows besides the usual ones.
        lengths: of the texts that the workloads stand for.
        graph_variants: how the variant of each target was chosen, by `variants.jsonl`.
        block_campaign: what `blocks.jsonl` says, if blocks were measured.
    """
    footprints = campaign.extras.footprints
    write_measurements(
        folder / LATENCIES_FILE,
        rows,
        {campaign.configurations[index]: footprint for index, footprint in footprints.items()},
    )
    others = [VARIANTS_FILE] if graph_variants else []
    blocks: dict[str, Any] = {}
    if block_campaign is not None:
        write_blocks(folder / BLOCKS_FILE, block_times_of(rows_of(block_campaign, protocol)))
        others += BLOCK_FILES
        blocks["block_campaign"] = {
            "elapsed_s": round(block_campaign.elapsed_s, 3),
            "stopped": block_campaign.stopped,
        }
    names = _reference_names(references)
    reference_rows = _reference_rows(rows, names)
    key = measurement_key(host)
    verdicts = [row.verdict for row in rows]
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": "device-profile",
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "target": target,
        "host": dict(host),
        "measurement_key": key,
        "measurement_key_hash": key_hash(key),
        "protocol": protocol.to_json(),
        "arguments": list(arguments),
        "rows": {name: verdicts.count(name) for name in ("ok", "noisy", "rejected")},
        "reference_rows": reference_rows,
        "blocks": _blocks(campaign, protocol),
        "quiet_probe_ns": quiet_probe_ns(campaign.visits),
        "elapsed_s": round(campaign.elapsed_s, 3),
        "stopped": campaign.stopped,
        **({"promises": campaign.promises_document()} if campaign.promises else {}),
        **campaign.extras.document(campaign.configurations, names),
        **({} if lengths is None else {"lengths": lengths_document(lengths, reference_rows)}),
        **({"graph_variants": [dict(each) for each in graph_variants]} if graph_variants else {}),
        **blocks,
        "checksums": {
            name: sha256_file(folder / name) for name in (JOURNAL_FILE, LATENCIES_FILE, *others)
        },
    }
    write_signed_json(folder / PROFILE_FILE, document)


def _reference_names(others: Sequence[Architecture]) -> dict[Architecture, str]:
    names = {architecture: str(architecture) for architecture in others}
    names.update((shape.architecture, shape.name) for shape in REFERENCE_SHAPES)
    return names


def _reference_rows(
    rows: Sequence[MeasuredRow], names: Mapping[Architecture, str]
) -> list[dict[str, Any]]:
    return [
        {
            "name": names[row.configuration.architecture],
            **row.configuration.to_json(),
            "latency_ms": row.latency_ms,
            **{f"p{percentile}_ms": value for percentile, value in row.percentiles_ms.items()},
            "verdict": row.verdict,
        }
        for row in rows
        if row.configuration.architecture in names
    ]


def _blocks(campaign: CampaignRecord, protocol: Protocol) -> list[dict[str, Any]]:
    factors = factors_of_blocks(campaign.visits)
    visits_of: dict[int, list[Visit]] = {}
    for visit in campaign.visits:
        visits_of.setdefault(visit.block, []).append(visit)
    return [
        {
            "block": number,
            "round": visits[0].round,
            "started_s": round(visits[0].started_s, 3),
            "visits": len(visits),
            "disturbed": sum(visit.disturbed is not None for visit in visits),
            "factor": round(factors[number], 4),
            "slow": factors[number] > protocol.slow_factor,
        }
        for number, visits in visits_of.items()
    ]


def check_same_key(profiles: Sequence[DeviceProfile]) -> None:
    """Checks that profiles may be used together.

    Raises:
        InputError: naming the fields of the measurement key that differ.
    """
    for other in profiles[1:]:
        differences = key_differences(profiles[0].key, other.key)
        if differences:
            raise InputError(
                f"{profiles[0].folder} and {other.folder} were not measured on the same kind of "
                f"machine and build ({'; '.join(differences)}): fit a predictor for each"
            )
