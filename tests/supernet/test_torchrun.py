"""Several processes under torchrun: the command as users type it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from supernet.checkpoint import CHECKPOINT_FILE
from supernet.supernet_folder import WEIGHTS_FILE, load_supernet

ROOT = Path(__file__).parents[2]
_LIMIT_S = 90.0


@contextmanager
def torchrun(options: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """Two processes; whatever of them is left in the end is killed."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "supernet.training", *map(str, options)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


def workers(parent: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(parent.pid).children(recursive=True)
    return [child for child in children if "supernet.training" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_costs_what_follows_the_last_checkpoint_and_nothing_else(
    teacher: Path, text: Path, space_file: Path, tmp_path: Path
) -> None:
    options = (
        *("--teacher", teacher, "--corpus", text, "--space", space_file, "--steps", 100),
        *("--sequence-length", 32, "--batch-size", 4, "--checkpoint-every", 0, "--device", "cpu"),
    )
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    with torchrun([*options, "--out", unbroken]) as process:
        out, error = process.communicate(timeout=_LIMIT_S)
        assert process.returncode == 0, error
    assert out.count("held-out loss") == 1, "one process speaks"
    with torchrun([*options, "--out", broken]) as process:
        deadline_s = time.monotonic() + _LIMIT_S
        while not (broken / CHECKPOINT_FILE).exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert process.poll() is None, process.stderr and process.stderr.read()
        workers(process)[-1].kill()
        process.communicate(timeout=_LIMIT_S)
        assert process.returncode != 0, "the others end, too"
    assert (broken / CHECKPOINT_FILE).exists()
    with torchrun([*options, "--out", broken]) as process:
        _, error = process.communicate(timeout=_LIMIT_S)
        assert process.returncode == 0, error
    assert (broken / WEIGHTS_FILE).read_bytes() == (unbroken / WEIGHTS_FILE).read_bytes()
    found = load_supernet(broken)
    assert found.document["training"]["processes"] == 2
    assert found.document["training"]["steps"] == 100


@pytest.mark.slow
def test_bad_input_ends_all_processes(tmp_path: Path, teacher: Path, space_file: Path) -> None:
    text = tmp_path / "absent"
    options = ("--teacher", teacher, "--space", space_file, "--corpus", text, "--steps", 2)
    with torchrun([*options, "--out", tmp_path / "out"]) as process:
        _, error = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 1  # torchrun's own
    assert "cannot read --corpus" in error
    assert not (tmp_path / "out").exists()
