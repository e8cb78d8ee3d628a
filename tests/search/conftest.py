"""A bench for exported files, predictors of a fake device, and a tiny SuperPLM to search."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

# Before tokenizers is imported anywhere: no test warns that a process was forked.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import BertWordPieceTokenizer

from autotinybert.command import Answer
from autotinybert.files import OutputFolder
from device_profiles.journal import Journal
from device_profiles.measurements import architecture_columns
from device_profiles.profile import (
    JOURNAL_FILE,
    LATENCIES_FILE,
    PROFILE_FILES,
    DeviceProfile,
    save_profile,
)
from device_profiles.protocol import Protocol
from device_profiles.rows import rows_of
from device_profiles.table import read_table
from device_profiles.target import Configuration, Target, Workload
from predictor.cli import fit_predictor
from predictor.model import SlicePredictor
from predictor.store import load_predictor
from profiler.answer import profile_answer
from profiler.campaign import run_campaign
from profiler.host import host_facts
from profiler.plan import make_plan, sample_architectures
from search.cli import prepare_score, scored, verify_into
from search.constraints import Budget, parse_latency
from search.exported_model import ExportedModel
from search.path_checks import CheckedRequest, check_request
from search.pipeline import COMMANDS
from search.verification_plan import VerificationPlan
from supernet.architecture import Architecture, from_matrix
from supernet.huggingface import WEIGHTS_FILE
from supernet.published import BERT_BASE
from supernet.space_file import load_space
from supernet.training_cli import train_supernet
from supernet.weights import weight_shapes


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


@pytest.fixture(scope="session")
def csv_predictor(
    tmp_path_factory: pytest.TempPathFactory, make_profile_in: Callable[..., Path]
) -> Path:
    """A predictor for shapes of the `kd` space, of which no machine is known."""
    folder = tmp_path_factory.mktemp("csv")
    measured = make_profile_in(folder) / LATENCIES_FILE
    fit_predictor(csv=measured, out=folder / "predictor")
    return folder / "predictor"


@pytest.fixture(scope="session")
def latency_predictor(csv_predictor: Path) -> SlicePredictor:
    """The same, for its only workload and target."""
    (part,) = load_predictor(csv_predictor).slices
    return part


# As small as a teacher is whose slices are in the `kd` space.
TEACHER = Architecture(3, 192, 320, 12, 192)
MAX_POSITIONS = 128
TRAINING_LENGTH = 16
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with random weights as Hugging Face stores one, and a tokenizer of letters."""
    folder = tmp_path_factory.mktemp("teacher")
    tokens = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "tokenizer.json").write_text(BertWordPieceTokenizer(vocabulary).to_str())
    config = {
        "model_type": "bert",
        "num_hidden_layers": TEACHER.num_layers,
        "hidden_size": TEACHER.hidden_size,
        "intermediate_size": TEACHER.ffn_size,
        "num_attention_heads": TEACHER.num_heads,
        "vocab_size": len(tokens),
        "max_position_embeddings": MAX_POSITIONS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    shapes = weight_shapes(TEACHER, vocab_size=len(tokens), max_positions=MAX_POSITIONS)
    weights = {
        name: rng.normal(float(name.endswith("LayerNorm.weight")), 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    """The same teacher with a classifier on it, which tells texts from one another."""
    folder = tmp_path_factory.mktemp("classifier")
    shutil.copytree(teacher_folder, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "bad", "1": "good"},
        "label2id": {"bad": 0, "good": 1},
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(1)
    size = TEACHER.hidden_size
    weights = {f"bert.{name}": value for name, value in load_file(folder / WEIGHTS_FILE).items()}
    for name, shape in (
        ("bert.pooler.dense.weight", (size, size)),
        ("bert.pooler.dense.bias", (size,)),
        ("classifier.weight", (2, size)),
        ("classifier.bias", (2,)),
    ):
        weights[name] = rng.normal(0.0, 0.1, shape).astype(np.float32)
    save_file(weights, folder / WEIGHTS_FILE)
    return folder


@pytest.fixture(scope="session")
def task_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Texts to train on, without labels, and labelled ones to score on."""
    folder = tmp_path_factory.mktemp("task")
    rng = np.random.default_rng(2)
    texts = [" ".join(rng.choice(list(LETTERS), rng.integers(6, 18))) for _ in range(260)]
    train, dev = folder / "train.csv", folder / "dev.csv"
    train.write_text("\n".join(["text", *texts[:200]]) + "\n")
    rows = [f"{text},{rng.choice(['good', 'bad'])}" for text in texts[200:]]
    dev.write_text("\n".join(["text,label", *rows]) + "\n")
    return train, dev


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 200 documents, enough for three splits."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    rng = np.random.default_rng(0)
    documents = (" ".join(rng.choice(list(LETTERS), 20)) for _ in range(200))
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="session")
def supernet_folder(
    tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, text_file: Path
) -> Path:
    """A SuperPLM for the `kd` space, trained for two steps."""
    folder = tmp_path_factory.mktemp("trained")
    train_supernet(
        teacher=str(teacher_folder),
        out=folder / "supernet",
        corpus=str(text_file),
        steps=2,
        sequence_length=TRAINING_LENGTH,
        batch_size=4,
    )
    return folder / "supernet"


class Bench:
    """Commands whose measuring is done by a fake device; the others are the real ones.

    Attributes:
        called: the names of the commands, in order.
        slowdown: of exported files, by how many were verified before.
        machine: how much slower everything is while files are verified.
        broken: whether nothing can be profiled.
    """

    def __init__(self, make_device: Callable[..., Any], slowdown: Callable[[int], float]) -> None:
        self.called: list[str] = []
        self._make_device = make_device
        self._slowdown = slowdown
        self._verified = 0
        self.machine = 1.0
        self.broken = False
        self._host = host_facts()

    @property
    def commands(self) -> Mapping[str, Callable[..., Answer]]:
        def counted(name: str, function: Callable[..., Answer]) -> Callable[..., Answer]:
            def run(*arguments: Any, **options: Any) -> Answer:
                self.called.append(name)
                # What the bench takes is what the command takes.
                inspect.signature(COMMANDS[name]).bind(*arguments, **options)
                return function(*arguments, **options)

            return run

        measuring = {
            "profile-device": self.profile_device,
            "verify-model": self.verify_model,
            # Its page has tests of its own, and takes seconds.
            "fit-predictor": lambda *arguments, **options: fit_predictor(
                *arguments, **{**options, "report": False}
            ),
        }
        return {name: counted(name, value) for name, value in {**COMMANDS, **measuring}.items()}

    def profile_device(self, *, out: Path, overwrite: bool = False, **options: Any) -> Answer:
        request = {name: str(value) for name, value in options.items()}
        folder = OutputFolder.claim(
            out, "profile-device", request, files=PROFILE_FILES, overwrite=overwrite
        )
        if folder.state == "finished":
            return profile_answer(DeviceProfile.load(out), finished_before=True)
        if "architectures" in options:
            shapes = from_matrix(architecture_columns(read_table(options["architectures"])))
            references = []
        else:
            largest = Architecture.parse(options["within"])
            space = load_space(options["space"]).clipped(largest)
            shapes = sample_architectures(space, options["configs"], options["seed"])
            references = [Architecture.parse(name) for name in options["reference"]]
        plan = make_plan(
            shapes,
            workloads=[Workload()],
            targets=[Target(precision=options["precision"][0])],
            rivals=False,
            seed=options["seed"],
            references=references,
        )
        device = self._make_device(seed=options["seed"])
        device.host = self._host
        device.broken = self.broken
        protocol = Protocol()
        folder.create()
        with Journal(out / JOURNAL_FILE, fresh=folder.state == "new") as journal:
            folder.begin([])
            campaign = run_campaign(
                plan, protocol, journal, device.open, host=self._host, clock_s=device.clock_s
            )
            save_profile(
                out,
                target="cpu-x86",
                host=self._host,
                protocol=protocol,
                arguments=[],
                campaign=campaign,
                rows=rows_of(campaign, protocol),
                references=references,
            )
            folder.finish()
        return profile_answer(DeviceProfile.load(out))

    def verify_model(self, *, model: Path, profile: Path, out: Path, **options: Any) -> Answer:
        exported = ExportedModel.read(model)
        latency, reference = options["max_latency"], options.get("speedup_reference")
        budget = Budget(
            statistic=options["budget_statistic"],
            max_latency_ms=None if latency is None else parse_latency(latency),
            min_speedup=options["speedup"],
            speedup_reference=Architecture.parse(reference or str(BERT_BASE.architecture)),
        )
        plan = VerificationPlan.make(
            exported,
            DeviceProfile.load(profile),
            budget,
            workload=Workload(),
            target=Target(precision=exported.precision),
        )
        beside = options["score_with"]
        scorer = None if beside is None else prepare_score(exported, beside)
        factor, machine = self._slowdown(self._verified), self.machine
        self._verified += 1
        device = self._make_device(
            seed=3, slowdown=lambda *where: machine * (factor if where[-1] else 1.0)
        )
        device.host = self._host
        answer = verify_into(
            out,
            plan,
            device.open,
            clock_s=device.clock_s,
            sleep_s=device.sleep_s,
            max_wait_s=0.0,
        )
        return answer if scorer is None else scored(answer, out, scorer)


@pytest.fixture
def bench_of(make_bench: Callable[..., Any]) -> Callable[..., Bench]:
    """Makes the bench on which files are slowed, by how many were verified before."""
    return lambda slowdown: Bench(make_bench, slowdown=slowdown)


@pytest.fixture
def bench(bench_of: Callable[..., Bench]) -> Bench:
    """One that is as fast as it was profiled."""
    return bench_of(lambda _: 1.0)


@pytest.fixture
def checked_of(teacher_folder: Path, text_file: Path) -> Callable[..., CheckedRequest]:
    def make(**changes: Any) -> CheckedRequest:
        target = {"x86_64": "cpu-x86", "aarch64": "cpu-arm"}[os.uname().machine]
        options: dict[str, Any] = {
            "teacher": str(teacher_folder),
            "target": target,
            "max_latency_ms": 2.0,
            "speedup": None,
            "speedup_reference": "teacher",
            "budget_statistic": "p50",
            "corpus": str(text_file),
            "task": None,
            "train": None,
            "dev": None,
            "max_score_drop": None,
            "space": "kd",
            "profile": None,
            "configs": 30,
            "sequence_length": 128,
            "batch_size": 1,
            "threads": 1,
            "precision": "fp32",
            "graph_variant": "plain",
            "training_sequence_length": 16,
            "max_megabytes": None,
            "supernet_minutes": 0.005,
            "train_minutes": 0.005,
            "method": "random",
            "evaluations": 6,
            "shortlist": 3,
            "tries": 2,
            "max_wait": 0.0,
            "seed": 0,
        }
        return check_request(**{**options, **changes})

    return make
