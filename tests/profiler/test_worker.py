from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.target import Configuration
from profiler.load_watch import LoadWatch
from profiler.worker import MAX_LINE_BYTES, OfferedModel, answer, serve, visit
from supernet.architecture import Architecture

CONFIGURATION = Configuration(Architecture(1, 8, 8, 1, 8))
REQUEST = {
    "type": "visit",
    "id": 7,
    "configuration": CONFIGURATION.to_json(),
    "protocol": Protocol().to_json(),
}


class Clock:
    """Advances a millisecond at every reading."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


def opened(_: Configuration) -> Callable[[], object]:
    return lambda: None


def lines_of(requests: bytes, model: OfferedModel | None = None) -> list[dict[str, Any]]:
    replies = io.BytesIO()
    serve(
        io.BytesIO(requests),
        replies,
        facts={"a": 1},
        open_configuration=opened,
        model=model,
        clock=Clock(),
    )
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_it_is_ready_with_its_facts_before_it_is_asked() -> None:
    ready = {"type": "ready", "wire_version": WIRE_VERSION, "host": {"a": 1}, "model_sha256": None}
    assert lines_of(b"") == [ready]
    assert lines_of(b"", OfferedModel("abc", opened)) == [{**ready, "model_sha256": "abc"}]


def test_a_visit_is_answered_with_its_runs_and_facts() -> None:
    reply = lines_of(json.dumps(REQUEST).encode() + b"\n")[1]
    assert (reply["type"], reply["id"]) == ("visit", 7)
    assert set(reply["runs_ns"]) == {1_000_000}
    assert sum(reply["runs_ns"]) == pytest.approx(Protocol().min_time_s * 1e9, rel=0.2)
    assert len(reply["facts"]["warmup_ns"]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "run"}, "a request is"),
        ({"id": "7"}, "id must be an integer"),
        ({"configuration": None}, "configuration must be an object"),
        ({"configuration": {}}, "a configuration has the keys"),
        ({"protocol": {}}, "its keys are"),
    ],
)
def test_what_is_no_request_is_refused_and_the_worker_stays(
    change: dict[str, Any], message: str
) -> None:
    bad = json.dumps({**REQUEST, **change}).encode() + b"\n"
    replies = lines_of(bad + json.dumps(REQUEST).encode() + b"\n")
    assert replies[1]["type"] == "refused"
    assert message in replies[1]["error"]
    assert replies[2]["type"] == "visit"


@given(st.binary(max_size=300))
def test_no_line_breaks_it(line: bytes) -> None:
    assert answer(line, opened, Clock())["type"] == "refused"


def test_deep_json_is_refused() -> None:
    assert answer(b"[" * 60_000, opened, Clock())["type"] == "refused"


def test_an_endless_line_ends_the_conversation() -> None:
    replies = lines_of(b"x" * (MAX_LINE_BYTES + 1) + b"\n")
    error = f"a line has at most {MAX_LINE_BYTES} bytes"
    assert replies[1:] == [{"type": "refused", "error": error}]


def test_a_configuration_that_cannot_be_opened_is_a_failure_and_no_crash() -> None:
    def broken(_: Configuration) -> Callable[[], object]:
        raise MemoryError("no room")

    reply = answer(json.dumps(REQUEST).encode(), broken, Clock())
    assert reply == {"type": "failure", "id": 7, "error": "MemoryError: no room"}


def request_for(model_sha256: object) -> bytes:
    return json.dumps({**REQUEST, "model_sha256": model_sha256}).encode() + b"\n"


def test_a_visit_opens_the_offered_file_only_when_its_hash_is_given() -> None:
    asked: list[Configuration] = []

    def open_file(configuration: Configuration) -> Callable[[], object]:
        asked.append(configuration)
        return lambda: None

    model = OfferedModel("abc", open_file)
    plain = json.dumps(REQUEST).encode() + b"\n"
    replies = lines_of(plain + request_for(None) + request_for("abc"), model)
    assert [reply["type"] for reply in replies[1:]] == ["visit"] * 3
    assert asked == [CONFIGURATION]


@pytest.mark.parametrize(
    ("model", "asked", "message"),
    [
        (None, "abc", "started without --model"),
        (OfferedModel("abc", opened), "abd", "started with another file, abc"),
        (OfferedModel("abc", opened), "/etc/passwd", "started with another file"),
        (OfferedModel("abc", opened), ["abc"], "started with another file"),
        (OfferedModel("abc", opened), 7, "started with another file"),
    ],
)
def test_a_file_that_was_not_offered_is_refused(
    model: OfferedModel | None, asked: object, message: str
) -> None:
    reply = lines_of(request_for(asked), model)[1]
    assert reply["type"] == "refused"
    assert message in reply["error"]


class Competition:
    """A core that other work has for most of the time."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.slept_s = 0.0

    def clock(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def cpu_clock(self) -> int:
        return self.now_ns // 4

    def sleep_s(self, seconds: float) -> None:
        self.slept_s += seconds
        self.now_ns += int(seconds * 1e9)


def test_a_visit_is_held_back_while_the_core_is_taken_and_ends_early_if_it_still_is() -> None:
    core = Competition()
    watch = LoadWatch(core.clock, core.cpu_clock, core.sleep_s)
    protocol = Protocol(max_hold_s=2.0)
    found = visit(CONFIGURATION, protocol, opened, core.clock, watch)
    assert found["facts"]["held_ns"] >= 2e9
    assert len(found["runs_ns"]) < Protocol().min_time_s * 1e3  # runs of a millisecond
    assert found["facts"]["waited_ns"] > 0
    off = Protocol(most_waiting_share=1.0)
    found = visit(CONFIGURATION, off, opened, core.clock, watch)
    assert (found["facts"]["held_ns"], found["facts"]["waited_ns"]) == (0, None)


def test_without_a_watch_nobody_knows_how_long_the_runs_waited() -> None:
    facts = visit(CONFIGURATION, Protocol(), opened, Clock())["facts"]
    assert (facts["held_ns"], facts["waited_ns"]) == (0, None)


def test_a_number_that_no_float_holds_is_refused_and_the_child_goes_on() -> None:
    huge = {**REQUEST, "protocol": {**Protocol().to_json(), "visits": 10**400}}
    requests = b"".join(json.dumps(value).encode() + b"\n" for value in (huge, REQUEST))
    _, refused, answered = lines_of(requests)
    assert refused["type"] == "refused"
    assert "visits must be above 0" in refused["error"]
    assert answered["type"] == "visit"


def test_a_part_of_an_encoder_is_visited_and_nothing_else() -> None:
    part = replace(CONFIGURATION, part="ffn")
    request = {**REQUEST, "configuration": part.to_json()}
    opened_parts: list[Configuration] = []

    def opening(configuration: Configuration) -> Callable[[], object]:
        opened_parts.append(configuration)
        return lambda: None

    assert answer(json.dumps(request).encode(), opening, Clock())["type"] == "visit"
    assert opened_parts == [part]
    for change in ({"type": "footprint"}, {"model_sha256": "abc"}):
        reply = answer(json.dumps({**request, **change}).encode(), opening, Clock())
        assert reply["type"] == "refused"
        assert "only a visit with random weights is of a part" in reply["error"]
