from __future__ import annotations

import sys

from profiler.gpu import UNAVAILABLE, gpu_facts, provider_library, read_gpus

LINE = "NVIDIA H200, 570.86.15, 143771, 700.00, 1980, 3201, 345\n"


def test_the_facts_of_each_gpu_are_read() -> None:
    first, second = read_gpus(LINE + LINE.replace("700.00", "[N/A]"))
    assert first["name"] == "NVIDIA H200"
    assert (first["driver"], first["memory_mib"]) == ("570.86.15", "143771")
    assert (first["power_limit_w"], second["power_limit_w"]) == ("700.00", UNAVAILABLE)
    assert read_gpus("Unable to determine the device handle\n") == []


def test_a_machine_without_the_drivers_tool_says_unavailable() -> None:
    assert gpu_facts(["no-such-tool"]) == UNAVAILABLE
    assert gpu_facts([sys.executable, "-c", "raise SystemExit(9)"]) == UNAVAILABLE
    assert gpu_facts([sys.executable, "-c", "print('no devices were found')"]) == UNAVAILABLE


def test_what_the_tool_prints_is_what_is_known() -> None:
    assert gpu_facts([sys.executable, "-c", f"print({LINE!r})"]) == read_gpus(LINE)


def test_the_library_names_everything_that_computes() -> None:
    gpus = read_gpus(LINE)
    assert provider_library(gpus, "12.8") == "CUDA 12.8, driver 570.86.15, NVIDIA H200"
    assert provider_library([*gpus, *gpus], "12.8") == provider_library(gpus, "12.8")
    assert provider_library(UNAVAILABLE) == "CUDA unavailable, GPU unavailable"
