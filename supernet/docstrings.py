"""English sentences out of docstrings: what reads as prose, without code, tables and markup.

Docstrings come in several dialects (reStructuredText, numpydoc, Google, Sphinx fields, Markdown).
Nothing is parsed exactly here: lines that are no prose in any of them are dropped, the rest is
joined into paragraphs, and a sentence stays only if most of its words are plain English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_MIN_WORDS = 4
_MAX_CHARACTERS = 600
_MIN_PLAIN_SHARE = 0.75

# Directives whose content is prose; the content of any other is code, mathematics or a picture.
_PROSE_DIRECTIVES = {
    *("note", "warning", "tip", "hint", "important", "attention", "caution", "danger", "error"),
    *("admonition", "seealso", "versionadded", "versionchanged", "deprecated", "topic"),
}

# Words without which hardly an English sentence is said. A list of names has none of them.
_ENGLISH = """
a an the of to in on at by for from with without as is are be been was were it its this that these
those and or not no if when while which who what where how whether than then has have had do does
can could may might must should will would all any each only but because so such into over between
used given returns return you your we they there
"""
_FUNCTION_WORDS = frozenset(_ENGLISH.split())
_OPENING_WORDS = "a an the of to in on at by for from with as is are be and or that if"
_OPENING = frozenset(_OPENING_WORDS.split())

# A line that is longer was not written to be read.
_MAX_LINE = 2000

_DIRECTIVE = re.compile(r"\.\.\s+([\w:-]+)::\s*(.*)")
_VERSION = re.compile(r"^v?\d[\w.]*:?(?:\s+|$)")
_DOCTEST = re.compile(r">>>|In \[\d+\]:|Out\[\d+\]:|\$ |% ")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}(\s+\1{2,})*")
_TABLE = re.compile(r"[|+]|.*\S {3,}\S|.*\t.*\t|.*[┌│├─╭╰]")
_FIELD = re.compile(r"[:@](\w+)([^:]*):(?:\s+(.*)|$)")
_HEADING = re.compile(r"[A-Z]\w*( \w+){0,2}:?")
_MARKER = re.compile(r"(?:[-*+•]|\d{1,2}[.)]|\(?[a-z\d]{1,3}\)|#\.)\s+(?=\S)")
# `name (type, optional): description` of Google style, and `name -- description`.
_NAMED = re.compile(
    r"(?:[`*'\"]{0,3}[\w.*-]+[`'\"*]{0,3}:?\s*(?:\(.*?\)+)?|\([^)]*\)+)\s*"
    r"(?::|--|[\u2013\u2014]|(?<=\s)-)(?:\s+|$)"
)
# `name : type` of numpydoc, and `name : description` of its "See Also".
_DEFINITION = re.compile(r"[^:]{1,60}\s:(?:\s+|$)")

_INLINE = (
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),  # Markdown links
    (re.compile(r"\[`{1,2}~?([^`\]]*)`{1,2}\]"), r"\1"),  # references of Markdown docstrings
    (re.compile(r":[a-zA-Z][\w:+.-]*:`[~!]?([^`<]*?)(?:\s*<[^`>]*>)?`"), r"\1"),  # roles
    (re.compile(r"`([^`<]*?)\s*<[^`>]*>`_{0,2}"), r"\1"),  # links of reStructuredText
    (re.compile(r"`{1,2}([^`]+)`{1,2}_{0,2}"), r"\1"),
    (re.compile(r"(?<![\w*])\*{1,3}(?=\S)([^*]+?)(?<=\S)\*{1,3}(?![\w*])"), r"\1"),
    (re.compile(r"(?<!\w)_(?=\S)([^_]+)(?<=\S)_(?!\w)"), r"\1"),
    (re.compile(r"\s*\[(?:\d+|[A-Z]\w*\d+)\]_"), ""),  # citations
    (re.compile(r"(?<=\w)_{1,2}(?=[\s.,;:)]|$)"), ""),  # named references
    (re.compile(r"``|''"), '"'),
)

_SENTENCE_END = re.compile(r"(?<=[.!?])([\"')\]]*)\s+(?=[\"'(\[]?[A-Z])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|resp|approx|Fig|Eq|Sec|No|al|St|Dr|Mr)|\b[A-Z])\.$"
)
_PLAIN_WORD = re.compile(r"[\"'(\[]*[A-Za-z]+(?:['\u2019/-][A-Za-z]+)*[\"')\]]*[.,;:!?]*[\"')\]]*")
_CAMEL_CASE = re.compile(r"[a-z][A-Z]")
_NOT_PROSE = re.compile(
    r"^[^\w\"'(]|^\[\d"  # what begins like an option, a citation or a symbol
    r"|[{}\\|^~@#$<>=`]|\*\*|__|::|\.\.\.|->|\?\?|\w\("
    r"|https?:|www\."
    r"|TODO|FIXME|XXX|noqa|type: ignore|[Cc]opyright|[Ll]icen[sc]e"
)


def prose_sentences(docstring: str) -> list[str]:
    """The English sentences of a docstring, in order, markup removed and white space collapsed.

    Args:
        docstring: the text as `ast.get_docstring` gives it, indentation cleaned.
    """
    sentences: list[str] = []
    for paragraph in _paragraphs(docstring):
        text = paragraph
        for pattern, replacement in _INLINE:
            text = pattern.sub(replacement, text)
        sentences += [
            _closed(sentence) for sentence in split_sentences(text) if _is_prose(sentence)
        ]
    return sentences


def _paragraphs(docstring: str) -> Iterator[str]:
    """Joins the lines of prose; an item, a field, a dedent or an empty line begins a paragraph."""
    parts: list[str] = []
    last_indent = 0
    lines = _prose_lines(docstring)
    for index, (indent, line) in enumerate(lines):
        following = lines[index + 1][0] if index + 1 < len(lines) else -1
        starts, text = _without_label(line, is_header=following > indent)
        if parts and (starts or not line or indent < last_indent):
            yield " ".join(" ".join(parts).split())
            parts = []
        if text:
            parts.append(text)
        last_indent = indent
    if parts:
        yield " ".join(" ".join(parts).split())


def _without_label(line: str, *, is_header: bool) -> tuple[bool, str]:
    """Whether a line begins a paragraph, and the line without bullet, field or parameter name.

    Args:
        line: one line of prose, stripped.
        is_header: whether what follows is indented deeper.
    """
    field = _FIELD.match(line)
    if field:
        return True, "" if field[1].endswith("type") else field[3] or ""
    marker = _MARKER.match(line)
    if marker:
        # An item's further lines hang below its text, so that it looks like a header.
        _, item = _without_label(line[marker.end() :], is_header=False)
        return True, "" if is_header and len(item.split()) <= 2 else item
    if is_header and len(line.split()) <= 3 and line[-1:] not in (".", ","):
        return True, ""
    definition = _DEFINITION.match(line)
    if definition:
        return True, "" if is_header else line[definition.end() :]
    named = _NAMED.match(line)
    if named:
        return True, line[named.end() :]
    return False, line


def _prose_lines(docstring: str) -> list[tuple[int, str]]:
    """Indentation and text of each line that may be prose; what was left out is an empty line."""
    kept: list[tuple[int, str]] = []
    for indent, line in _outside_blocks(_outside_code(docstring)):
        if _UNDERLINE.fullmatch(line):
            kept[-1:] = [(indent, "")]  # the heading above it
            kept.append((indent, ""))
        elif _TABLE.match(line) or (line.endswith(":") and _HEADING.fullmatch(line)):
            kept.append((indent, ""))
        else:
            kept.append((indent, line))
    return kept


def _outside_code(docstring: str) -> Iterator[tuple[int, str]]:
    """Indentation and text of each line; those of fenced blocks and of doctests are empty."""
    fence = ""
    in_doctest = False
    for raw in docstring.expandtabs().splitlines():
        line = raw.strip() if len(raw) <= _MAX_LINE else ""
        if fence:
            fence = "" if line.startswith(fence) else fence
            line = ""
        elif line.startswith(("```", "~~~")):
            fence = "" if line.count(line[:3]) > 1 else line[:3]
            line = ""
        # The output of an example goes on to the next empty line.
        in_doctest = bool(line) and (in_doctest or _DOCTEST.match(line) is not None)
        yield len(raw) - len(raw.lstrip()), "" if in_doctest else line


def _outside_blocks(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines; those of literal blocks, of directives without prose and of comments are empty."""
    block_indent: int | None = None  # lines that are indented deeper belong to a dropped block
    for indent, line in lines:
        if block_indent is not None and line and indent <= block_indent:
            block_indent = None
        if block_indent is not None:
            yield indent, ""
            continue
        directive = _DIRECTIVE.match(line)
        if directive and directive[1] in _PROSE_DIRECTIVES:
            yield indent, ""
            yield indent, _VERSION.sub("", directive[2])
        elif line == ".." or line.startswith(".. "):
            block_indent = indent
            yield indent, ""
        elif line.endswith("::"):
            block_indent = indent
            yield indent, line[:-1]
        else:
            yield indent, line


