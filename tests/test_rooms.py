"""The one-way rule: which room may import which, and what the light sides must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The torch half of `supernet` by module; everything else in it is torch-free.
TORCH_HALF = frozenset(
    {
        "checkpoint",
        "demo_teacher",
        "batch",
        "distillation",
        "distributed",
        "elastic",
        "extraction",
        "held_out",
        "huggingface",
        "importance",
        "importing",
        "learner",
        "masked_language",
        "model",
        "modeling_autotinybert",
        "objective_change",
        "objectives",
        "onnx_score",
        "span_finetuning",
        "squad_finetuning",
        "starting",
        "student_folder",
        "supernet_folder",
        "task_head",
        "finetune_job",
        "finetuning",
        "squad_job",
        "teacher_config",
        "teacher_families",
        "teacher_heads",
        "training",
        "training_folder",
        "training_report",
        "training_request",
        "training_runs",
    }
)

ROOMS = ("autotinybert", "supernet", "device_profiles", "profiler", "predictor", "search")

# What a room may import besides itself. `cli.py` and `*_cli.py` are composition roots and may
# import any room.
MAY_IMPORT = {
    "autotinybert": set(),
    "supernet": {"autotinybert"},
    "device_profiles": {"autotinybert", "supernet"},
    "profiler": {"autotinybert", "supernet", "device_profiles"},
    "predictor": {"autotinybert", "supernet", "device_profiles"},
    "search": set(ROOMS),
}


def modules(room: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / room).rglob("*.py")) if not path.stem.endswith("cli"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, lazily or for types alone too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_imports_between_rooms_go_one_way(room: str) -> None:
    for path in modules(room):
        rooms = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
        forbidden = rooms - MAY_IMPORT[room] - {room}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


@pytest.mark.parametrize("room", ["supernet", "device_profiles", "profiler", "predictor"])
def test_nothing_imports_the_torch_half_of_supernet_or_torch(room: str) -> None:
    for path in modules(room):
        if path.stem in TORCH_HALF and room == "supernet":
            continue
        names = imported(path)
        assert not {name.split(".")[0] for name in names} & {"torch", "transformers"}, path
        own = [name.split(".") for name in names if name.startswith("supernet.")]
        assert not {part for parts in own for part in parts} & TORCH_HALF, path


def test_the_file_that_is_copied_into_model_folders_stands_alone() -> None:
    names = imported(ROOT / "supernet" / "modeling_autotinybert.py")
    assert {name.split(".")[0] for name in names} <= {
        *("__future__", "typing"),
        *("torch", "transformers"),
    }


def test_the_rule_names_every_package_that_is_shipped() -> None:
    shipped = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert shipped == set(ROOMS)


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import profiler.worker", ("torch", "transformers", "scipy", "sklearn", "matplotlib")),
        ("import profiler.footprint", ("torch", "scipy", "onnx", "psutil", "rich", "typer")),
        (
            "import profiler.cli, profiler.child",
            ("torch", "transformers", "scipy", "sklearn", "matplotlib", "pandas"),
        ),
        (
            "from predictor.store import load_predictor; import predictor.cli",
            ("torch", "transformers", "scipy", "sklearn", "matplotlib", "onnx", "onnxruntime"),
        ),
        (
            "import supernet.cli",
            ("torch", "transformers", "scipy", "sklearn", "matplotlib", "onnxruntime"),
        ),
    ],
    ids=["measuring child", "model's process", "profile-device", "predicting", "export-model"],
)
def test_light_sides_load_no_heavy_library(code: str, heavy: tuple[str, ...]) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & set(heavy)


def test_no_test_folder_shadows_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
