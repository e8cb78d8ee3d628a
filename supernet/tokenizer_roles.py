"""The special tokens of a tokenizer by the roles they play, and what it puts around a text.

Families name them differently (`[CLS]`, `<s>`), and a folder may name them differently again. What
a folder says counts first (`tokenizer_config.json`, then `special_tokens_map.json`), then what the
tokenizer itself puts around a text, then the usual names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotinybert.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The keys of `special_ids`, in the order in which transformers adds the tokens.
ROLES = ("pad", "unk", "cls", "sep", "mask")

BERT_TOKENS = dict(zip(ROLES, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), strict=True))
ROBERTA_TOKENS = dict(zip(ROLES, ("<pad>", "<unk>", "<s>", "</s>", "<mask>"), strict=True))

# `lstrip` of a token, say, decides whether the space before it belongs to it.
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


@dataclass(frozen=True)
class Frame:
    """The special tokens around one text and around two.

    Attributes:
        before: ids before the (first) text.
        after: ids after a text that stands alone.
        between: ids between two texts.
        after_pair: ids after the second of two.
        first_segment: how many of `between` belong to segment 0, where the second text is
            segment 1; None where everything is segment 0.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    between: tuple[int, ...]
    after_pair: tuple[int, ...]
    first_segment: int | None

    @property
    def single(self) -> int:
        """Special tokens of a sequence of one text."""
        return len(self.before) + len(self.after)

    @property
    def pair(self) -> int:
        """Special tokens of a sequence of two texts."""
        return len(self.before) + len(self.between) + len(self.after_pair)


def frame_of(tokenizer: Tokenizer) -> Frame | None:
    """What a tokenizer puts around texts; None if it does not mark where they begin and end."""
    single, pair = tokenizer.encode("a"), tokenizer.encode("a", "a")
    begin, end = _texts(single.sequence_ids, 0)
    first_begin, first_end = _texts(pair.sequence_ids, 0)
    second_begin, second_end = _texts(pair.sequence_ids, 1)
    ids = tuple(pair.ids)
    found = Frame(
        before=tuple(single.ids[:begin]),
        after=tuple(single.ids[end:]),
        between=ids[first_end:second_begin],
        after_pair=ids[second_end:],
        first_segment=_first_segment(pair.type_ids, first_end, second_begin),
    )
    whole = found.before and found.after and found.between and found.after_pair
    return found if whole and ids[:first_begin] == found.before else None


def _texts(sequence_ids: list[int | None], which: int) -> tuple[int, int]:
    """Where a text begins and ends; both 0 if none of it is left."""
    places = [place for place, found in enumerate(sequence_ids) if found == which]
    return (places[0], places[-1] + 1) if places else (0, 0)


def _first_segment(type_ids: list[int], first_end: int, second_begin: int) -> int | None:
    if 1 not in type_ids[: second_begin + 1]:
        return None
    return max(type_ids.index(1) - first_end, 0)


def named_tokens(config: Mapping[str, Any], where: object) -> dict[str, str | dict[str, Any]]:
    """The special tokens that a configuration names, by role.

    Args:
        config: `tokenizer_config.json` or `special_tokens_map.json`.
        where: the file, for the error.

    Returns:
        The text of each, or an object with `content` and how it is found in a text.

    Raises:
        InputError: if one is no token.
    """
    found: dict[str, str | dict[str, Any]] = {}
    for role in ROLES:
        value = config.get(f"{role}_token")
        if value is None:
            continue
        content = value.get("content") if isinstance(value, dict) else value
        if not isinstance(content, str) or not content:
            raise InputError(f"{where} has {role}_token {value!r}: it must be a token")
        found[role] = value
    return found


def resolve_roles(
    tokenizer: Tokenizer,
    named: Mapping[str, str | dict[str, Any]],
    *,
    usual: Mapping[str, str],
    unknown: str | None,
) -> dict[str, str | dict[str, Any]]:
    """The special token of each role: named, or seen around texts, or of the usual name.

    Args:
        tokenizer: with the post-processor of its file.
        named: what its folder names.
        usual: names of its family.
        unknown: the model's own token for what it does not know.
    """
    seen: dict[str, str] = {} if unknown is None else {"unk": unknown}
    frame = frame_of(tokenizer)
    if frame is not None:
        seen["cls"] = tokenizer.id_to_token(frame.before[0]) or usual["cls"]
        seen["sep"] = tokenizer.id_to_token(frame.after[-1]) or usual["sep"]
    return {**usual, **seen, **named}


def content_of(token: str | Mapping[str, Any]) -> str:
    """The text of a special token."""
    return token if isinstance(token, str) else str(token["content"])


def add_special_tokens(tokenizer: Tokenizer, tokens: Mapping[str, str | Mapping[str, Any]]) -> None:
    """Makes tokens of the vocabulary special, so that a text that spells one out means it.

    One that the tokenizer's own file calls special stays as the file has it.
    """
    from tokenizers import AddedToken

    there = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for role in ROLES:
        token = tokens.get(role)
        if token is None or content_of(token) in there:
            continue
        flags = {} if isinstance(token, str) else {name: token.get(name) for name in _FLAGS}
        flags = {name: value for name, value in flags.items() if isinstance(value, bool)}
        tokenizer.add_special_tokens(
            [AddedToken(content_of(token), **{"normalized": False, **flags}, special=True)]
        )


def set_frame(tokenizer: Tokenizer, tokens: Mapping[str, str], ids: Mapping[str, int]) -> None:
    """Gives a tokenizer the frame of its family: RoBERTa's for `<s>`, else BERT's."""
    from tokenizers import processors

    cls, sep = tokens["cls"], tokens["sep"]
    if cls == ROBERTA_TOKENS["cls"]:
        pair = ["$A:0", f"{sep}:0", f"{sep}:0", "$B:0", f"{sep}:0"]
    else:
        pair = ["$A:0", f"{sep}:0", "$B:1", f"{sep}:1"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", *pair],
        special_tokens=[(cls, ids["cls"]), (sep, ids["sep"])],
    )
