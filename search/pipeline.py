"""The whole path: from a teacher and a budget to an encoder that was measured to meet it.

Every stage is one of the commands, in a folder of its own inside `--out`, called as a function. So
each is resumable by itself, and what was run can be typed again one by one.

1. `corpus/`      the text is tokenised
2. `profile/`     the device is measured
3. `predictor/`   latency as a function of shape
4. `supernet/`    the SuperPLM is trained
5. `search/`      shapes within the budget are evaluated
6. `shortlist/`   the best of them are measured in a campaign of their own; the profile's shapes are
                  scored like those of the search, to compare with
7. `candidates/`  best first: extracted, exported and verified; then trained, exported and verified
8. `model/`       the first that passed, with its `verification.json`; nothing else ever lies there

A slice is verified before it is trained, for its speed does not depend on its weights, and training
is what costs; the trained file is verified again, for that is the one that is handed out.
"""

from __future__ import annotations

import csv
import dataclasses
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotinybert.command import Answer
from autotinybert.errors import OccupiedFolderError, WorkError
from autotinybert.files import read_json_object, whole_file, write_json
from device_profiles.measurements import read_measurements
from device_profiles.profile import LATENCIES_FILE, DeviceProfile
from predictor.cli import fit_predictor
from predictor.store import load_predictor
from profiler.cli import profile_device
from search.cli import verify_model
from search.comparison import measured_shapes, score_profile
from search.constraints import Budget
from search.feasible import feasible_set
from search.result import Candidate, SearchResult, load_search
from search.search_cli import choose_slice, references_of, search_architecture
from search.verification_result import VERIFICATION_FILE
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture
from supernet.cli import export_model, extract_model
from supernet.corpus import CORPUS_FILE, TokenCorpus, load_corpus
from supernet.corpus_cli import PreparedCorpus, prepare
from supernet.encoder import load_encoder
from supernet.model_card import ModelCard
from supernet.model_folder import write_model_folder
from supernet.space_file import load_space
from supernet.supernet_folder import load_supernet
from supernet.tokenizer_files import read_tokenizer_files
from supernet.training_cli import train_model, train_supernet

STAGES_FILE = "stages.json"
COMPARISON_FILE = "comparison.jsonl"
MODEL_FOLDER = "model"
SHORTLIST_FILE = "shortlist.csv"

StageFunction = Callable[..., Answer]

COMMANDS: Mapping[str, StageFunction] = {
    "profile-device": profile_device,
    "fit-predictor": fit_predictor,
    "train-supernet": train_supernet,
    "search-architecture": search_architecture,
    "extract-model": extract_model,
    "train-model": train_model,
    "export-model": export_model,
    "verify-model": verify_model,
}


@dataclass(frozen=True, kw_only=True)
class PathRequest:
    """Everything that decides the whole path.

    Attributes:
        teacher: as typed: a folder, or the demo's name.
        largest: the teacher's shape.
        target: what is profiled.
        budget: what the model must meet.
        corpus: what is trained on.
        space: what is searched.
        profile: a finished profile of this machine to use instead of measuring one, or None.
        configs: shapes to profile.
        sequence_length: of the workload.
        batch_size: of the workload.
        threads: of the target.
        graph_variant: of the target.
        training_sequence_length: most tokens of a training sequence.
        max_megabytes: of text, or None for the default.
        supernet_minutes: time to train the SuperPLM.
        train_minutes: time to train the winner.
        method: of the search.
        evaluations: of the search.
        shortlist: how many of the best are measured.
        tries: how many candidates may be verified.
        seed: of everything.
    """

    teacher: str
    largest: Architecture
    target: str
    budget: Budget
    corpus: str
    space: str
    profile: Path | None
    configs: int
    sequence_length: int
    batch_size: int
    threads: int
    graph_variant: str
    training_sequence_length: int
    max_megabytes: float | None
    supernet_minutes: float
    train_minutes: float
    method: str
    evaluations: int
    shortlist: int
    tries: int
    seed: int

    @property
    def teacher_name(self) -> str:
        """What a card calls the teacher: never a path of somebody's machine."""
        return Path(self.teacher).name

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **values,
            "largest": str(self.largest),
            "budget": self.budget.to_json(),
            "profile": None if self.profile is None else str(self.profile),
        }

    def workload_options(self) -> dict[str, Any]:
        """The options that choose one workload and target of a profile."""
        return {
            "sequence_length": self.sequence_length,
            "batch_size": self.batch_size,
            "threads": self.threads,
        }

    def budget_options(self) -> dict[str, Any]:
        """The budget as options."""
        budget = self.budget
        latency = None if budget.max_latency_ms is None else f"{budget.max_latency_ms:.12g}ms"
        options: dict[str, Any] = {"max_latency": latency, "speedup": budget.min_speedup}
        if budget.min_speedup is not None:
            options["speedup_reference"] = str(budget.speedup_reference)
        return {**options, "budget_statistic": budget.statistic}


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
        """What earlier runs of the same request have cost."""
        stages = cls(path, clock_s)
        if path.exists():
            document = read_json_object(path)
            stages.seconds = {name: float(value) for name, value in document["seconds"].items()}
            stages.commands = dict(document["commands"])
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


