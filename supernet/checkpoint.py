"""Checkpoints: all that training changes, in one file that is whole or absent.

One safetensors file holds parameters, the optimiser's moments and, as its metadata, where training
was. One rename puts it in place, so a crash leaves the checkpoint before.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from autotinybert.errors import DamagedFileError
from autotinybert.files import whole_binary_file
from autotinybert.values import integer, number
from supernet.training import TrainingState

CHECKPOINT_FILE = "checkpoint.safetensors"


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Writes a checkpoint.

    Raises:
        InputError: if the folder cannot be written.
    """
    where = {"step": state.step, "elapsed_s": state.elapsed_s}
    content = save(state.tensors(), metadata={"training": json.dumps(where)})
    with whole_binary_file(path) as file:
        file.write(content)


def restore_checkpoint(path: Path, state: TrainingState) -> None:
    """Takes training back to where a checkpoint was written.

    Raises:
        DamagedFileError: if it is torn or of another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            where = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state.restore(tensors, integer(where["step"]), number(where["elapsed_s"], lowest=0))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFileError(
            f"{path} is no checkpoint of this training ({' '.join(str(error).split())[:200]}): "
            "remove it, or begin anew with --overwrite"
        ) from error
