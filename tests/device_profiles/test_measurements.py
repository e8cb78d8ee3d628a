from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from device_profiles.measurements import (
    SLICE_DEFAULTS,
    MeasuredRow,
    Measurements,
    concatenate,
    describe_slice,
    read_measurements,
    rows_of_slice,
    slice_of_columns,
    write_measurements,
)
from device_profiles.profile import LATENCIES_FILE, DeviceProfile
from device_profiles.provider_options import CPU_PROVIDER, CUDA_PROVIDER
from device_profiles.quality import PERCENTILES
from device_profiles.target import Configuration, Target
from supernet.architecture import Architecture

SHAPE = Architecture(4, 312, 1200, 12, 312)

HEADER = "num_layers,hidden_size,ffn_size,num_heads,qkv_size,latency_ms"


def measured(tmp_path: Path, text: str) -> Measurements:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    return read_measurements(path)


def test_missing_workload_and_target_columns_mean_the_usual_ones(tmp_path: Path) -> None:
    measurements = measured(tmp_path, f"{HEADER}\n4,312,1200,12,312,14.2\n")
    assert measurements.slices == [tuple(SLICE_DEFAULTS.values())]
    assert measurements.slices[0][:2] == (128, 1)
    assert measurements.architectures.tolist() == [[4, 312, 1200, 12, 312]]
    assert measurements.verdicts == ["ok"]


def test_columns_in_any_order_with_workloads_and_strangers(tmp_path: Path) -> None:
    measurements = measured(
        tmp_path,
        "note,latency_ms,qkv_size,num_heads,ffn_size,hidden_size,num_layers,threads,"
        "sequence_length,p50_ms\nx,1.5,24,2,30,20,1,4,64,\ny,2.5,24,2,30,20,2,4,64,2.6\n",
    )
    assert measurements.slices[1][:3] == (64, 1, 4)
    np.testing.assert_array_equal(measurements.statistics["p50_ms"], [np.nan, 2.6])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("4,312,1200,12,500,14.2", "line 2: qkv_size 500 is not divisible by num_heads 12"),
        ("0,312,1200,12,312,14.2", "line 2: num_layers is 0, which must be from 1 to 96"),
        ("4,312,1200,12,312,-1", "line 2: latency_ms is '-1', which is not a finite number above"),
        ("4,312,1200,12,312,nan", "line 2: latency_ms is 'nan'"),
        ("4,312,1200,12,312,slow", "line 2: latency_ms is 'slow'"),
        ("4,312,1200,12,312,", "line 2: latency_ms is ''"),
        ("4,x,1200,12,312,1", "line 2: hidden_size is 'x', which is not an integer"),
    ],
)
def test_a_row_that_is_not_right_is_named_by_its_line(
    tmp_path: Path, row: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measured(tmp_path, f"{HEADER}\n{row}\n")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks the column latency_ms"):
        measured(tmp_path, "num_layers,hidden_size,ffn_size,num_heads,qkv_size\n1,1,1,1,1\n")


def test_only_rejected_rows_may_lack_a_latency(tmp_path: Path) -> None:
    text = f"{HEADER},verdict\n4,312,1200,12,312,,rejected\n4,312,1200,12,312,{{}},{{}}\n"
    measurements = measured(tmp_path, text.format("3.0", "noisy"))
    assert measurements.verdicts == ["rejected", "noisy"]
    with pytest.raises(InputError, match="line 3: latency_ms is empty, but the row is not rej"):
        measured(tmp_path, text.format("", "ok"))
    with pytest.raises(InputError, match="line 3: verdict is 'great'"):
        measured(tmp_path, text.format("3.0", "great"))


def test_the_csv_of_a_profile_is_a_measurements_file(make_profile: Callable[..., Path]) -> None:
    folder = make_profile(configs=5)
    from_csv = read_measurements(folder / LATENCIES_FILE)
    from_profile = DeviceProfile.load(folder).measurements
    assert from_csv.slices == from_profile.slices
    np.testing.assert_array_equal(from_csv.architectures, from_profile.architectures)


def test_joining_measurements_keeps_rows_and_marks_unknown_statistics(tmp_path: Path) -> None:
    first = measured(tmp_path, f"{HEADER},p50_ms\n4,312,1200,12,312,1,1.1\n")
    second = measured(tmp_path, f"{HEADER}\n5,312,1200,12,312,2\n")
    both = concatenate([first, second])
    assert len(both) == 2
    np.testing.assert_array_equal(both.statistics["p50_ms"], [1.1, np.nan])
    assert both.architectures[:, 0].tolist() == [4, 5]


def test_each_row_has_its_own_slice_and_empty_fields_mean_the_default(tmp_path: Path) -> None:
    measurements = measured(
        tmp_path,
        f"{HEADER},graph_variant,threads\n4,312,1200,12,312,1,plain,2\n4,312,1200,12,312,1,,2\n"
        "4,312,1200,12,312,1,attention,1\n4,312,1200,12,312,1,plain,1\n",
    )
    assert [values[2] for values in measurements.slices] == [2, 2, 1, 1]
    assert [values[4] for values in measurements.slices] == ["plain", "plain", "attention", "plain"]


def test_slices_are_described_in_words() -> None:
    assert describe_slice((64, 2, 4, "fp32", "plain", "CPUExecutionProvider", "")) == (
        "64 tokens, batch 2, 4 threads, fp32, plain"
    )
    assert describe_slice((128, 1, 1, "fp16", "plain", CUDA_PROVIDER, "use_tf32=0")) == (
        f"128 tokens, batch 1, 1 thread, fp16, plain, {CUDA_PROVIDER} (use_tf32=0)"
    )


def test_a_record_without_provider_options_is_an_older_one_that_had_none() -> None:
    target = Target(provider=CUDA_PROVIDER)
    described = Configuration(SHAPE, target=target).to_json()
    older = {name: value for name, value in described.items() if name != "provider_options"}
    assert slice_of_columns(older) == slice_of_columns(described)
    assert rows_of_slice([older], slice_of_columns(described)) == [older]
    with pytest.raises(KeyError, match="threads"):
        slice_of_columns({name: value for name, value in older.items() if name != "threads"})


def row(target: Target, end_to_end_ms: float | None) -> MeasuredRow:
    return MeasuredRow(
        Configuration(SHAPE, target=target),
        1.5,
        dict.fromkeys(PERCENTILES),
        4,
        12,
        "ok",
        end_to_end_ms=end_to_end_ms,
    )


def test_provider_options_and_end_to_end_times_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "latencies.csv"
    gpu = Target(provider=CUDA_PROVIDER, provider_options="device_id=1,use_tf32=0")
    write_measurements(path, [row(gpu, 1.75), row(Target(), None)])
    with path.open() as file:
        written = list(csv.DictReader(file))
    assert [line["end_to_end_ms"] for line in written] == ["1.750000", ""]
    assert [line["provider_options"] for line in written] == ["device_id=1,use_tf32=0", ""]
    read = read_measurements(path)
    assert [values[-2:] for values in read.slices] == [
        (CUDA_PROVIDER, "device_id=1,use_tf32=0"),
        (CPU_PROVIDER, ""),
    ]


def test_there_is_no_end_to_end_column_where_nothing_was_timed_so(tmp_path: Path) -> None:
    path = tmp_path / "latencies.csv"
    write_measurements(path, [row(Target(), None)])
    assert "end_to_end_ms" not in path.read_text()
