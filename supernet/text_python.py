"""The documentation on a machine: docstrings of the standard library and of installed packages.

Files are read and parsed, never imported or run.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from supernet.docstrings import prose_sentences
from supernet.text_document import Document, Tally

# The full environment holds several times as much, and parsing it takes minutes.
DEFAULT_PYTHON_DOCS_CHARACTERS = 12_000_000

# Longer files are generated tables; they hold little text and take seconds to parse.
_MAX_FILE_BYTES = 1_000_000

_Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def python_folders() -> list[Path]:
    """The folders of the standard library and of installed packages, as this interpreter has them.

    Folders that hold somebody's work in progress (the current one, editable installs) are not
    among them.
    """
    installed = [Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    folders = [Path(sysconfig.get_paths()["stdlib"]), *installed]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))


def python_documents(folders: Sequence[Path], tally: Tally) -> Iterator[Document]:
    """The docstrings of all modules below some folders, grouped by module.

    Modules are taken in the order of a hash of their names, so that a part of an environment is
    a fair sample of it; the same files give the same text.

    Args:
        folders: roots of modules; of two modules of one name, the first folder's counts.
        tally: where files are counted.
    """
    modules: dict[str, Path] = {}
    for folder in folders:
        for name, path in _modules_below(folder):
            modules.setdefault(name, path)
    for name in sorted(modules, key=_hash):
        tally.files += 1
        try:
            docstrings = _docstrings(modules[name])
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            tally.files_skipped += 1  # templates, other Pythons' syntax, tests of parsers
            continue
        for docstring in docstrings:
            yield Document(name, tuple(prose_sentences(docstring)))


def _modules_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        # The standard library's folder holds site-packages, which is a folder of its own.
        if "site-packages" not in parts and "dist-packages" not in parts:
            yield ".".join(parts).removesuffix(".__init__"), path


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()


def _docstrings(path: Path) -> list[str]:
    """All docstrings of a file, in the order of the file."""
    content = path.read_bytes()
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"{path} is too long")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes, which are not our caller's concern
        tree = ast.parse(content)
    found = (ast.get_docstring(node) for node in _definitions(tree))
    # A string may hold halves of surrogate pairs, which are no text.
    return [text.encode(errors="ignore").decode() for text in found if text]


def _definitions(tree: ast.Module) -> Iterator[_Definition]:
    """Whatever may have a docstring, in the order of the file."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Definition):
            yield node
        # Definitions are statements, and only these hold statements; expressions are many.
        for name in ("finalbody", "orelse", "handlers", "cases", "body"):
            waiting.extend(reversed(getattr(node, name, ())))
