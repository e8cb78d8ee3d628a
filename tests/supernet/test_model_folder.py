"""Model folders, opened as their users open them: ONNX Runtime and real transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import safetensors.numpy

from autotinybert.errors import DamagedFileError, InputError
from supernet import model_folder
from supernet.encoder import Encoder
from supernet.model_card import ModelCard
from supernet.model_folder import (
    ModelFolder,
    load_model_folder,
    model_files,
    without_denormals,
    write_model_folder,
)
from supernet.space import Space, axis_values
from supernet.stock_form import stock_architecture
from supernet.variants import GRAPH_VARIANTS

Make = Callable[..., Encoder]
Inputs = dict[str, npt.NDArray[np.int64]]
Files = dict[str, bytes]

SMALL_KD = Space(
    name="small-kd",
    num_layers=(1, 2, 3),
    hidden_sizes=axis_values(24, 96, 4),
    ffn_sizes=axis_values(16, 96, 4),
    num_heads=(12,),
    qkv_rule="free",
    qkv_sizes=axis_values(12, 72, 12),
)
SHAPES = [str(a) for a in SMALL_KD.sample(np.random.default_rng(7), 5)]
EPSILONS = dict.fromkeys(SHAPES, 1e-12) | {SHAPES[0]: 1e-5}

# Loads every folder as the card says, in a process whose caches lie in the temporary folder.
LOAD = """
import json, sys
from pathlib import Path
import numpy, torch
from transformers import AutoModel, AutoTokenizer

inputs = {name: torch.from_numpy(value) for name, value in numpy.load(sys.argv[1]).items()}
for folder in map(Path, sys.argv[2:]):
    ours = json.loads((folder / "config.json").read_text())["model_type"] == "autotinybert"
    options = {"trust_remote_code": True} if ours else {"add_pooling_layer": False}
    model, loading = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=ours)
    again = folder.with_name(folder.name + "-again")
    model.save_pretrained(again)
    reloaded = AutoModel.from_pretrained(again, **options)
    with torch.no_grad():
        output = model.eval()(**inputs).last_hidden_state
        second = reloaded.eval()(**inputs).last_hidden_state
    numpy.save(folder.with_suffix(".npy"), output.numpy())
    print(json.dumps({
        "folder": str(folder),
        "class": type(model).__name__,
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted(loading["unexpected_keys"]),
        "saved_again_is_equal": torch.equal(output, second),
        "architecture": model.config.autotinybert["architecture"],
        "dropout": model.config.hidden_dropout_prob,
        "ids": tokenizer(["b a", "c"], padding=True)["input_ids"],
    }))
