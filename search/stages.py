"""What each stage of a whole path has cost, and the command that it is."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotinybert.command import typed_options
from autotinybert.errors import DamagedFileError
from autotinybert.files import read_json_object, write_json

STAGES_FILE = "stages.json"


@dataclass
class Stages:
    """What each stage has cost, over all runs, and the command that it is.

    Attributes:
        path: `stages.json`.
        clock_s: reads seconds.
        seconds: by stage.
        commands: by stage.
    """

    path: Path
    clock_s: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, clock_s: Callable[[], float]) -> Stages:
        """What earlier runs of the same request have cost; nothing, where that is not known."""
        stages = cls(path, clock_s)
        # An account is no result: one that is damaged is begun anew.
        with contextlib.suppress(DamagedFileError, LookupError, TypeError, ValueError):
            document = read_json_object(path)
            seconds = {name: float(value) for name, value in document["seconds"].items()}
            stages.commands = {name: str(typed) for name, typed in document["commands"].items()}
            stages.seconds = seconds
        return stages

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds what happens inside to the cost of a stage, whether it succeeds or not."""
        started_s = self.clock_s()
        try:
            yield
        finally:
            self.add(name, self.clock_s() - started_s)
            self.save()

    def add(self, name: str, spent_s: float) -> None:
        """Adds to the cost of a stage."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + spent_s, 2)

    def save(self) -> None:
        """Writes `stages.json`."""
        write_json(self.path, {"seconds": self.seconds, "commands": self.commands})


def command_line(name: str, *arguments: Any, **options: Any) -> str:
    """A command as it would be typed."""
    typed: list[str] = []
    for argument in arguments:
        typed += [str(one) for one in (argument if isinstance(argument, list) else [argument])]
    return shlex.join([name, *typed, *typed_options(**options)])
