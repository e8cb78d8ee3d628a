from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.space_file import (
    BUILT_IN_SPACES,
    load_space,
    space_document,
    space_from_document,
)


def test_a_space_from_toml_equals_the_one_from_json(tmp_path: Path) -> None:
    document = {
        "num_layers": [2, 4],
        "hidden_size": {"min": 64, "max": 128, "step": 32},
        "ffn_size": {"min": 128, "max": 256, "step": 64},
        "num_heads": [2, 4],
        "qkv_size": {"per_head": 32},
    }
    (tmp_path / "mine.json").write_text(json.dumps(document))
    (tmp_path / "mine.toml").write_text(
        "num_layers = [2, 4]\nnum_heads = [2, 4]\n"
        "hidden_size = {min = 64, max = 128, step = 32}\n"
        "ffn_size = {min = 128, max = 256, step = 64}\n"
        "qkv_size = {per_head = 32}\n"
    )
    from_json = load_space(str(tmp_path / "mine.json"))
    assert from_json == load_space(str(tmp_path / "mine.toml"))
    assert from_json.name == "mine"
    assert from_json.size == 2 * 3 * 3 * 2
    assert Architecture(2, 96, 192, 4, 128) in from_json


AXES = {
    "num_layers": [1],
    "hidden_size": [8],
    "ffn_size": [8],
    "num_heads": [2],
    "qkv_size": [8],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": None}, "must be a list"),
        ({"num_layers": []}, "num_layers has no value"),
        ({"num_layers": [2, 1]}, "must increase"),
        ({"num_layers": [0]}, "from 1 to 96"),
        ({"hidden_size": ["8"]}, "no integer"),
        ({"hidden_size": {"min": 8}}, "must be a list"),
        ({"qkv_size": [9]}, "divisible"),
        ({"qkv_size": {"per_head": -1}}, "from 1 to"),
        ({"color": [1]}, "unknown key color"),
        ({"hidden_size": {"min": 9, "max": 8}}, "min 9 above max 8"),
        ({"qkv_size": "hiden"}, "\"hidden\" or {per_head}, not 'hiden'"),
        ({"num_heads": [100], "qkv_size": {"per_head": 100}}, "make a qkv_size of 10000"),
        (
            {
                "hidden_size": {"min": 1, "max": 8192},
                "num_heads": {"min": 1, "max": 128},
                "qkv_size": {"min": 1, "max": 8192},
            },
            "widths, at most 500000 are held: take larger steps",
        ),
        ({"qkv_size": "hidden", "hidden_size": [9]}, "divisible"),
    ],
)
def test_a_malformed_space_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        space_from_document({**AXES, **change}, default_name="mine")


def test_a_space_without_an_axis_names_the_axis() -> None:
    document = {axis: values for axis, values in AXES.items() if axis != "ffn_size"}
    with pytest.raises(InputError, match="no ffn_size"):
        space_from_document(document, default_name="mine")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "no space 'nowhere': use kd, mlm, hf-native"),
        ("absent.toml", None, "cannot read"),
        ("torn.json", "{", "not valid JSON"),
        ("torn.toml", "=", "not valid TOML"),
        ("list.json", "[]", "table of axes"),
        ("deep.json", "[" * 100_000, "not valid JSON"),
    ],
)
def test_a_space_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_space(str(path) if "." in name else name)


@pytest.mark.parametrize("name", BUILT_IN_SPACES)
def test_a_space_is_read_back_from_its_document(name: str) -> None:
    space = load_space(name)
    document = json.loads(json.dumps(space_document(space)))
    assert space_from_document(document, default_name="other") == space


@pytest.mark.parametrize("name", BUILT_IN_SPACES)
def test_a_clipped_space_is_read_back_with_the_superplm_that_clipped_it(name: str) -> None:
    largest = Architecture(6, 384, 1536, 12, 768)
    clipped = load_space(name, hidden_step=16, ffn_step=64).clipped(largest)
    document = json.loads(json.dumps(space_document(clipped)))
    assert space_from_document(document, default_name="other").clipped(largest) == clipped
