"""Model folders with a head, opened as their users open them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from supernet.encoder import Encoder
from supernet.heads import HEAD_KINDS, HeadKind
from supernet.model_card import ModelCard
from supernet.model_folder import ModelFolder, load_model_folder, write_model_folder
from supernet.onnx_classifier import OnnxClassifier

Make = Callable[..., Encoder]
Files = dict[str, bytes]
RunPython = Callable[..., str]

# As it is, padded within its heads, and with code of its own.
SHAPES = ["1-36-50-3-36", "2-36-50-3-24", "2-36-50-3-51"]

# Loads every folder without a word on stderr, and once more what it saved again.
LOAD = """
import json, sys
from pathlib import Path
import numpy, torch, transformers

transformers.utils.logging.disable_progress_bar()
inputs = {name: torch.from_numpy(value) for name, value in numpy.load(sys.argv[1]).items()}
for folder in map(Path, sys.argv[2:]):
    config = json.loads((folder / "config.json").read_text())
    options = {"trust_remote_code": True} if "auto_map" in config else {}
    task = config["architectures"][0].rpartition("For")[2]
    loader = getattr(transformers, f"AutoModelFor{task}")
    model, loading = loader.from_pretrained(folder, output_loading_info=True, **options)
    again = folder.with_name(folder.name + "-again")
    model.save_pretrained(again)
    reloaded = loader.from_pretrained(again, **options)
    with torch.no_grad():
        outputs = [each.eval()(**inputs) for each in (model, reloaded)]
    first, second = [
        torch.stack([each.start_logits, each.end_logits], dim=-1)
        if task == "QuestionAnswering" else each.logits
        for each in outputs
    ]
    numpy.save(folder.with_suffix(".npy"), first.numpy())
    print(json.dumps({
        "class": type(model).__name__,
        "wrong": [sorted(loading[key]) for key in ("missing_keys", "unexpected_keys")],
        "saved_again_is_equal": torch.equal(first, second),
        "labels": model.config.id2label,
        "indices": model.config.label2id,
        "problem_type": model.config.problem_type,
    }))
"""


def write(
    folder: Path, encoder: Encoder, files: Files, card: ModelCard | None = None
) -> ModelFolder:
    folder.mkdir(parents=True)
    return write_model_folder(
        folder, encoder, variant="plain", tokenizer_files=files, card=card or ModelCard()
    )


def test_transformers_loads_every_head_silently_and_puts_out_the_logits_of_the_file(
    tmp_path: Path,
    random_encoder: Make,
    random_inputs: Callable[..., dict[str, npt.NDArray[np.int64]]],
    tokenizer_files: Files,
    run_python: RunPython,
) -> None:
    inputs = random_inputs(2)
    np.savez(tmp_path / "inputs.npz", **inputs)  # type: ignore[arg-type]
    encoders = [random_encoder(shape, head=kind) for kind in HEAD_KINDS for shape in SHAPES]
    found = [
        write(tmp_path / str(index), encoder, tokenizer_files)
        for index, encoder in enumerate(encoders)
    ]
    assert [each.form for each in found] == ["stock", "stock", "custom-code"] * len(HEAD_KINDS)
    paths = [each.path for each in found]
    text = run_python("-c", LOAD, tmp_path / "inputs.npz", *paths, silent=True)
    problem = {"classification": "single_label_classification", "regression": "regression"}
    for folder, encoder, line in zip(found, encoders, text.splitlines(), strict=True):
        assert encoder.head is not None
        kind, labels = encoder.head.kind, list(encoder.head.labels)
        answer = json.loads(line)
        prefix = "Bert" if folder.form == "stock" else "AutoTinyBert"
        suffix = "QuestionAnswering" if kind == "span" else "SequenceClassification"
        assert answer["class"] == f"{prefix}For{suffix}"
        assert answer["wrong"] == [[], []]
        assert answer["saved_again_is_equal"]
        assert answer["labels"] == {str(index): label for index, label in enumerate(labels)}
        assert answer["indices"] == {label: index for index, label in enumerate(labels)}
        assert answer["problem_type"] == problem.get(kind)
        logits = OnnxClassifier((folder.path / "model.onnx").read_bytes())(*inputs.values())
        theirs = np.load(folder.path.with_suffix(".npy"))
        np.testing.assert_allclose(theirs, logits, atol=1e-5, rtol=0)


# A class for a task on the folder of an encoder: only what the head adds is new.
START = """
import json, sys, transformers

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
for folder in sys.argv[1:]:
    model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, trust_remote_code=True, output_loading_info=True
    )
    assert model.classifier.out_features == 3
    print(json.dumps([sorted(loading[key]) for key in ("missing_keys", "unexpected_keys")]))
