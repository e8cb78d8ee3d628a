"""The tokenizer of a Hugging Face BERT folder, without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.errors import InputError
from supernet.tokenizer_files import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, VOCABULARY_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# BERT's, in the order in which transformers adds them; the names are the keys of `special_ids`.
SPECIAL_TOKENS = {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
}

# Keys of tokenizer_config.json, and the arguments of the normalizer that they set.
_NORMALIZATION = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads the WordPiece tokenizer of a BERT folder, as transformers' `BertTokenizerFast` does.

    `tokenizer.json` is read, or `vocab.txt` where there is none, or the one that is named. What
    `tokenizer_config.json` says of lower case, accents and Chinese characters holds for both. The
    tokenizer adds [CLS] and [SEP] where it is asked to, and neither truncates nor pads, whatever
    the file says.

    Raises:
        InputError: if the folder holds no tokenizer, or none of BERT's kind.
    """
    from tokenizers import normalizers, processors

    path = tokenizer_path(folder)
    wanted = _normalization(path.parent / TOKENIZER_CONFIG_FILE)
    if path.suffix == Path(TOKENIZER_FILE).suffix:
        tokenizer, usual = _from_json(path)
    else:
        tokenizer, usual = _from_vocabulary(path), {}
    if wanted or not usual:
        known = {name: usual[name] for name in _NORMALIZATION.values() if name in usual}
        tokenizer.normalizer = normalizers.BertNormalizer(**{**known, **wanted})
    ids = _special_ids(tokenizer, path)
    cls, sep = SPECIAL_TOKENS["cls"], SPECIAL_TOKENS["sep"]
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids["cls"]), (sep, ids["sep"])],
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of a BERT tokenizer's special tokens: `pad`, `unk`, `cls`, `sep`, `mask`."""
    found = {name: tokenizer.token_to_id(token) for name, token in SPECIAL_TOKENS.items()}
    return {name: value for name, value in found.items() if value is not None}


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the highest id, so that a table with so many rows has one for every token."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def tokenizer_path(folder: Path) -> Path:
    """The file that a folder's tokenizer is read from, or `folder` itself if it is a file.

    Raises:
        InputError: if there is none.
    """
    if folder.is_file():
        return folder
    for name in (TOKENIZER_FILE, VOCABULARY_FILE):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"no tokenizer in {folder}: name the folder of a Hugging Face BERT model, with "
        f"{TOKENIZER_FILE} or {VOCABULARY_FILE}"
    )


def _special_ids(tokenizer: Tokenizer, path: Path) -> dict[str, int]:
    ids = special_ids(tokenizer)
    missing = [token for name, token in SPECIAL_TOKENS.items() if name not in ids]
    if missing:
        raise InputError(f"tokenizer {path} lacks {', '.join(missing)}: give one of BERT's kind")
    return ids


def _from_json(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer in a `tokenizer.json`, and the normalizer that the file describes."""
    from tokenizers import Tokenizer

    text = _read_text(path)
    document = _json_object(path, text)
    model = document.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind != "WordPiece":
        raise InputError(
            f"tokenizer {path} is of kind {kind}, not WordPiece: give the folder of a BERT model"
        )
    try:
        tokenizer = Tokenizer.from_str(text)
        tokenizer.encode("a")  # a vocabulary without [UNK] fails only here
    except BaseException as error:
        # tokenizers raises nothing narrower than Exception, and a panic is not even that.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"tokenizer {path} is damaged ({error}): copy it again from the model"
        ) from error
    normalizer = document.get("normalizer")
    return tokenizer, normalizer if isinstance(normalizer, dict) else {}


def _from_vocabulary(path: Path) -> Tokenizer:
    """The tokenizer that a `vocab.txt` makes: a token a line, its id the number of the line."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    lines = _read_text(path).removesuffix("\n").split("\n")
    tokenizer = Tokenizer(
        models.WordPiece(
            {token: index for index, token in enumerate(lines)}, unk_token=SPECIAL_TOKENS["unk"]
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _normalization(path: Path) -> dict[str, bool | None]:
    """What a `tokenizer_config.json` says of normalization, as arguments of the normalizer."""
    config = _json_object(path, _read_text(path)) if path.is_file() else {}
    found: dict[str, bool | None] = {}
    for key, name in _NORMALIZATION.items():
        value = config.get(key)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{path} has {key} {value!r}: it must be true, false or null")
        # Only for accents does null say something: as lower case does.
        if value is not None or (key == "strip_accents" and key in config):
            found[name] = value
    return found


def _read_text(path: Path) -> str:
    try:
        # Line ends as Python reads them anywhere: a vocabulary may have been written elsewhere.
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read tokenizer {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(
            f"tokenizer {path} is not UTF-8 text: copy it again from the model"
        ) from error


def _json_object(path: Path, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"tokenizer {path} is not valid JSON: copy it again from the model"
        ) from error
    if not isinstance(document, dict):
        raise InputError(f"tokenizer {path} holds no JSON object: copy it again from the model")
    return document
