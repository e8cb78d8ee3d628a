from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autotinybert.command import Answer
from autotinybert.errors import DamagedFileError, InputError
from device_profiles.profile import BLOCK_FILES, BLOCKS_FILE, VARIANTS_FILE, DeviceProfile
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from profiler.profiling import profile_machine
from profiler.profiling_options import ProfilingJob, ProfilingOptions
from profiler.variant_choice import SHAPES

OPTIONS: dict[str, Any] = {
    **dict.fromkeys(
        [
            "space",
            "minutes",
            "architectures",
            "within",
            "reference",
            "sequence_length",
            "lengths_from",
            "tokenizer",
            "num_lengths",
            "batch_size",
            "threads",
            "precision",
            "graph_variant",
            "provider_option",
            "cpus",
            "percentile",
            "visits",
            "until_error",
            "footprint",
            "sustained",
            "ssh",
            "ssh_python",
            "ssh_config",
        ]
    ),
    "target": "cpu-x86",
    "configs": 4,
    "rivals": False,
    "under_load": False,
    "seed": 0,
}


def job(**changes: Any) -> ProfilingJob:
    return ProfilingJob.of(ProfilingOptions(**{**OPTIONS, **changes}))


def favouring(device: Any, speed: Mapping[str, float]) -> Any:
    """The device, with graph variants of different speed."""
    measured = device.visit

    def visit(configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
        found = measured(configuration, protocol)
        factor = speed.get(configuration.target.graph_variant, 1.0)
        return {**found, "runs_ns": [round(each / factor) for each in found["runs_ns"]]}

    device.visit = visit
    return device


def profile(device: Any, out: Path, asked: ProfilingJob, *, overwrite: bool = False) -> Answer:
    return profile_machine(
        asked, out, overwrite=overwrite, open_worker=device.open, clock_s=device.clock_s
    )


@pytest.mark.parametrize(
    ("speed", "chosen"),
    [({"folded": 1.08, "attention": 0.8}, "folded"), ({"folded": 1.01}, "plain")],
)
def test_the_variant_is_chosen_by_measurement_and_the_choice_is_recorded(
    fake_device: Callable[..., Any], tmp_path: Path, speed: dict[str, float], chosen: str
) -> None:
    out = tmp_path / "profile"
    device = favouring(fake_device(noise=0.001), speed)
    assert profile(device, out, job(graph_variant=["auto"])).exit_code == 0
    found = DeviceProfile.load(out)
    assert {values[4] for values in found.measurements.slices} == {chosen}
    (choice,) = found.document["graph_variants"]
    assert choice["graph_variant"] == chosen
    assert choice["gains"]["folded"] == pytest.approx(speed["folded"] - 1, abs=0.01)
    assert (out / VARIANTS_FILE).stat().st_size > 0
    measured = len(device.visited)
    assert profile(device, out, job(graph_variant=["auto"])).data["finished_before"]
    assert len(device.visited) == measured


def test_a_choice_that_was_interrupted_is_not_made_again(
    fake_device: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    device = favouring(fake_device(noise=0.001), {"folded": 1.08})
    whole = device.visit

    def dying(configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
        if configuration.architecture not in SHAPES:
            raise KeyboardInterrupt
        found: Mapping[str, Any] = whole(configuration, protocol)
        return found

    device.visit = dying
    with pytest.raises(KeyboardInterrupt):
        profile(device, out, job(graph_variant=["auto"]))
    choosing = (out / VARIANTS_FILE).read_bytes()
    device.visit = whole
    profile(device, out, job(graph_variant=["auto"]))
    assert (out / VARIANTS_FILE).read_bytes() == choosing


def test_the_journal_of_the_choice_is_protected_like_every_other(
    fake_device: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    profile(fake_device(), out, job(graph_variant=["auto"]))
    (out / VARIANTS_FILE).write_text("{}\n")
    with pytest.raises(DamagedFileError, match="not as it was measured"):
        DeviceProfile.load(out)


def test_a_choice_is_no_axis(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave the others out"):
        job(graph_variant=["auto", "plain"])


def test_profiles_tell_no_folders(fake_device: Callable[..., Any], tmp_path: Path) -> None:
    shapes = tmp_path / "shapes.csv"
    shapes.write_text(
        "num_layers,hidden_size,ffn_size,num_heads,qkv_size\n1,128,256,2,128\n2,64,64,2,64\n"
    )
    out = tmp_path / "profile"
    profile(fake_device(), out, job(configs=None, architectures=shapes))
    text = (out / "profile.json").read_text()
    assert str(tmp_path) not in text
    assert "shapes.csv" in json.loads(text)["arguments"]


def test_blocks_are_measured_after_the_models_and_belong_to_the_profile(
    fake_device: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    device = fake_device(noise=0.0001)
    assert profile(device, out, job(blocks=True)).exit_code == 0
    found = DeviceProfile.load(out)
    assert found.block_times is not None
    assert {time.verdict for time in found.block_times} == {"ok"}
    assert {values[3] for values in found.measurements.slices} == {"fp32"}
    (largest,) = (
        time for time in found.block_times if (time.hidden_size, time.size) == (768, 3072)
    )
    # Twice 768 x 3072 multiply-adds for each of 128 tokens, and a constant.
    assert largest.latency_ms == pytest.approx(4 * 128 * 768 * 3072 / 8e7 + 0.01, rel=0.01)
    assert "--blocks" in found.document["arguments"]
    measured = len(device.visited)
    assert profile(device, out, job(blocks=True)).data["finished_before"]
    assert len(device.visited) == measured


def test_blocks_that_were_interrupted_go_on_where_they_were(
    fake_device: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    device = fake_device()
    whole = device.visit

    def dying(configuration: Configuration, protocol: Protocol) -> Mapping[str, Any]:
        if sum(each.part == "ffn" for each in device.visited) == 10:
            raise KeyboardInterrupt
        found: Mapping[str, Any] = whole(configuration, protocol)
        return found

    device.visit = dying
    with pytest.raises(KeyboardInterrupt):
        profile(device, out, job(blocks=True))
    before = len(device.visited)
    device.visit = whole
    profile(device, out, job(blocks=True))
    unbroken = fake_device()
    profile(unbroken, tmp_path / "unbroken", job(blocks=True))
    assert before < len(device.visited) == len(unbroken.visited)
    assert {each.part for each in device.visited[before:]} <= {"embeddings", "attention", "ffn"}


def test_a_profile_without_blocks_has_none_and_no_files_of_theirs(
    fake_device: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    profile(fake_device(), out, job(blocks=True))
    profile(fake_device(), out, job(), overwrite=True)
    assert DeviceProfile.load(out).block_times is None
    assert not any((out / name).exists() for name in BLOCK_FILES)


@pytest.mark.parametrize("name", BLOCK_FILES)
def test_files_of_blocks_are_protected_like_every_other(
    fake_device: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "profile"
    profile(fake_device(), out, job(blocks=True))
    with (out / name).open("a") as file:
        file.write("\n")
    with pytest.raises(DamagedFileError, match="not as it was measured"):
        DeviceProfile.load(out)
    (out / BLOCKS_FILE).unlink()
    with pytest.raises(DamagedFileError, match=r"not as it was measured|cannot read"):
        DeviceProfile.load(out)


def test_of_a_time_limit_the_blocks_have_their_share(
    fake_device: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    device = fake_device()
    profile(device, out, job(blocks=True, configs=None, minutes=10.0))
    of_blocks = sum(each.part != "encoder" for each in device.visited)
    assert of_blocks >= 55 * 6
    assert device.now_s == pytest.approx(600, rel=0.4)