"""


def test_a_task_can_start_from_the_folder_of_an_encoder(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files, run_python: RunPython
) -> None:
    paths = [
        write(tmp_path / shape, random_encoder(shape), tokenizer_files).path for shape in SHAPES[1:]
    ]
    new = ["pooler.dense.bias", "pooler.dense.weight"]
    missing = [*(f"bert.{name}" for name in new), "classifier.bias", "classifier.weight"]
    for line in run_python("-c", START, *paths).splitlines():
        assert json.loads(line) == [missing, []]


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_a_folder_says_which_head_it_has(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files, kind: HeadKind
) -> None:
    encoder = random_encoder("2-36-50-3-24", head=kind)
    assert encoder.head is not None
    found = write(tmp_path / "model", encoder, tokenizer_files)
    assert (found.head_kind, found.labels) == (kind, encoder.head.labels)
    assert load_model_folder(found.path) == found


def test_a_weight_of_a_head_too_small_for_full_speed_becomes_zero(
    tmp_path: Path, random_encoder: Make, tokenizer_files: Files
) -> None:
    encoder = random_encoder("2-36-50-3-24", head="span")
    assert encoder.head is not None
    weight = encoder.head.weights["qa_outputs.weight"].copy()
    weight[0, 0] = 1e-40
    head = replace(encoder.head, weights={**encoder.head.weights, "qa_outputs.weight": weight})
    found = write(tmp_path / "model", replace(encoder, head=head), tokenizer_files)
    tensors = safetensors.numpy.load_file(found.path / "model.safetensors")
    assert tensors["qa_outputs.weight"][0, 0] == 0
    assert "bert.embeddings.LayerNorm.weight" in tensors


# Kind of head, shape, and the files of the tokenizer.
EXAMPLES: list[tuple[HeadKind | None, str, list[str]]] = [
    (None, "1-36-50-3-24", ["tokenizer.json"]),
    (None, "1-36-50-3-51", ["vocab.txt"]),
    ("classification", "1-36-50-3-24", ["vocab.txt"]),
    ("classification", "1-36-50-3-51", ["tokenizer.json"]),
    ("regression", "1-36-50-3-24", ["tokenizer.json", "vocab.txt"]),
    ("span", "1-36-50-3-51", ["tokenizer.json"]),
    (None, "1-36-50-3-24", ["vocab.json", "merges.txt"]),
    ("classification", "1-36-50-3-51", ["vocab.json", "merges.txt"]),
    ("classification", "1-36-50-3-24", ["tokenizer.json", "vocab.json", "merges.txt"]),
    ("span", "1-36-50-3-24", ["vocab.json", "merges.txt"]),
]
# Each example as it stands and in its folder; one process, because transformers loads for seconds.
RUN = """
import os, runpy, sys

for script in sys.argv[1:]:
    os.chdir(os.path.splitext(script)[0])
    runpy.run_path(script)
    print("---")
"""


def check_answers(encoder: Encoder, said: list[str]) -> None:
    """What an example prints: nothing for an encoder, else two times and the answers."""
    if encoder.head is None:
        assert said == []
        return
    assert re.fullmatch(r"tokenizer \d+\.\d\d ms, model \d+\.\d\d ms", said[0])
    if encoder.head.kind == "classification":
        labels = "|".join(encoder.head.labels)
        assert re.fullmatch(rf"A first text\.: ({labels}) \(\d+\.\d%\)", said[1])
    elif encoder.head.kind == "regression":
        assert re.fullmatch(r"And a second one\.: score -?\d+\.\d{3}", said[2])
    else:
        question = "What did Ada write? "
        assert said[1].startswith(question)
        assert len(said[1]) > len(question)
        assert said[1].removeprefix(question) in "Ada wrote the first program."


def test_the_examples_of_the_card_run_and_agree(
    tmp_path: Path,
    random_encoder: Make,
    tokenizer_files: Files,
    pair_files: Files,
    run_python: RunPython,
) -> None:
    encoders, scripts = [], []
    for index, (kind, shape, names) in enumerate(EXAMPLES):
        folder = tmp_path / f"example-{index}"
        encoder = random_encoder(shape, head=kind)
        source = pair_files if "vocab.json" in names else tokenizer_files
        write(folder, encoder, {name: source[name] for name in names})
        card = (folder / "README.md").read_text()
        first, second = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        output = "logits" if kind else "last_hidden_state"
        check = f"assert abs(first - {output}.numpy()).max() < 1e-5\n"
        script = folder.with_suffix(".py")
        script.write_text(f"{first}\nfirst = {output}\n{second}\n{check}")
        encoders.append(encoder)
        scripts.append(script)
    said = run_python("-c", RUN, *scripts).split("---\n")[:-1]
    for encoder, text in zip(encoders, said, strict=True):
        check_answers(encoder, text.splitlines())


def test_a_tokenizer_that_is_not_berts_is_padded_and_loaded_as_its_own(
    tmp_path: Path, random_encoder: Make, pair_files: Files
) -> None:
    found = write(tmp_path / "model", random_encoder("1-36-50-3-24", head="span"), pair_files)
    config = json.loads((found.path / "config.json").read_text())
    assert config["pad_token_id"] == 1
    assert config["tokenizer_class"] == "RobertaTokenizer"
    card = (found.path / "README.md").read_text()
    assert "tokenizer.enable_padding(pad_id=1, pad_token='<pad>')" in card