def split_sentences(paragraph: str) -> Iterator[str]:
    """Sentences of a paragraph; a full stop after an abbreviation or an initial ends none.

    A sentence ends with a full stop, an exclamation or a question mark, what closes quotes and
    brackets, white space, and a capital letter of English after it.
    """
    start = 0
    for end in _SENTENCE_END.finditer(paragraph):
        if not _ABBREVIATION.search(paragraph, start, end.start()):
            yield paragraph[start : end.end(1)]
            start = end.end()
    yield paragraph[start:].strip()


def _closed(sentence: str) -> str:
    """The sentence with a full stop, which descriptions of parameters often lack."""
    return sentence if sentence[-1] in ".!?\"')" else f"{sentence.rstrip(';')}."


def _is_prose(sentence: str) -> bool:
    words = sentence.split()
    if len(words) < _MIN_WORDS or len(sentence) > _MAX_CHARACTERS:
        return False
    # What is left open introduced a formula, code or a list that was dropped or stands alone.
    if sentence[-1] in ",:" or words[-1].lower() in _OPENING:
        return False
    if _NOT_PROSE.search(sentence):
        return False
    plain = sum(
        _PLAIN_WORD.fullmatch(word) is not None and not _CAMEL_CASE.search(word) for word in words
    )
    lowered = {word.strip("\"'()[].,;:!?").lower() for word in words}
    return plain >= _MIN_PLAIN_SHARE * len(words) and bool(lowered & _FUNCTION_WORDS)
