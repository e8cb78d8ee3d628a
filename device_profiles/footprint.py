"""What a model costs besides its latency: file, memory, and the wait for the first result."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from autotinybert.errors import InputError

# Columns of `latencies.csv`; empty where no footprint was taken.
FOOTPRINT_COLUMNS = ("file_mb", "peak_rss_mb", "time_to_first_ms")

_BYTES_PER_MB = 1e6

# A petabyte, and eleven days: what is larger is no measurement.
_HIGHEST_BYTES = 10**15
_HIGHEST_MS = 1e9


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a fresh process that does nothing but run a model file needs.

    The file is in the page cache: it was just written.

    Attributes:
        file_bytes: size of the ONNX file.
        baseline_rss_bytes: resident memory of the process with Python, numpy and ONNX Runtime
            loaded, before the file is opened.
        peak_rss_bytes: most resident memory up to the first result, the baseline included.
        open_ms: from opening the file to a session that is ready.
        first_run_ms: the first run.
        time_to_first_ms: from opening the file to the first result.
        process_to_first_ms: from starting the process to the first result, imports included.

    Raises:
        InputError: if a value makes no sense.
    """

    file_bytes: int
    baseline_rss_bytes: int
    peak_rss_bytes: int
    open_ms: float
    first_run_ms: float
    time_to_first_ms: float
    process_to_first_ms: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_time = field.name.endswith("_ms")
            if isinstance(value, bool) or not isinstance(value, (int, float) if is_time else int):
                raise InputError(f"footprint: {field.name} must be a number, not {value!r}")
            if not 0 < value <= (_HIGHEST_MS if is_time else _HIGHEST_BYTES):
                raise InputError(f"footprint: {field.name} must be above 0, not {value!r}")

    @classmethod
    def of_repeats(cls, repeats: Sequence[Footprint]) -> Footprint:
        """One footprint from several processes: the most memory, and of each time the median.

        The fastest start would promise too much, and memory must be there when it is needed most.
        """
        return cls(
            **{
                field.name: statistics.median(values) if field.name.endswith("_ms") else max(values)
                for field in dataclasses.fields(cls)
                if (values := [getattr(repeat, field.name) for repeat in repeats])
            }
        )

    def columns(self) -> dict[str, float]:
        """The values of `FOOTPRINT_COLUMNS`."""
        return {
            "file_mb": self.file_bytes / _BYTES_PER_MB,
            "peak_rss_mb": self.peak_rss_bytes / _BYTES_PER_MB,
            "time_to_first_ms": self.time_to_first_ms,
        }

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads a footprint back; other keys are passed over.

        Raises:
            InputError: if a key is missing or a value makes no sense.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in names if name not in value]
        if missing:
            raise InputError(f"a footprint lacks {missing[0]}")
        return cls(**{name: value[name] for name in names})
