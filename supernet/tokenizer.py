"""The tokenizer of a Hugging Face encoder's folder, without transformers.

- `tokenizer.json`: word pieces (BERT), byte-level pairs (RoBERTa), Unigram, or any other model that
  marks where a text begins and ends
- `vocab.txt`: BERT's word pieces, a token a line
- `vocab.json` and `merges.txt`: RoBERTa's byte-level pairs
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotinybert.errors import InputError
from supernet.tokenizer_files import (
    MERGES_FILE,
    PAIRS_VOCABULARY_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
)
from supernet.tokenizer_roles import (
    BERT_TOKENS,
    ROBERTA_TOKENS,
    add_special_tokens,
    content_of,
    frame_of,
    named_tokens,
    resolve_roles,
    set_frame,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Where a tokenizer carries its special tokens: the library itself does not know their roles.
_SPECIAL_IDS = "autotinybert_special_ids"

# Keys of tokenizer_config.json, and the arguments of the normalizer that they set.
_NORMALIZATION = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads the tokenizer of an encoder's folder, as transformers does.

    `tokenizer.json` is read, or `vocab.txt` where there is none, or `vocab.json` and `merges.txt`,
    or the file that is named. What `tokenizer_config.json` says of lower case, accents and Chinese
    characters holds for all word pieces. The tokenizer puts its special tokens around a text where
    it is asked to, and neither truncates nor pads, whatever the file says.

    Raises:
        InputError: if the folder holds no tokenizer, or one without the special tokens that an
            encoder needs: all but the one for unknown tokens, which byte-level pairs do without.
    """
    path = tokenizer_path(folder)
    config_path = path.parent / TOKENIZER_CONFIG_FILE
    config = _optional_json(config_path)
    document: dict[str, Any] = {}
    if path.name == PAIRS_VOCABULARY_FILE:
        tokenizer = _from_pairs(path, config)
    elif path.suffix == Path(TOKENIZER_FILE).suffix:
        tokenizer, document = _from_json(path)
    else:
        tokenizer = _from_vocabulary(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    word_pieces = type(tokenizer.model).__name__ == "WordPiece"
    if word_pieces:
        _normalize(tokenizer, document.get("normalizer"), config, config_path)
    map_path = path.parent / SPECIAL_TOKENS_FILE
    named = {
        **named_tokens(_optional_json(map_path), map_path),
        **named_tokens(config, config_path),
    }
    of_bert = word_pieces or _has(tokenizer, BERT_TOKENS["cls"])
    with _damage(path):
        tokens = resolve_roles(
            tokenizer,
            named,
            usual=BERT_TOKENS if of_bert else ROBERTA_TOKENS,
            unknown=_unknown_token(document),
        )
    names = {role: content_of(token) for role, token in tokens.items()}
    optional = () if word_pieces else ("unk",)
    missing = [
        name for role, name in names.items() if role not in optional and not _has(tokenizer, name)
    ]
    if missing:
        raise InputError(
            f"tokenizer {path} lacks {', '.join(missing)}: give one of BERT's or RoBERTa's kind"
        )
    found = {role: tokenizer.token_to_id(name) for role, name in names.items()}
    ids = {role: value for role, value in found.items() if value is not None}
    add_special_tokens(tokenizer, {role: tokens[role] for role in ids})
    if frame_of(tokenizer) is None:
        set_frame(tokenizer, names, ids)
    vars(tokenizer)[_SPECIAL_IDS] = ids
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of a tokenizer's special tokens by role: `pad`, `unk`, `cls`, `sep`, `mask`.

    Args:
        tokenizer: of `load_tokenizer`; of another, the tokens count that have usual names.
    """
    carried: dict[str, int] | None = vars(tokenizer).get(_SPECIAL_IDS)
    if carried is not None:
        return dict(carried)
    usual = BERT_TOKENS if _has(tokenizer, BERT_TOKENS["cls"]) else ROBERTA_TOKENS
    found = {role: tokenizer.token_to_id(token) for role, token in usual.items()}
    return {role: value for role, value in found.items() if value is not None}


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
    if (folder / PAIRS_VOCABULARY_FILE).is_file() and (folder / MERGES_FILE).is_file():
        return folder / PAIRS_VOCABULARY_FILE
    raise InputError(
        f"no tokenizer in {folder}: name the folder of a Hugging Face BERT model, with "
        f"{TOKENIZER_FILE} or {VOCABULARY_FILE}, or RoBERTa's {PAIRS_VOCABULARY_FILE} and "
        f"{MERGES_FILE}"
    )


def _has(tokenizer: Tokenizer, token: str) -> bool:
    return tokenizer.token_to_id(token) is not None


def _unknown_token(document: dict[str, Any]) -> str | None:
    """What the model of a `tokenizer.json` says of its unknown token."""
    model = document.get("model")
    if not isinstance(model, dict):
        return None
    token, index, vocabulary = (model.get(name) for name in ("unk_token", "unk_id", "vocab"))
    if isinstance(vocabulary, list) and type(index) is int:  # Unigram
        token = vocabulary[index][0]
    return token if isinstance(token, str) else None


def _from_json(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer in a `tokenizer.json`, and the file's contents."""
    from tokenizers import Tokenizer

    text = _read_text(path)
    document = _json_object(path, text)
    with _damage(path):
        tokenizer = Tokenizer.from_str(text)
        tokenizer.encode("a")  # a vocabulary without [UNK] fails only here
    return tokenizer, document


def _from_pairs(path: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer that RoBERTa's `vocab.json` and `merges.txt` make."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    with _damage(path):
        vocabulary, merges = models.BPE.read_file(str(path), str(path.parent / MERGES_FILE))
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    prefix_space = config.get("add_prefix_space") is True
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What the library raises inside is a damaged file."""
    try:
        yield
    except BaseException as error:
        # tokenizers raises nothing narrower than Exception, and a panic is not even that.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"tokenizer {path} is damaged ({error}): copy it again from the model"
        ) from error


def _from_vocabulary(path: Path) -> Tokenizer:
    """The tokenizer that a `vocab.txt` makes: a token a line, its id the number of the line."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    lines = _read_text(path).removesuffix("\n").split("\n")
    tokenizer = Tokenizer(
        models.WordPiece(
            {token: index for index, token in enumerate(lines)}, unk_token=BERT_TOKENS["unk"]
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _normalize(tokenizer: Tokenizer, usual: object, config: dict[str, Any], path: Path) -> None:
    """Gives word pieces BERT's normalizer, if a configuration asks for it or the file has none.

    Args:
        tokenizer: of word pieces.
        usual: the normalizer that its file describes, if any.
        config: what `tokenizer_config.json` says.
        path: that file.
    """
    from tokenizers import normalizers

    wanted: dict[str, bool | None] = {}
    for key, name in _NORMALIZATION.items():
        value = config.get(key)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{path} has {key} {value!r}: it must be true, false or null")
        # Only for accents does null say something: as lower case does.
        if value is not None or (key == "strip_accents" and key in config):
            wanted[name] = value
    settings = usual if isinstance(usual, dict) else {}
    if wanted or not settings:
        known = {name: settings[name] for name in _NORMALIZATION.values() if name in settings}
        tokenizer.normalizer = normalizers.BertNormalizer(**{**known, **wanted})


def _optional_json(path: Path) -> dict[str, Any]:
    return _json_object(path, _read_text(path)) if path.is_file() else {}


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
