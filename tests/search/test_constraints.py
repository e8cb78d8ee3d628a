from __future__ import annotations

import math
from typing import Any

import pytest

from autotinybert.errors import InputError
from search.constraints import Budget, name_of, parse_latency
from supernet.architecture import Architecture
from supernet.published import BERT_BASE, MINILM_L6

REFERENCES: list[dict[str, Any]] = [
    {
        "name": shape.name,
        "model_id": str(shape.architecture),
        "latency_ms": quiet_ms,
        "p50_ms": p50_ms,
        **dict.fromkeys(("p90_ms", "p95_ms", "p99_ms")),
    }
    for shape, quiet_ms, p50_ms in ((BERT_BASE, 210.0, 220.0), (MINILM_L6, None, None))
]


@pytest.mark.parametrize(
    ("text", "latency_ms"),
    [
        ("12ms", 12.0),
        ("0.5s", 500.0),
        ("800us", 0.8),
        (" 12.5 ms ", 12.5),
        ("1e1ms", 10.0),
    ],
)
def test_a_latency_is_read_with_its_unit(text: str, latency_ms: float) -> None:
    assert parse_latency(text) == pytest.approx(latency_ms)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12", r"--max-latency 12 has no unit: write 12ms \(or us, s\)"),
        ("nan", "nan has no unit"),
        ("-3ms", "-3ms is no latency: write one above 0"),
        ("0ms", "0ms is no latency"),
        ("nanms", "nanms is no latency"),
        ("infs", "infs is no latency"),
        ("1e999s", "1e999s is no latency"),
        ("12m", "'12m' is no latency: write a number and us, ms or s"),
        ("12MS", "'12MS' is no latency"),
        ("1_2ms", "'1_2ms' is no latency"),
        ("ms", "'ms' is no latency"),
        ("", "'' is no latency"),
        ("fast", "'fast' is no latency"),
    ],
)
def test_what_is_no_latency_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_latency(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either --max-latency 12ms or --speedup 7"),
        ({"max_latency_ms": 1.0, "min_speedup": 2.0}, "either --max-latency"),
        ({"max_latency_ms": 1.0, "statistic": "mean"}, "no budget statistic 'mean': use quiet"),
        ({"max_latency_ms": -1.0}, "a latency of -1 is no budget"),
        ({"min_speedup": math.nan}, "a speed-up of nan is no budget"),
        ({"min_speedup": 0.0}, "a speed-up of 0 is no budget"),
    ],
)
def test_what_is_no_budget_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Budget(**values)


def test_a_speed_up_becomes_milliseconds_by_the_reference_of_the_profile() -> None:
    assert Budget(max_latency_ms=12.0).limit_ms([]) == 12.0
    assert Budget(min_speedup=10).limit_ms(REFERENCES) == 22.0
    assert Budget(min_speedup=10, statistic="quiet").limit_ms(REFERENCES) == 21.0


def test_a_reference_that_does_not_tell_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"no p95 of BERT-base \(it has quiet, p50\)"):
        Budget(min_speedup=10, statistic="p95").limit_ms(REFERENCES)
    with pytest.raises(InputError, match="it has no statistic at all"):
        Budget(min_speedup=10, speedup_reference=MINILM_L6.architecture).limit_ms(REFERENCES)
    other = Architecture(1, 8, 8, 1, 8)
    with pytest.raises(InputError, match=r"1-8-8-1-8 is no reference .* BERT-base, MiniLM-L6"):
        Budget(min_speedup=10, speedup_reference=other).limit_ms(REFERENCES)


def test_a_budget_is_described_in_words() -> None:
    assert Budget(max_latency_ms=12).describe() == "p50 of at most 12 ms"
    wanted = "quiet at least 7 times as fast as BERT-base"
    assert Budget(min_speedup=7, statistic="quiet").describe() == wanted


def test_shapes_are_called_by_their_names() -> None:
    assert name_of(Architecture(6, 768, 3072, 12, 768)) == "DistilBERT"
    assert name_of(Architecture(1, 8, 8, 1, 8)) == "1-8-8-1-8"
