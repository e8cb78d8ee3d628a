"""The wheel, installed outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_wheel_installs_and_works_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("autotinybert-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    committed = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("device_profiles/*/*.*")}
    assert {name for name in committed if "__pycache__" not in name} <= names
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "autotinybert",
        "supernet",
        "device_profiles",
        "profiler",
        "predictor",
        "search",
    }
    # A fresh environment that sees the installed libraries, but neither checkout nor its scripts.
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    libraries = Path(pytest.__file__).parent.parent
    (site / "libraries.pth").write_text(f"{libraries}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    python = environment / "bin" / "python"
    shapes = elsewhere / "shapes.csv"
    shapes.write_text("num_layers,hidden_size,ffn_size,num_heads,qkv_size\n1,16,32,2,24\n")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = subprocess.run(
        [python, "-c", "import profiler.cli; print(profiler.cli.__file__)"],
        cwd=elsewhere,
        env=clean,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert where.startswith(str(site))
    machine = os.uname().machine
    target = {"x86_64": "cpu-x86", "aarch64": "cpu-arm"}[machine]
    subprocess.run(
        [
            *(python, "-m", "profiler.cli", "--target", target, "--architectures", shapes),
            *("--sequence-length", "4", "--out", "profile"),
        ],
        cwd=elsewhere,
        env=clean,
        check=True,
    )
    assert (elsewhere / "profile" / "latencies.csv").read_text().count("\n") == 1 + 3