"""


def write(folder: Path, encoder: Encoder, files: Files, **options: Any) -> ModelFolder:
    folder.mkdir(parents=True, exist_ok=True)
    options = {"variant": "plain", "card": ModelCard(), **options}
    return write_model_folder(folder, encoder, tokenizer_files=files, **options)


@pytest.fixture(scope="module")
def inputs(random_inputs: Callable[..., Inputs]) -> Inputs:
    return random_inputs(2)


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, random_encoder: Make, tokenizer_files: Files
) -> dict[tuple[str, str], ModelFolder]:
    """A model folder of each shape in each variant."""
    root = tmp_path_factory.mktemp("models")
    return {
        (shape, variant): write(
            root / variant / shape,
            random_encoder(shape, layer_norm_epsilon=EPSILONS[shape]),
            tokenizer_files,
            variant=variant,
        )
        for shape in SHAPES
        for variant in GRAPH_VARIANTS
    }


@pytest.fixture(scope="module")
def expected(
    inputs: Inputs, random_encoder: Make, torch_encoder: Callable[..., Any]
) -> dict[str, npt.NDArray[np.float32]]:
    return {
        shape: torch_encoder(
            random_encoder(shape).architecture,
            random_encoder(shape).weights,
            inputs,
            layer_norm_epsilon=EPSILONS[shape],
        )
        for shape in SHAPES
    }


def test_both_forms_are_among_the_shapes_that_are_tried(
    folders: dict[tuple[str, str], ModelFolder],
) -> None:
    assert {found.form for found in folders.values()} == {"stock", "custom-code"}


@pytest.mark.parametrize("variant", GRAPH_VARIANTS)
def test_onnx_runtime_puts_out_what_the_equations_say(
    folders: dict[tuple[str, str], ModelFolder],
    inputs: Inputs,
    expected: dict[str, npt.NDArray[np.float32]],
    variant: str,
) -> None:
    for shape in SHAPES:
        session = onnxruntime.InferenceSession(
            folders[shape, variant].path / "model.onnx", providers=["CPUExecutionProvider"]
        )
        (output,) = session.run(["last_hidden_state"], inputs)
        np.testing.assert_allclose(output, expected[shape], atol=1e-5, rtol=0)


def test_transformers_loads_every_folder_and_puts_out_the_same(
    folders: dict[tuple[str, str], ModelFolder],
    inputs: Inputs,
    expected: dict[str, npt.NDArray[np.float32]],
    run_python: Callable[..., str],
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "inputs.npz", **inputs)  # type: ignore[arg-type]
    paths = [folders[shape, "plain"].path for shape in SHAPES]
    text = run_python("-c", LOAD, tmp_path / "inputs.npz", *paths)
    answers = [json.loads(line) for line in text.splitlines()]
    assert [answer["folder"] for answer in answers] == [str(path) for path in paths]
    for shape, path, answer in zip(SHAPES, paths, answers, strict=True):
        stock = folders[shape, "plain"].form == "stock"
        assert answer["class"] == ("BertModel" if stock else "AutoTinyBertModel")
        assert answer["missing"] == answer["unexpected"] == []
        assert answer["saved_again_is_equal"]
        assert answer["architecture"] == shape
        assert answer["dropout"] == 0.1
        assert answer["ids"] == [[2, 6, 5, 3], [2, 7, 3, 0]]
        output = np.load(path.with_suffix(".npy"))
        np.testing.assert_allclose(output, expected[shape], atol=1e-5, rtol=0)


def test_a_folder_holds_exactly_the_files_it_should(
    folders: dict[tuple[str, str], ModelFolder], tokenizer_files: Files
) -> None:
    for found in folders.values():
        names = {path.name for path in found.path.iterdir()}
        assert names == set(model_files(found.architecture, list(tokenizer_files)))
        assert names <= set(model_folder.ALL_MODEL_FILES)
        for name, content in tokenizer_files.items():
            assert (found.path / name).read_bytes() == content


def test_the_config_tells_the_true_shape_in_both_forms(
    folders: dict[tuple[str, str], ModelFolder],
) -> None:
    for (shape, variant), found in folders.items():
        config = json.loads((found.path / "config.json").read_text())
        assert config["autotinybert"] == {
            "architecture": shape,
            "graph_variant": variant,
            "onnx_sha256": found.onnx_sha256,
            "precision": "fp32",
            "head": None,
            "format": 3,
        }
        assert config["layer_norm_eps"] == EPSILONS[shape]
        assert ("auto_map" in config) == (found.form == "custom-code")
        assert load_model_folder(found.path) == found


def test_the_same_encoder_gives_the_same_bytes(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files
) -> None:
    for name in ("one", "other"):
        write(tmp_path / name, random_encoder("2-36-50-3-24"), tokenizer_files)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_weights_too_small_for_full_speed_become_zeros_in_both_files(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files
) -> None:
    encoder = random_encoder("1-36-50-3-24")
    name = "encoder.layer.0.attention.self.query.weight"
    value = encoder.weights[name].copy()
    # Denormal, and what the scale of the scores, folded into the queries, would make denormal.
    value[0, :4] = [1e-40, -1e-40, 2e-38, 1e-20]
    small = replace(encoder, weights={**encoder.weights, name: value})
    write(tmp_path, small, tokenizer_files)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    graph = onnx.load(tmp_path / "model.onnx").graph
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    tiny = np.finfo(np.float32).tiny
    for found in (*tensors.values(), *stored):
        assert not ((found != 0) & (abs(found) < tiny)).any()
    assert tensors[name][0, 2] == 0
    assert tensors[name][0, 3] != 0
    assert value[0, 0] != 0  # the encoder itself is as it was


def test_weights_without_small_values_are_passed_on_as_they_are() -> None:
    value = np.array([0, 1, -1], np.float32)
    assert without_denormals({"x": value})["x"] is value


def test_a_tokenizer_that_does_not_fit_writes_nothing(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files
) -> None:
    words = b"\n".join(b"w%d" % index for index in range(98))
    with pytest.raises(InputError, match="token id 97"):
        write(tmp_path, random_encoder("1-36-50-3-24"), {**tokenizer_files, "vocab.txt": words})
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_too_large_for_one_file_is_refused(random_encoder: Make) -> None:
    encoder = random_encoder("1-36-50-3-24")
    rows = np.broadcast_to(np.float32(0), (2**24, 36))
    name = "embeddings.word_embeddings.weight"
    large = object.__new__(Encoder)  # a real one would be checked number by number
    for field, value in (
        ("architecture", encoder.architecture),
        ("weights", {**encoder.weights, name: rows}),
        ("layer_norm_epsilon", 1e-12),
    ):
        object.__setattr__(large, field, value)
    with pytest.raises(InputError, match=r"2\.3 GiB of weights, one ONNX file holds 2 GiB"):
        model_folder.onnx_content(large, variant="plain", precision="fp32")


def test_a_folder_that_holds_no_model_of_ours_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model in"):
        load_model_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="of another program"):
        load_model_folder(tmp_path)


def test_a_damaged_or_later_folder_is_refused(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files
) -> None:
    write(tmp_path, random_encoder("1-36-50-3-24"), tokenizer_files)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for change, message in (
        ({"format": 4}, "update autotinybert"),
        ({"head": {"kind": "token", "labels": []}}, "no head 'token'"),
        ({"head": {"kind": "span"}}, "'labels'"),
        ({"precision": "int4"}, "no precision 'int4'"),
        ({"architecture": "1-36"}, "is no architecture"),
        ({"onnx_sha256": "0"}, "model.onnx is torn, truncated or edited"),
    ):
        ours = {**config["autotinybert"], **change}
        path.write_text(json.dumps({**config, "autotinybert": ours}))
        with pytest.raises(InputError, match=message):
            load_model_folder(tmp_path)
    path.write_text(json.dumps(config))
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(DamagedFileError, match="cannot read"):
        load_model_folder(tmp_path)


def test_a_folder_of_the_first_format_is_fp32_and_of_the_second_has_no_head(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files
) -> None:
    write(tmp_path, random_encoder("1-36-50-3-24"), tokenizer_files, precision="int8")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for older, precision in ((2, "int8"), (1, "fp32")):
        config["autotinybert"].pop("head", None)
        if older == 1:
            del config["autotinybert"]["precision"]
        config["autotinybert"]["format"] = older
        path.write_text(json.dumps(config))
        found = load_model_folder(tmp_path)
        assert found.precision == precision
        assert (found.head_kind, found.labels) == (None, ())


def test_stock_shapes_bring_no_code(
    folders: dict[tuple[str, str], ModelFolder],
) -> None:
    for found in folders.values():
        code = (found.path / "modeling_autotinybert.py").exists()
        assert code == (stock_architecture(found.architecture) is None)