@dataclass(frozen=True)
class Try:
    """What became of a candidate.

    Attributes:
        candidate: as the search found it.
        stage: `slice` if it failed before training, `model` after.
        verification: `verification.json` as it stands.
        folder: where its files are.
    """

    candidate: Candidate
    stage: str
    verification: Mapping[str, Any]
    folder: Path

    @property
    def outcome(self) -> str:
        """`passed`, `failed` or `undecided`."""
        return str(self.verification["outcome"])


class WholePath:
    """Works through the stages of one request in one folder.

    Args:
        out: the folder; it exists.
        request: what is asked.
        clock_s: reads seconds.
        say: told which stage begins.
        overwrite: replace what another request left; a stage that stays the same is kept.
        commands: what runs the stages, by name.
    """

    def __init__(
        self,
        out: Path,
        request: PathRequest,
        *,
        clock_s: Callable[[], float],
        say: Callable[[str], None] = lambda _: None,
        overwrite: bool = False,
        commands: Mapping[str, StageFunction] = COMMANDS,
    ) -> None:
        self._overwrite = overwrite
        self._commands = commands
        self._clock_s = clock_s
        self._prepared: PreparedCorpus | None = None
        self.out = out
        self.request = request
        self.stages = Stages.load(out / STAGES_FILE, clock_s)
        self._say = say

    @property
    def profile(self) -> Path:
        """The device profile's folder."""
        return self.request.profile or self.out / "profile"

    @property
    def corpus(self) -> Path:
        """The token corpus's folder: the one that was named, or ours."""
        named = Path(self.request.corpus)
        return named if (named / CORPUS_FILE).exists() else self.out / "corpus"

    def read_corpus(self, teacher: Path) -> TokenCorpus:
        """Reads the text and tokenises it; writes nothing, so that bad text leaves nothing behind.

        Args:
            teacher: the folder of the tokenizer.

        Raises:
            InputError: if there is no text, or too little, or `out` belongs to something else.
        """
        if self.corpus != self.out / "corpus":
            return load_corpus(self.corpus)
        started_s = self._clock_s()
        options: dict[str, Any] = {
            "sequence_length": self.request.training_sequence_length,
            "max_megabytes": self.request.max_megabytes,
        }
        typed = {"corpus": self.request.corpus, "teacher": self.request.teacher, **options}
        self.stages.commands["corpus: prepare-corpus"] = command_line(
            "prepare-corpus", **typed, out=self.corpus
        )
        arguments = (self.request.corpus, teacher, self.corpus)
        try:
            self._prepared = prepare(*arguments, **options, overwrite=False)
        except OccupiedFolderError:
            if not self._overwrite:
                raise
            self._prepared = prepare(*arguments, **options, overwrite=True)
        self.stages.add("corpus", self._clock_s() - started_s)
        return self._prepared.corpus

    def run(self) -> list[Try]:
        """Everything up to the verified model, once the corpus was read.

        Returns:
            What was verified, in order. If the last one passed, its files are in `model/`.

        Raises:
            InputError: if the budget is below what is reachable; before anything is trained.
            WorkError: if a stage failed.
        """
        self._corpus()
        self._profile()
        self._predictor()
        self._check_reachable()
        self._supernet()
        self._search()
        self._shortlist()
        self._compare()
        return self._candidates()

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Says that a stage begins, and adds what happens inside to its cost."""
        self._say(name)
        return self.stages.stage(name)

    def _call(self, stage: str, name: str, *arguments: Any, **options: Any) -> Answer:
        """Runs a command as a stage; its text form is kept for the report."""
        self.stages.commands[f"{stage}: {name}"] = command_line(name, *arguments, **options)
        function = self._commands[name]
        try:
            return function(*arguments, **options)
        except OccupiedFolderError:
            if not self._overwrite:
                raise
            return function(*arguments, **options, overwrite=True)

    def _corpus(self) -> None:
        if self._prepared is not None:
            with self.stage("corpus"):
                self._prepared.write()

    def _profile(self) -> None:
        request = self.request
        if request.profile is not None:
            return
        with self.stage("profile"):
            answer = self._call(
                "profile",
                "profile-device",
                target=request.target,
                space=request.space,
                configs=request.configs,
                within=str(request.largest),
                reference=[str(request.largest)],
                rivals=True,
                sequence_length=[request.sequence_length],
                batch_size=[request.batch_size],
                threads=[request.threads],
                graph_variant=[request.graph_variant],
                seed=request.seed,
                out=self.profile,
            )
        _require(answer, "profiling")

    def _predictor(self) -> None:
        with self.stage("predictor"):
            self._call(
                "predictor",
                "fit-predictor",
                [self.profile],
                report=True,
                seed=self.request.seed,
                out=self.out / "predictor",
            )

    def _check_reachable(self) -> None:
        """Refuses a budget that nothing meets before hours go into training."""
        request = self.request
        predictor = load_predictor(self.out / "predictor")
        part = choose_slice(
            predictor, {**request.workload_options(), "graph_variant": request.graph_variant}
        )
        feasible_set(
            load_space(request.space, hidden_step=16, ffn_step=32).clipped(request.largest),
            part,
            request.budget.limit_ms(references_of(predictor, part)),
            statistic=request.budget.statistic,
        )

    def _supernet(self) -> None:
        request = self.request
        with self.stage("supernet"):
            self._call(
                "supernet",
                "train-supernet",
                teacher=request.teacher,
                corpus=str(self.corpus),
                space=request.space,
                minutes=request.supernet_minutes,
                seed=request.seed,
                out=self.out / "supernet",
            )

    def _search(self) -> None:
        request = self.request
        with self.stage("search"):
            self._call(
                "search",
                "search-architecture",
                supernet=self.out / "supernet",
                predictor=self.out / "predictor",
                **request.budget_options(),
                **request.workload_options(),
                graph_variant=request.graph_variant,
                method=request.method,
                evaluations=request.evaluations,
                seed=request.seed,
                out=self.out / "search",
            )

    def _shortlist(self) -> None:
        """Measures the best in a campaign of their own: other processes, later, after selection."""
        request = self.request
        best = load_search(self.out / "search").ranked()[: request.shortlist]
        path = self.out / SHORTLIST_FILE
        with whole_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(ARCHITECTURE_FIELDS)
            writer.writerows(found.architecture.row for found in best)
        with self.stage("shortlist"):
            answer = self._call(
                "shortlist",
                "profile-device",
                target=request.target,
                architectures=path,
                sequence_length=[request.sequence_length],
                batch_size=[request.batch_size],
                threads=[request.threads],
                graph_variant=[request.graph_variant],
                seed=request.seed + 1,
                out=self.out / "shortlist",
            )
        _require(answer, "measuring the shortlist")

    def _compare(self) -> None:
        """Scores the shapes of the profile, too: what a search under other budgets would see."""
        with self.stage("comparison"):
            score_profile(
                load_supernet(self.out / "supernet"),
                DeviceProfile.load(self.profile),
                self.out / COMPARISON_FILE,
            )

    def _candidates(self) -> list[Try]:
        """Verifies candidates, best first, until one passes."""
        result = load_search(self.out / "search")
        tries: list[Try] = []
        for candidate in ordered_candidates(result, self.shortlist_ms())[: self.request.tries]:
            tries.append(self._try(candidate))
            if tries[-1].outcome != "failed":
                break
        self._record_tries(tries)
        if tries and tries[-1].outcome == "passed":
            self._hand_out(tries[-1])
        else:
            shutil.rmtree(self.out / MODEL_FOLDER, ignore_errors=True)
        return tries

    def shortlist_ms(self) -> dict[Architecture, float]:
        """The budget's statistic of shapes as measured after the search, where it is known."""
        measured = read_measurements(self.out / "shortlist" / LATENCIES_FILE)
        return measured_shapes(measured, measured.slices[0], self.request.budget.column)

    def _try(self, candidate: Candidate) -> Try:
        """Extracts, exports and verifies a slice; if it passes, trains it and does so again."""
        request = self.request
        folder = self.out / "candidates" / str(candidate.architecture)
        name = str(candidate.architecture)
        with self.stage("verification"):
            self._call(
                name,
                "extract-model",
                supernet=self.out / "supernet",
                architecture=name,
                out=folder / "slice",
            )
            verification = self._export_and_verify(name, folder, "slice")
        if verification["outcome"] != "passed":
            return Try(candidate, "slice", verification, folder)
        with self.stage("training"):
            self._call(
                name,
                "train-model",
                model=folder / "slice",
                minutes=request.train_minutes,
                seed=request.seed + 1,
                out=folder / "trained",
            )
        with self.stage("verification"):
            verification = self._export_and_verify(name, folder, "trained")
        return Try(candidate, "model", verification, folder)

    def _export_and_verify(self, name: str, folder: Path, form: str) -> dict[str, Any]:
        request = self.request
        self._call(
            f"{name} {form}",
            "export-model",
            model=folder / form,
            graph_variant=request.graph_variant,
            out=folder / f"{form}-exported",
        )
        self._call(
            f"{name} {form}",
            "verify-model",
            model=folder / f"{form}-exported",
            profile=self.profile,
            **request.budget_options(),
            **request.workload_options(),
            seed=request.seed,
            out=folder / f"{form}-verified",
        )
        return read_json_object(folder / f"{form}-verified" / VERIFICATION_FILE)

    def _record_tries(self, tries: list[Try]) -> None:
        write_json(
            self.out / VERIFICATION_FILE,
            {
                "budget": self.request.budget.to_json(),
                "tries": [
                    {
                        "architecture": str(found.candidate.architecture),
                        "form": found.stage,
                        "held_out_loss": found.candidate.loss,
                        "verification": dict(found.verification),
                    }
                    for found in tries
                ],
            },
        )

    def _hand_out(self, found: Try) -> None:
        """Writes the verified model once more, with its verification on the card.

        The ONNX file has the same bytes as the one that was verified, or nothing is handed out.
        """
        encoder, _ = load_encoder(found.folder / "trained")
        verification = found.verification
        temporary = self.out / f".{MODEL_FOLDER}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        written = write_model_folder(
            temporary,
            encoder,
            variant=verification["graph_variant"],
            tokenizer_files=read_tokenizer_files(found.folder / "trained"),
            card=ModelCard(
                teacher=self.request.teacher_name,
                budget=self.request.budget.describe(),
                device=device_text(DeviceProfile.load(self.profile)),
                verification=str(verification["reason"]),
            ),
        )
        assert written.onnx_sha256 == verification["model_sha256"], "another file was verified"
        shutil.copy(found.folder / "trained-verified" / VERIFICATION_FILE, temporary)
        shutil.rmtree(self.out / MODEL_FOLDER, ignore_errors=True)
        temporary.rename(self.out / MODEL_FOLDER)


