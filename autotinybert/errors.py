"""Every error this project raises on purpose, on one screen.

- `AutoTinyBertError`
    - `InputError` (also a `ValueError`): the caller's values or files are wrong; exit code 2.
        - `OccupiedFolderError`: an `--out` folder belongs to something else.
        - `DamagedFileError`: a file of ours was torn, truncated or edited.
    - `WorkError`: the values were right, but the work could not be done; exit code 1.

A message is one line that says what is wrong, where, and what to do next.
"""

from __future__ import annotations


class AutoTinyBertError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class InputError(AutoTinyBertError, ValueError):
    """The caller's values or files are wrong."""

    exit_code = 2


class OccupiedFolderError(InputError):
    """An output folder holds what another request, or somebody else, put there."""


class DamagedFileError(InputError):
    """A file written by this project no longer reads as it was written."""


class WorkError(AutoTinyBertError):
    """The request was right, but the work could not be done."""
