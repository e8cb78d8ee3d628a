"""The frame around every command: what it prints, where, and with which exit code.

A command is a function that returns an `Answer` or raises. The frame turns that into the
contract that all commands share: 0 done, 1 the work failed, 2 bad usage or bad input; one plain
line on stderr for an error; one JSON object on stdout with `--json`, errors too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from autotinybert import __version__
from autotinybert.errors import AutoTinyBertError


@dataclass(frozen=True)
class Answer:
    """What a command has to say when it is done.

    Attributes:
        data: the JSON object that `--json` prints.
        text: what a person reads instead; printed as it is, all at once or piece by piece.
        exit_code: 0, or 1 where the work was done and its result is a refusal.
    """

    data: dict[str, Any]
    text: str | Iterable[str] = ""
    exit_code: int = 0


def _print_version(wanted: bool) -> None:  # noqa: FBT001 (typer calls it so)
    if wanted:
        typer.echo(f"autotinybert {__version__}")
        raise typer.Exit


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, errors too.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what another request left in --out.")
]
VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print version.")
]


def typed_options(**options: object) -> list[str]:
    """Options as they would be typed; what is None or False is left out."""
    typed: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            typed.append(option)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                typed += [option, str(one)]
    return typed


@dataclass
class _Interrupted(BaseException):  # libraries that swallow every Exception must not swallow it
    number: int


def _raise_interrupted(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Interrupted(number)


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Lets `kill` and Ctrl-C unwind the stack, so that children are stopped and files closed."""
    previous = {
        number: signal.signal(number, _raise_interrupted)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_command(function: Callable[..., Answer], name: str, argv: Sequence[str]) -> int:
    """Runs one command and returns its exit code.

    Args:
        function: a function with typer annotations that returns an `Answer`.
        name: the command's name, for its help text.
        argv: its arguments, without the name.
    """
    as_json = "--json" in argv
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name=name)(function)
    try:
        with _termination_as_exception():
            answer = app(args=list(argv), prog_name=name, standalone_mode=False)
            if not isinstance(answer, Answer):  # --help and --version return an exit code
                return int(answer or 0)
            _print(answer, as_json=as_json)
            return answer.exit_code
    except AutoTinyBertError as error:
        return _report(name, str(error), error.exit_code, as_json=as_json)
    except TyperException as error:
        message = f"{error.format_message().rstrip('.')}; see {name} --help"
        return _report(name, message, 2, as_json=as_json)
    except (typer.Abort, _Interrupted) as error:
        number = getattr(error, "number", signal.SIGINT)
        return _report(
            name,
            "interrupted: run the same command again to go on",
            128 + int(number),
            as_json=as_json,
        )
    except BrokenPipeError:
        return _reader_is_gone()
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message = f"{error.strerror or error}{where}: make room or fix access, then run it again"
        return _report(name, message, 1, as_json=as_json)


def _print(answer: Answer, *, as_json: bool) -> None:
    # A terminal that lacks a character gets an escape in its place, not a crash after the work.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if as_json:
        # A non-finite number would make the line invalid JSON for other readers.
        sys.stdout.write(json.dumps(answer.data, allow_nan=False) + "\n")
    elif isinstance(answer.text, str):
        if answer.text:
            sys.stdout.write(answer.text if answer.text.endswith("\n") else answer.text + "\n")
    else:
        sys.stdout.writelines(answer.text)
    sys.stdout.flush()


def _reader_is_gone() -> int:
    """Ends quietly: the reader (`head`, say) has seen enough."""
    # Python would complain once more when it flushes stdout at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report(name: str, message: str, exit_code: int, *, as_json: bool) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"{name}: {line}\n")
    if as_json:
        try:
            sys.stdout.write(json.dumps({"error": line}) + "\n")
            sys.stdout.flush()
        except OSError:  # nobody can read it there; stderr has it
            _reader_is_gone()
    return exit_code


def main(function: Callable[..., Answer], name: str) -> NoReturn:
    """Runs a command as a program."""
    for name_of_stream in ("stdout", "stderr"):
        if getattr(sys, name_of_stream) is None:  # closed by whoever started us
            setattr(sys, name_of_stream, Path(os.devnull).open("w"))  # noqa: SIM115
    raise SystemExit(run_command(function, name, sys.argv[1:]))