def device_text(profile: DeviceProfile) -> str:
    """The machine of a profile in words."""
    host = profile.host
    return (
        f"{profile.target}: {host['cpu_model']}, {host['cpu_count']} cores, ONNX Runtime "
        f"{host['onnxruntime_version']}"
    )


def ordered_candidates(
    result: SearchResult, measured_ms: Mapping[Architecture, float]
) -> list[Candidate]:
    """The order in which candidates are verified: best first, those in doubt left out.

    One that was measured above the budget after the search would waste a try; one that was not
    measured rests on its predicted bound.
    """
    return [
        found
        for found in result.ranked()
        if measured_ms.get(found.architecture, 0.0) <= result.limit_ms
    ]


def command_line(name: str, *arguments: Any, **options: Any) -> str:
    """A command as it would be typed."""
    typed: list[str] = [name]
    for argument in arguments:
        typed += [str(one) for one in (argument if isinstance(argument, list) else [argument])]
    for option, value in options.items():
        flag = f"--{option.replace('_', '-')}"
        if value is True:
            typed.append(flag)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                typed += [flag, str(one)]
    return shlex.join(typed)


def _require(answer: Answer, what: str) -> None:
    if answer.exit_code:
        last = str(answer.text).strip().splitlines()[-1]
        raise WorkError(f"{what} failed: {last}")
