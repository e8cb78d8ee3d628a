from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from device_profiles.target import Workload
from predictor.cli import fit_predictor
from predictor.predict_cli import predict_latency
from predictor.store import load_predictor
from supernet.architecture import Architecture, to_matrix

MakeProfile = Callable[..., Path]
SHAPE = "5-564-1024-12-528"


Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("blocks", "source"), [(True, "measured"), (False, "fitted")])
def test_the_blocks_of_a_shape_add_up_to_its_prediction(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path, *, blocks: bool, source: str
) -> None:
    out = tmp_path / "predictor"
    assert cli(fit_predictor, make_profile(blocks=blocks), "--out", out)[0] == 0
    code, text, _ = cli(predict_latency, "--predictor", out, "--explain", SHAPE, "--json")
    assert code == 0
    answer = json.loads(text)
    (found,) = answer["slices"]
    assert (answer["model_id"], found["table"]) == (SHAPE, source)
    (part,) = load_predictor(out).slices
    predicted = part.predict(to_matrix([Architecture.parse(SHAPE)])).latency_ms[0]
    assert found["latency_ms"] == pytest.approx(predicted)
    assert sum(block["latency_ms"] for block in found["blocks"]) == pytest.approx(predicted)
    assert sum(block["share"] for block in found["blocks"]) == pytest.approx(1)
    counts = {block["block"]: block["count"] for block in found["blocks"]}
    assert counts == {"embedding": 1, "attention": 5, "ffn": 5}
    if blocks:
        # Of 4 d q + 2 S q and 2 d f multiply-adds, by FLOPs alone but for a constant.
        by_block = {block["block"]: block["each_ms"] for block in found["blocks"]}
        ratio = (4 * 564 * 528 + 2 * 128 * 528) / (2 * 564 * 1024)
        assert by_block["attention"] / by_block["ffn"] == pytest.approx(ratio, rel=0.03)


def test_a_terminal_shows_a_table_for_every_workload(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    out = tmp_path / "predictor"
    workloads = (Workload(), Workload(1, 32))
    assert cli(fit_predictor, make_profile(workloads=workloads), "--out", out)[0] == 0
    code, text, _ = cli(predict_latency, "--predictor", out, "--explain", SHAPE)
    assert code == 0
    assert text.count("100.0%") == 2
    assert text.count("fitted to whole models") == 2
    assert f"{SHAPE}, 32 tokens, batch 1" in text


def test_the_written_table_is_of_measured_blocks(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path
) -> None:
    out = tmp_path / "predictor"
    assert cli(fit_predictor, make_profile(blocks=True), "--out", out)[0] == 0
    with (out / "lookup_table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["block"] for row in rows].count("attention") == 25
    (largest,) = (row for row in rows if (row["hidden_size"], row["size"]) == ("768", "3072"))
    assert float(largest["latency_ms"]) == pytest.approx(4 * 128 * 768 * 3072 / 8e7, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain", "5-564"], "'5-564' is no architecture"),
        (["--explain", "24-564-1024-12-528"], "num_layers 24 is outside 1..12, the range that"),
        (["--explain", SHAPE, "--statistic", "p99"], "p99 was not measured"),
        (["--explain", SHAPE, "--csv", "shapes.csv"], "name either --csv FILE or --explain"),
        ([], "name either --csv FILE or --explain"),
    ],
)
def test_what_cannot_be_explained_is_one_clear_line(
    cli: Cli, make_profile: MakeProfile, tmp_path: Path, arguments: list[str], message: str
) -> None:
    out = tmp_path / "predictor"
    assert cli(fit_predictor, make_profile(), "--out", out)[0] == 0
    code, text, error = cli(predict_latency, "--predictor", out, *arguments)
    assert (code, text) == (2, "")
    assert message in error
    assert error.count("\n") == 1
