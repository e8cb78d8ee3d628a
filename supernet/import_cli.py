"""`import-model`: an encoder from elsewhere becomes one of ours."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from autotinybert.command import Answer, JsonOption, OverwriteOption, VersionOption
from autotinybert.command import main as run
from autotinybert.files import OutputFolder, check_apart, sha256_bytes, whole_file
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture, to_matrix
from supernet.cost import parameters
from supernet.encoder import ENCODER_FILES, Encoder, load_encoder, save_encoder
from supernet.huggingface import BertFolder
from supernet.importing import AUTOTINYBERT, encoder_of, head_left_out, read_model
from supernet.tokenizer_files import (
    TOKENIZER_FILES,
    check_tokenizer_files,
    read_tokenizer_files,
    write_tokenizer_files,
)

ARCHITECTURES_FILE = "architectures.csv"


def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Hugging Face folder of a BERT, RoBERTa, ELECTRA or DistilBERT, or a checkpoint "
            "of AutoTinyBERT (pytorch_model.bin or its folder).",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the encoder.")],
    architecture: Annotated[
        str | None,
        typer.Option(
            metavar="L-d-f-h-q", help="Shape of a checkpoint whose config.json is of another."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    version: VersionOption = False,
) -> Answer:
    """Brings an encoder in from elsewhere: to export, to profile, or to start a SuperPLM from."""
    del json, version  # the frame around every command reads them
    shape = None if architecture is None else Architecture.parse(architecture)
    read = read_model(source, shape)
    check_apart(out, {"the folder of what is imported": read.path})
    encoder = encoder_of(read)
    tokenizer = read_tokenizer_files(read.path)
    check_tokenizer_files(tokenizer, encoder.vocab_size)
    request = {
        "source": read.sha256,
        "tokenizer": {name: sha256_bytes(found) for name, found in tokenizer.items()},
    }
    files = (*ENCODER_FILES, ARCHITECTURES_FILE, *tokenizer)
    folder = OutputFolder.claim(out, "import-model", request, files=files, overwrite=overwrite)
    finished = folder.state == "finished"
    if finished:
        load_encoder(out)  # refuses what was damaged since
    else:
        folder.begin((*ENCODER_FILES, ARCHITECTURES_FILE, *TOKENIZER_FILES))
        write_tokenizer_files(out, tokenizer)
        with whole_file(out / ARCHITECTURES_FILE) as file:
            csv.writer(file, lineterminator="\n").writerows(
                [ARCHITECTURE_FIELDS, encoder.architecture.row]
            )
        facts = {"imported_from": read.path.resolve().name, "family": read.family}
        save_encoder(out, encoder, extra={**facts, "source_sha256": read.sha256})
        folder.finish()
    return _answer(read, encoder, out, finished_before=finished)


def _answer(read: BertFolder, encoder: Encoder, out: Path, *, finished_before: bool) -> Answer:
    head, left_out = encoder.head, head_left_out(read)
    (count,) = parameters(
        to_matrix([encoder.architecture]),
        vocab_size=encoder.vocab_size,
        max_positions=encoder.max_positions,
    ).tolist()
    told = "no head" if head is None else f"{head.kind} head: {', '.join(head.labels)}"
    # AutoTinyBERT trains its SuperPLMs so that the first layers and channels are those that count.
    order = " --depth-rule first --channel-order teacher" if read.family == AUTOTINYBERT else ""
    lines = [
        f"{read.family} {encoder.architecture}: {count:,} parameters, {encoder.vocab_size:,} "
        f"tokens, {encoder.max_positions} positions; {told}",
        *([] if left_out is None else [f"left out: {left_out}"]),
        f"{out} was imported before; nothing was written" if finished_before else f"wrote {out}",
        f"next: export-model --model {out} --out MODEL",
        f"  or: profile-device --architectures {out / ARCHITECTURES_FILE} --out PROFILE",
        f"  or: train-supernet --teacher {out}{order} --out SUPERNET",
    ]
    data = {
        "model": str(out),
        "family": read.family,
        "architecture": str(encoder.architecture),
        "parameters": count,
        "vocab_size": encoder.vocab_size,
        "max_positions": encoder.max_positions,
        "head": None if head is None else head.kind,
        "labels": [] if head is None else list(head.labels),
        "left_out": left_out,
        "finished_before": finished_before,
    }
    return Answer(data, "\n".join(lines))


def import_model_main() -> None:
    """Runs `import-model`."""
    run(import_model, "import-model")
