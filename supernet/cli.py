"""`extract-model` and `export-model`: from a SuperPLM to an encoder, from there to a model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.files import OutputFolder, check_apart, sha256_bytes, sha256_file
from supernet.architecture import Architecture
from supernet.encoder import ENCODER_FILE, load_encoder
from supernet.model_card import ModelCard
from supernet.model_config import auto_class
from supernet.model_folder import (
    ALL_MODEL_FILES,
    ModelFolder,
    load_model_folder,
    model_files,
    write_model_folder,
)
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    read_tokenizer_files,
)
from supernet.variants import GRAPH_VARIANTS, check_form


def extract_model(
    *,
    supernet: Annotated[Path, typer.Option(help="Folder of train-supernet.")],
    architecture: Annotated[str, typer.Option(metavar="L-d-f-h-q", help="The slice to take.")],
    out: Annotated[Path, typer.Option(help="Folder of the encoder.")],
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Takes a slice out of a SuperPLM: an encoder that can be trained further and exported."""
    del json, version  # the frame around every command reads them
    shape = Architecture.parse(architecture)
    check_apart(out, {"the SuperPLM's own folder": supernet})
    # torch takes seconds to load, and export-model does without it.
    from supernet.student_folder import STUDENT_FILES, Student, load_student, save_student
    from supernet.supernet_folder import load_supernet

    trained = load_supernet(supernet)
    check_apart(out, {"the folder of the teacher": trained.origin.teacher})
    trained.model.config.check_holds(shape)
    tokenizer = read_tokenizer_files(supernet)
    request = {"supernet": trained.sha256, "architecture": str(shape)}
    files = (*STUDENT_FILES, *tokenizer)
    folder = OutputFolder.claim(out, "extract-model", request, files=files, overwrite=overwrite)
    finished = folder.state == "finished"
    if finished:
        load_student(out)  # refuses what was damaged since
    else:
        step = {"did": "extract-model", "supernet_sha256": trained.sha256}
        student = Student(trained.learner.slice(shape), trained.origin, (step,))
        folder.begin((*STUDENT_FILES, *TOKENIZER_FILES))
        save_student(out, student, tokenizer)
        folder.finish()
    last = f"{out} was extracted before; nothing was written" if finished else f"wrote {out}"
    data = {"model": str(out), "architecture": str(shape), "finished_before": finished}
    return Answer(data, f"{shape} of SuperPLM {trained.model.config.largest}\n{last}")


def export_model(
    *,
    model: Annotated[Path, typer.Option(help="Folder of the encoder.")],
    out: Annotated[Path, typer.Option(help="Folder of the model.")],
    graph_variant: Annotated[
        str, typer.Option(help=f"{', '.join(GRAPH_VARIANTS)}: the one that was profiled.")
    ] = "plain",
    precision: Annotated[
        str,
        typer.Option(help="Of model.onnx: fp32, int8 (CPUs), fp16 (GPUs): the one profiled."),
    ] = "fp32",
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Writes an encoder for ONNX Runtime and for transformers, with tokenizer and model card."""
    del json, version  # the frame around every command reads them
    check_form(graph_variant, precision)
    check_apart(out, {"the encoder's own folder": model})
    encoder, extra = load_encoder(model)
    with contextlib.suppress(LookupError, TypeError):  # an encoder of unknown origin
        check_apart(out, {"the folder of the teacher": Path(extra["origin"]["teacher"]["path"])})
    tokenizer_files = read_tokenizer_files(model)
    check_tokenizer_files(tokenizer_files, encoder.vocab_size)
    request = {
        "encoder": sha256_file(model / ENCODER_FILE),
        "tokenizer": {name: sha256_bytes(found) for name, found in tokenizer_files.items()},
        "graph_variant": graph_variant,
        "precision": precision,
    }
    files = model_files(encoder.architecture, list(tokenizer_files))
    folder = OutputFolder.claim(out, "export-model", request, files=files, overwrite=overwrite)
    if folder.state == "finished":
        return _export_answer(load_model_folder(out), finished_before=True)
    folder.begin(ALL_MODEL_FILES)
    found = write_model_folder(
        out,
        encoder,
        variant=graph_variant,  # type: ignore[arg-type] # checked above
        precision=precision,  # type: ignore[arg-type]
        tokenizer_files=tokenizer_files,
        card=ModelCard.from_facts(extra),
    )
    folder.finish()
    return _export_answer(found)


def _export_answer(found: ModelFolder, *, finished_before: bool = False) -> Answer:
    option = ", trust_remote_code=True" if found.form == "custom-code" else ""
    head = f" with a {found.head_kind} head" if found.head_kind else ""
    lines = [
        f"{found.architecture}{head}: model.onnx ({found.graph_variant}, {found.precision}), and "
        f"for transformers {auto_class(found.head_kind)}.from_pretrained("
        f"{str(found.path)!r}{option})",
        f"{found.path} was finished before; nothing was written"
        if finished_before
        else f"wrote {found.path}",
    ]
    data = {
        "model": str(found.path),
        "architecture": str(found.architecture),
        "form": found.form,
        "graph_variant": found.graph_variant,
        "precision": found.precision,
        "onnx_sha256": found.onnx_sha256,
        "head": found.head_kind,
        "labels": list(found.labels),
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join(lines))


def extract_model_main() -> None:
    """Runs `extract-model`."""
    run(extract_model, "extract-model")


def export_model_main() -> None:
    """Runs `export-model`."""
    run(export_model, "export-model")
