"""How fast the graph variants and precisions are, beside the usual road and the machine's peak.

    python -m benchmarks.graph_speed [--rounds 20] [--threads 1]

Claims, geometric means over AutoTinyBERT's eight shapes, batch 1, sequence length 128: the fastest
fp32 variant at least 15 % faster than `torch.onnx.export` + `onnxruntime.transformers.optimizer`
with the same weights, equal to 1e-5 on padded rows; int8 at least 2.2 times the fastest fp32 on
a CPU with VNNI. All sessions of a shape live in one process and are timed in turn.

Needs the `dev` extra.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.interleaved import interleaved_ms
from benchmarks.usual_road import export_usual
from device_profiles.provider_options import CPU_PROVIDER
from device_profiles.target import Target
from profiler.runtime import session_options
from supernet.architecture import Architecture, to_matrix
from supernet.cost import flops
from supernet.onnx_graph import OUTPUT_NAME, build_encoder
from supernet.published import AUTOTINYBERT_SHAPES
from supernet.variants import GraphVariant, Precision
from supernet.weights import weight_shapes

_VOCAB_SIZE = 2048  # a lookup reads as many rows whatever the table holds
_AUTHORED: tuple[tuple[GraphVariant, Precision], ...] = (
    ("plain", "fp32"),
    ("folded", "fp32"),
    ("attention", "fp32"),
    ("plain", "int8"),
    ("folded", "int8"),
)
_OTHERS = ("exported", "optimised", "plain, quantize_dynamic")

_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")

Weights = dict[str, npt.NDArray[np.float32]]
Inputs = dict[str, npt.NDArray[np.int64]]


def _weights(architecture: Architecture, rng: np.random.Generator) -> Weights:
    shapes = weight_shapes(architecture, vocab_size=_VOCAB_SIZE)
    weights = {
        name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()
    }
    for name in weights:
        if name.endswith("LayerNorm.weight"):
            weights[name] += 1
    return weights


def _inputs(rng: np.random.Generator, *, batch_size: int, padded: int) -> Inputs:
    shape = (batch_size, 128)
    mask = np.ones(shape, dtype=np.int64)
    mask[:, 128 - padded :] = 0
    words = rng.integers(0, _VOCAB_SIZE, shape)
    return dict(
        input_ids=words, attention_mask=mask, token_type_ids=np.zeros(shape, dtype=np.int64)
    )


def _session(model: bytes | str, threads: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model, session_options(Target(threads=threads)), providers=[CPU_PROVIDER]
    )


def _sessions(
    architecture: Architecture, weights: Weights, inputs: Inputs, threads: int
) -> dict[str, onnxruntime.InferenceSession]:
    found: dict[str, onnxruntime.InferenceSession] = {}
    for variant, precision in _AUTHORED:
        model = build_encoder(architecture, variant=variant, precision=precision, weights=weights)
        found[f"{variant}, {precision}"] = _session(model.model.SerializeToString(), threads)
    with tempfile.TemporaryDirectory() as folder:
        paths = export_usual(architecture, weights, inputs, Path(folder))
        for name, path in zip(_OTHERS, paths, strict=False):
            found[name] = _session(str(path), threads)
        plain = Path(folder) / "plain.onnx"
        plain.write_bytes(build_encoder(architecture, weights=weights).model.SerializeToString())
        quantised = Path(folder) / "quantised.onnx"
        quantize_dynamic(
            plain,
            quantised,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            extra_options={"MatMulConstBOnly": True},
        )
        found[_OTHERS[2]] = _session(str(quantised), threads)
    return found


def peak_gflops(threads: int) -> float:
    """The best rate that this runtime reaches on one large product, in 10^9 operations a second."""
    best = 0.0
    for rows, inner, columns in ((128, 512, 512), (240, 256, 1024), (512, 512, 512)):
        rng = np.random.default_rng(0)
        left, right = (
            rng.normal(0, 1, shape).astype(np.float32)
            for shape in ((rows, inner), (inner, columns))
        )
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, left.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (rows, columns))],
            [helper.make_tensor("w", TensorProto.FLOAT, right.shape, right.tobytes(), raw=True)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        session = _session(model.SerializeToString(), threads)

        def run(session: onnxruntime.InferenceSession = session, left: Any = left) -> object:
            return session.run(None, {"x": left})

        fastest_ms = interleaved_ms([run], rounds=20, runs=20).min()
        best = max(best, 2e-6 * rows * inner * columns / fastest_ms)
    return best


def share_of_products(model: bytes, inputs: Inputs, threads: int) -> dict[str, float]:
    """Where the time of a graph goes, by kind of operator, from ONNX Runtime's own profile."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(Target(threads=threads))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=[CPU_PROVIDER])
        for _ in range(40):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            kind = event["args"]["op_name"]
            times.setdefault((kind, event["name"]), []).append(event["dur"])
    shares: dict[str, float] = {}
    for (kind, _), durations in times.items():
        shares[kind] = shares.get(kind, 0.0) + min(durations)
    total = sum(shares.values())
    return {kind: time / total for kind, time in sorted(shares.items(), key=lambda kv: -kv[1])}


