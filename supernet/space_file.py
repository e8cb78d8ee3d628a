"""Search spaces by name: the built-in ones, and those that users write in TOML or JSON."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotinybert.errors import InputError
from autotinybert.values import parse_json
from supernet.architecture import UPPER_BOUNDS
from supernet.space import QkvRule, Space, axis_values, hf_native_space, kd_space, mlm_space

BUILT_IN_SPACES = {"kd": kd_space, "mlm": mlm_space, "hf-native": hf_native_space}


def load_space(name: str, *, hidden_step: int = 4, ffn_step: int = 4) -> Space:
    """A built-in space by name, or one written in a TOML or JSON file.

    The steps are those of built-in spaces; a file states its own.

    A file gives each axis as a list, `[1, 2, 4]`, or as `{min, max, step}`; `qkv_size` may also
    be `"hidden"` or `{per_head = 64}`.

    Raises:
        InputError: if there is no such space, or the file does not describe one.
    """
    if name in BUILT_IN_SPACES:
        return BUILT_IN_SPACES[name](hidden_step=hidden_step, ffn_step=ffn_step)
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        raise InputError(
            f"no space {name!r}: use {', '.join(BUILT_IN_SPACES)} or a .toml or .json file"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = tomllib.loads(text) if path.suffix == ".toml" else parse_json(text)
    except OSError as error:
        raise InputError(f"cannot read space {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"space {path} is not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"space {path} must be a table of axes")
    return space_from_document(document, default_name=path.stem)


def space_document(space: Space) -> dict[str, Any]:
    """A space as `space_from_document` reads it; a limit of the head size is left out."""
    qkv: object = list(space.qkv_sizes)
    if space.qkv_rule == "hidden":
        qkv = "hidden"
    elif space.qkv_rule == "per-head":
        qkv = {"per_head": space.qkv_sizes[0]}
    return {
        "name": space.name,
        "num_layers": list(space.num_layers),
        "hidden_size": list(space.hidden_sizes),
        "ffn_size": list(space.ffn_sizes),
        "num_heads": list(space.num_heads),
        "qkv_size": qkv,
    }


def space_from_document(document: Mapping[str, Any], *, default_name: str) -> Space:
    """The space that a parsed TOML or JSON document describes.

    Raises:
        InputError: if an axis is missing, unknown or malformed.
    """
    axes = ("num_layers", "hidden_size", "ffn_size", "num_heads", "qkv_size")
    unknown = sorted(set(document) - {*axes, "name"})
    missing = [axis for axis in axes if axis not in document]
    if unknown or missing:
        problem = f"unknown key {unknown[0]}" if unknown else f"no {missing[0]}"
        raise InputError(f"space {default_name}: {problem}; its keys are name, {', '.join(axes)}")
    name = document.get("name", default_name)
    if not isinstance(name, str):
        raise InputError(f"space {default_name}: name must be text, not {name!r}")
    values = {axis: _axis(default_name, axis, document[axis]) for axis in axes[:-1]}
    qkv = document["qkv_size"]
    rule: QkvRule = "free"
    sizes: tuple[int, ...]
    if qkv == "hidden":
        rule, sizes = "hidden", ()
    elif isinstance(qkv, Mapping) and set(qkv) == {"per_head"}:
        rule, sizes = "per-head", _axis(default_name, "qkv_size", [qkv["per_head"]])
    elif isinstance(qkv, str) or (isinstance(qkv, Mapping) and "min" not in qkv):
        raise InputError(
            f'space {default_name}: qkv_size must be a list, {{min, max, step}}, "hidden" or '
            f"{{per_head}}, not {qkv!r}"
        )
    else:
        sizes = _axis(default_name, "qkv_size", qkv)
    return Space(
        name=name,
        num_layers=values["num_layers"],
        hidden_sizes=values["hidden_size"],
        ffn_sizes=values["ffn_size"],
        num_heads=values["num_heads"],
        qkv_rule=rule,
        qkv_sizes=sizes,
    )


def _axis(space: str, axis: str, value: object) -> tuple[int, ...]:
    def integer(number: object) -> int:
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(f"space {space}: {axis} holds {number!r}, which is no integer")
        if not 1 <= number <= UPPER_BOUNDS[axis]:
            raise InputError(
                f"space {space}: {axis} {number} must be from 1 to {UPPER_BOUNDS[axis]}"
            )
        return number

    if isinstance(value, list):
        return tuple(integer(number) for number in value)
    if isinstance(value, Mapping) and {"min", "max"} <= set(value) <= {"min", "max", "step"}:
        low, high, step = (integer(value.get(name, 1)) for name in ("min", "max", "step"))
        if low > high:
            raise InputError(f"space {space}: {axis} has min {low} above max {high}")
        return axis_values(low, high, step)
    raise InputError(f"space {space}: {axis} must be a list or {{min, max, step}}, not {value!r}")
