from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotinybert.errors import InputError
from device_profiles.provider_options import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    PROVIDERS,
    TENSORRT_PROVIDER,
    canonical_options,
    differing_options,
    parse_options,
)


def test_the_same_options_are_the_same_text_in_whatever_order_they_are_given() -> None:
    pairs = ["use_tf32=0", "device_id=1", "arena_extend_strategy=kSameAsRequested"]
    text = "arena_extend_strategy=kSameAsRequested,device_id=1,use_tf32=0"
    assert canonical_options(CUDA_PROVIDER, pairs) == text
    assert canonical_options(CUDA_PROVIDER, pairs[::-1]) == text
    assert parse_options(CUDA_PROVIDER, text) == dict(pair.split("=") for pair in pairs)
    assert canonical_options(CPU_PROVIDER, []) == ""
    assert parse_options(CPU_PROVIDER, "") == {}


@pytest.mark.parametrize(
    ("provider", "pairs", "message"),
    [
        (CPU_PROVIDER, ["use_arena=1"], "has no option 'use_arena': it takes none"),
        (CUDA_PROVIDER, ["magic=1"], "has no option 'magic': use arena_extend_strategy, "),
        (TENSORRT_PROVIDER, ["use_tf32=0"], "has no option 'use_tf32'"),
        (TENSORRT_PROVIDER, ["trt_engine_cache_path=/etc"], "no option 'trt_engine_cache_path'"),
        (CUDA_PROVIDER, ["user_compute_stream=1234"], "no option 'user_compute_stream'"),
        (CUDA_PROVIDER, ["device_id"], "write KEY=VALUE"),
        (CUDA_PROVIDER, ["device_id=-1"], "must be an integer from 0 to 63"),
        (CUDA_PROVIDER, ["device_id=01"], "must be an integer from 0 to 63"),
        (CUDA_PROVIDER, ["device_id=\u0661"], "must be an integer from 0 to 63"),
        (CUDA_PROVIDER, ["use_tf32=yes"], "must be one of 0, 1"),
        (CUDA_PROVIDER, ["cudnn_conv_algo_search=FAST"], "one of EXHAUSTIVE, HEURISTIC, DEFAULT"),
        (CUDA_PROVIDER, ["gpu_mem_limit=9" + "9" * 30], "must be an integer"),
        (TENSORRT_PROVIDER, ["trt_builder_optimization_level=6"], "from 0 to 5"),
        (CUDA_PROVIDER, ["device_id=0", "device_id=1"], "'device_id' is given twice"),
        (CUDA_PROVIDER, ["device_id=0,use_tf32=1"], "must be an integer from 0 to 63"),
    ],
)
def test_what_is_no_option_of_a_provider_is_refused(
    provider: str, pairs: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        canonical_options(provider, pairs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("use_tf32=1,device_id=0", "not in order: write 'device_id=0,use_tf32=1'"),
        ("device_id=0,", "write KEY=VALUE"),
        (None, "must be text"),
        ("x" * 401, "at most 400 characters"),
    ],
)
def test_a_text_in_another_form_is_refused(text: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_options(CUDA_PROVIDER, text)


@given(st.sampled_from(PROVIDERS), st.text(max_size=60))
def test_every_text_is_read_as_it_stands_or_refused(provider: str, text: str) -> None:
    try:
        options = parse_options(provider, text)
    except InputError:
        return
    assert ",".join(f"{key}={value}" for key, value in options.items()) == text


def test_what_a_session_did_not_take_over_is_found() -> None:
    asked = {"use_tf32": "0", "device_id": "1", "sdpa_kernel": "2"}
    active = {"use_tf32": "False", "device_id": "0", "gpu_mem_limit": "17"}
    assert differing_options(asked, active) == [("device_id", "0"), ("sdpa_kernel", None)]
    assert differing_options({}, active) == []