def _check(
    sessions: Mapping[str, onnxruntime.InferenceSession], inputs: Inputs
) -> dict[str, float]:
    """The largest difference from the exported file on tokens that are no padding."""
    kept = inputs["attention_mask"].astype(bool)
    expected = sessions["exported"].run([OUTPUT_NAME], inputs)[0]
    return {
        name: float(np.abs(session.run([OUTPUT_NAME], inputs)[0] - expected)[kept].max())
        for name, session in sessions.items()
    }


def main() -> None:
    """Prints times, ratios and their spread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    peak = peak_gflops(arguments.threads)
    print(f"best rate of one large product: {peak:.0f} GFLOP/s")
    ratios: list[npt.NDArray[np.float64]] = []
    names: list[str] = []
    for shape in AUTOTINYBERT_SHAPES:
        rng = np.random.default_rng(0)
        architecture = shape.architecture
        weights = _weights(architecture, rng)
        padded = _inputs(rng, batch_size=2, padded=20)
        sessions = _sessions(architecture, weights, padded, arguments.threads)
        differences = _check(sessions, padded)
        exact = [name for name in differences if "int8" not in name and "quantize" not in name]
        worst = max(differences[name] for name in exact)
        assert worst <= 1e-5, f"{architecture}: {differences}"
        names = list(sessions)
        inputs = _inputs(rng, batch_size=1, padded=0)
        times_ms = interleaved_ms(
            [_runner(session, inputs) for session in sessions.values()],
            rounds=arguments.rounds,
            runs=4,
        )
        medians = np.median(times_ms, axis=0)
        ratios.append(times_ms[:, [names.index("optimised")]] / times_ms)
        operations = int(flops(to_matrix([architecture]))[0])
        rate = operations / 1e6 / times_ms[:, names.index("folded, fp32")].min()
        print(
            f"{architecture}: "
            + "; ".join(f"{name} {time:.2f} ms" for name, time in zip(names, medians, strict=True))
            + f"; folded fp32 at {rate:.0f} GFLOP/s, {rate / peak:.0%} of the peak; "
            f"fp32 differs by {worst:.1e}",
            flush=True,
        )
    by_round = np.exp(np.mean([np.log(ratio) for ratio in ratios], axis=0))
    print("geometric means over the shapes, as speed-up over the optimised export:")
    for name, column in zip(names, by_round.T, strict=True):
        print(f"  {name:<26} {_spread(column)}")
    columns = {name: by_round[:, index] for index, name in enumerate(names)}
    fp32 = max((columns[name] for name in names if name.endswith(", fp32")), key=np.median)
    print(f"int8 folded over the fastest fp32: {_spread(columns['folded, int8'] / fp32)}")
    print(f"int8 plain over the fastest fp32: {_spread(columns['plain, int8'] / fp32)}")
    print(
        f"int8 folded over plain fp32: {_spread(columns['folded, int8'] / columns['plain, fp32'])}"
    )
    architecture = AUTOTINYBERT_SHAPES[0].architecture
    for precision in _PRECISIONS:
        model = build_encoder(
            architecture,
            variant="folded",
            precision=precision,
            weights=_weights(architecture, np.random.default_rng(0)),
        ).model.SerializeToString()
        shares = share_of_products(
            model, _inputs(np.random.default_rng(0), batch_size=1, padded=0), arguments.threads
        )
        listed = ", ".join(f"{kind} {share:.0%}" for kind, share in list(shares.items())[:7])
        print(f"{architecture} folded {precision}: {listed}")


def _runner(session: onnxruntime.InferenceSession, inputs: Inputs) -> Callable[[], object]:
    return lambda: session.run([OUTPUT_NAME], inputs)


def _spread(column: npt.NDArray[np.float64]) -> str:
    low, median, high = np.percentile(column, [25, 50, 75])
    return f"{median:.3f} (quartiles {low:.3f}..{high:.3f})"


if __name__ == "__main__":
    main()
