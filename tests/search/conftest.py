"""A bench that measures an exported file, from arithmetic, and a folder that holds such a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from device_profiles.protocol import Protocol
from device_profiles.target import Configuration


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model folder; what is in the file does not matter to a bench."""

    def make(
        name: str = "model",
        *,
        architecture: str = "4-312-1200-12-312",
        graph_variant: str = "plain",
        content: bytes | None = None,
        **changes: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        content = name.encode() if content is None else content
        (folder / "model.onnx").write_bytes(content)
        section = {
            "architecture": architecture,
            "graph_variant": graph_variant,
            "onnx_sha256": hashlib.sha256(content).hexdigest(),
            "format": 1,
            **changes,
        }
        config = {"model_type": "bert", "autotinybert": section}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture
def make_bench(fake_device: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a device that takes the hash of a file, and is slowed as a test says.

    `slowdown(worker, configuration, is_file)` is a factor; `before(visits)` is called with the
    number of visits made so far, and may raise.
    """

    class Bench(fake_device):  # type: ignore[misc, valid-type]
        def __init__(
            self,
            *,
            seed: int = 7,
            noise: float = 0.01,
            slowdown: Callable[[int, Configuration, bool], float] = lambda *_: 1.0,
            before: Callable[[int], None] = lambda _: None,
        ) -> None:
            super().__init__(seed, noise)
            self.slowdown = slowdown
            self.before = before
            self.hashes: list[str | None] = []
            self.slept_s: list[float] = []

        def visit(
            self,
            configuration: Configuration,
            protocol: Protocol,
            *,
            model_sha256: str | None = None,
        ) -> Mapping[str, Any]:
            self.before(len(self.hashes))
            self.hashes.append(model_sha256)
            result: Mapping[str, Any] = super().visit(configuration, protocol)
            is_file = model_sha256 is not None
            factor = self.slowdown(self.workers_opened, configuration, is_file)
            return {**result, "runs_ns": [int(ns * factor) for ns in result["runs_ns"]]}

        def sleep_s(self, seconds: float) -> None:
            self.slept_s.append(seconds)
            self.now_s += seconds

    return Bench
