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
7. `candidates/`  best first: extracted, exported and verified; then trained, exported, verified and
                  scored as a file, and a classifier on the user's own labels
8. `model/`       the first that passed, with its `verification.json`; nothing else ever lies there

A slice is verified before it is trained, for its speed does not depend on its weights, and training
is what costs; the trained file is verified again, for that is the one that is handed out.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autotinybert.command import Answer
from autotinybert.errors import OccupiedFolderError, WorkError
from autotinybert.files import whole_file
from device_profiles.measurements import (
    read_measurements,
    rows_of_slice,
)
from device_profiles.profile import LATENCIES_FILE, DeviceProfile
from predictor.cli import fit_predictor
from predictor.model import LatencyPredictor, SlicePredictor
from predictor.store import load_predictor
from profiler.cli import profile_device
from search.candidates import (
    Try,
    hand_out,
    next_candidate,
    ordered_candidates,
    save_tries,
    slack_lost,
    withdraw,
)
from search.card_facts import card_of
from search.cli import verify_model
from search.comparison import measured_shapes, read_scores, score_profile
from search.confidence import percentile_of
from search.constraints import Budget
from search.graph_choice import graph_variant_of
from search.path_request import PathRequest
from search.profiled_as import options_as_of
from search.result import Candidate, SearchResult, load_search
from search.search_cli import search_architecture
from search.searching import choose_slice, feasible_under, searched_lattice
from search.stages import STAGES_FILE, Stages, command_line
from search.task_scores import score_task
from search.verification_result import VERIFICATION_FILE, load_verification
from supernet.architecture import ARCHITECTURE_FIELDS, Architecture, to_matrix
from supernet.cli import export_model, extract_model
from supernet.corpus import CORPUS_FILE, TokenCorpus, load_corpus
from supernet.corpus_cli import PreparedCorpus, prepare, prepare_task
from supernet.huggingface import BertFolder
from supernet.supernet_folder import load_supernet
from supernet.train_model_cli import train_model
from supernet.training_cli import train_supernet
from supernet.training_request import DEFAULT_SEQUENCE_LENGTH
from supernet.variants import GraphVariant

SHORTLIST_FILE = "shortlist.csv"
COMPARISON_FILE = "comparison.jsonl"

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


class WholePath:
    """Works through the stages of one request in one folder.

    Args:
        out: the folder; it exists.
        request: what is asked.
        clock_s: reads seconds.
        say: told which stage begins.
        fresh: begin the account of costs anew: what is there is another request's.
        overwrite: replace what another request left; a stage that stays the same is kept.
        commands: what runs the stages, by name.
        whole: the path that this one is a part of: text, profile, predictor and SuperPLM are its.
    """

    def __init__(
        self,
        out: Path,
        request: PathRequest,
        *,
        clock_s: Callable[[], float],
        say: Callable[[str], None] = lambda _: None,
        fresh: bool = False,
        overwrite: bool = False,
        commands: Mapping[str, StageFunction] = COMMANDS,
        whole: WholePath | None = None,
    ) -> None:
        self._overwrite = overwrite
        self._commands = commands
        self._clock_s = clock_s
        self._prepared: PreparedCorpus | None = None
        self.out = out
        self.shared = out if whole is None else whole.out
        self.stages: Stages
        self.request = request
        if whole is not None:
            self.stages = whole.stages
        elif fresh:
            self.stages = Stages(out / STAGES_FILE, clock_s)
        else:
            self.stages = Stages.load(out / STAGES_FILE, clock_s)
        self._say = say

    @property
    def profile(self) -> Path:
        """The device profile's folder."""
        return self.request.profile or self.shared / "profile"

    @property
    def corpus(self) -> Path:
        """The token corpus's folder: the one that was named, or ours."""
        named = Path(self.request.corpus)
        is_ready = self.request.task is None and (named / CORPUS_FILE).exists()
        return named if is_ready else self.shared / "corpus"

    @property
    def predictor(self) -> Path:
        """The predictor's folder."""
        return self.shared / "predictor"

    @property
    def supernet(self) -> Path:
        """The SuperPLM's folder."""
        return self.shared / "supernet"

    def read_corpus(self, teacher: Path) -> TokenCorpus:
        """Reads the text and tokenises it; writes nothing, so that bad text leaves nothing behind.

        Args:
            teacher: the folder of the tokenizer.

        Raises:
            InputError: if there is no text, or too little, or `out` belongs to something else.
        """
        if self.corpus != self.shared / "corpus":
            return load_corpus(self.corpus)
        started_s = self._clock_s()
        options: dict[str, Any] = {
            "sequence_length": self.request.training_sequence_length or DEFAULT_SEQUENCE_LENGTH,
            "max_megabytes": self.request.max_megabytes,
        }
        source: dict[str, Any] = {"corpus": self.request.corpus}
        reader: Callable[..., PreparedCorpus] = prepare
        if self.request.task is not None:
            source = self.request.task_options()
            options = {"sequence_length": self.request.training_sequence_length}
            reader = prepare_task
        typed = {**source, "teacher": self.request.teacher, **options}
        self.stages.commands["corpus: prepare-corpus"] = command_line(
            "prepare-corpus", **typed, out=self.corpus
        )
        arguments = (*source.values(), teacher, self.corpus)
        try:
            self._prepared = reader(*arguments, **options, overwrite=False)
        except OccupiedFolderError:
            if not self._overwrite:
                raise
            self._prepared = reader(*arguments, **options, overwrite=True)
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
        self.measure()
        self.check_reachable()
        self.train()
        tries = self.find()
        self.hand_out(tries)
        return tries

    def part(self, name: str, budget: Budget) -> WholePath:
        """A path under another budget, in a folder of its own, that shares what this one made."""
        return WholePath(
            self.out / name,
            dataclasses.replace(self.request, budget=budget),
            clock_s=self._clock_s,
            say=self._say,
            overwrite=self._overwrite,
            commands=self._commands,
            whole=self,
        )

    def measure(self) -> None:
        """Writes the text, measures the device and fits the predictor."""
        self._corpus()
        self._profile()
        self._predictor()

    def train(self) -> None:
        """Trains the SuperPLM."""
        self._supernet()

    def find(self) -> list[Try]:
        """Searches under the budget, and verifies what was found until one passes."""
        self.out.mkdir(exist_ok=True)
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
        references = dict.fromkeys([request.largest, request.budget.speedup_reference])
        options: dict[str, Any] = {
            "target": request.target,
            "space": request.space,
            "configs": request.configs,
            "within": str(request.largest),
            "reference": [str(shape) for shape in references],
            "rivals": True,
            **self._measured(request.graph_variant),
            **self._percentile(),
            "seed": request.seed,
            "out": self.profile,
        }
        with self.stage("profile"):
            answer = self._call("profile", "profile-device", **options)
            if answer.exit_code and answer.data["finished_before"]:
                # Nothing of it can be used: it is not kept as the profile for ever.
                answer = self._call("profile", "profile-device", **options, overwrite=True)
        if answer.exit_code:
            raise WorkError(
                f"no row of {self.profile} is ok ({answer.data['rows']}): the machine is too busy "
                "to be measured; stop other work and run the same command again"
            )

    def _percentile(self) -> dict[str, int]:
        """A budget on a high percentile needs more runs than a campaign makes by itself."""
        percentile = percentile_of(self.request.budget.statistic)
        return {} if percentile in (None, 50) else {"percentile": int(percentile or 50)}

    @cached_property
    def graph_variant(self) -> GraphVariant:
        """The variant that ships, once the device was profiled."""
        return graph_variant_of(DeviceProfile.load(self.profile), self.request)

    def _measured(self, graph_variant: str) -> dict[str, Any]:
        """The options of a campaign that say what a row is measured under."""
        request = self.request
        return {
            "sequence_length": [request.sequence_length],
            "batch_size": [request.batch_size],
            "threads": [request.threads],
            "precision": [request.precision],
            "graph_variant": [graph_variant],
        }

    def _predictor(self) -> None:
        with self.stage("predictor"):
            self._call(
                "predictor",
                "fit-predictor",
                [self.profile],
                report=True,
                baselines="quick",
                seed=self.request.seed,
                out=self.predictor,
            )

    def check_reachable(self) -> None:
        """Refuses a budget that nothing meets before hours go into training."""
        request = self.request
        predictor = load_predictor(self.predictor)
        part = self._slice_of(predictor)
        budget = request.budget
        feasible_under(
            request.method,
            searched_lattice(request.space, request.largest),
            part,
            budget,
            budget.limit_ms(rows_of_slice(predictor.references, part.slice)),
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
                objective=request.objective,
                minutes=request.supernet_minutes,
                seed=request.seed,
                out=self.supernet,
            )

    def _search(self) -> None:
        request = self.request
        with self.stage("search"):
            self._call(
                "search",
                "search-architecture",
                supernet=self.supernet,
                predictor=self.predictor,
                **request.budget_options(),
                **request.workload_options(),
                precision=request.precision,
                graph_variant=self.graph_variant,
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
        # Where the machine is too busy to measure them, their predictions have to do.
        with self.stage("shortlist"):
            self._call(
                "shortlist",
                "profile-device",
                target=request.target,
                architectures=path,
                **self._measured(self.graph_variant),
                **options_as_of(DeviceProfile.load(self.profile)),
                seed=request.seed + 1,
                out=self.out / "shortlist",
            )

    def _compare(self) -> None:
        """Scores the shapes of the profile, too: what a search under other budgets would see."""
        with self.stage("comparison"):
            score_profile(
                load_supernet(self.supernet),
                DeviceProfile.load(self.profile),
                self.shared / COMPARISON_FILE,
            )

    def _candidates(self) -> list[Try]:
        """Verifies candidates, best first, until one passes or the machine is not to be judged."""
        result = load_search(self.out / "search")
        candidates = [*result.candidates, *self._profiled_candidates(result)]
        ordered = ordered_candidates(candidates, self.shortlist_ms(), result.limit_ms)
        tries: list[Try] = []
        lost = 1.0
        while ordered and len(tries) < self.request.tries:
            candidate = next_candidate(ordered, lost, result.limit_ms)
            ordered.remove(candidate)
            tries.append(self._try(candidate))
            if tries[-1].outcome != "failed":
                break
            lost = max(lost, slack_lost(tries[-1], result.limit_ms))
        save_tries(self.out / VERIFICATION_FILE, self.request.budget, tries)
        return tries

    def hand_out(self, tries: Sequence[Try]) -> None:
        """Puts the model that passed in place, or takes away one that is there if none did."""
        if tries and tries[-1].outcome == "passed":
            hand_out(self.shared, tries[-1], card_of(self, tries[-1]))
        else:
            withdraw(self.shared)

    def _profiled_candidates(self, result: SearchResult) -> list[Candidate]:
        """The shapes of the profile, which were scored as well: the best of them may be the best.

        The gate is the same: their predicted upper bound.
        """
        scores = read_scores(self.shared / COMPARISON_FILE)
        part = self._slice_of(load_predictor(self.predictor))
        if not scores:
            return []
        shapes = to_matrix([found.architecture for found in scores])
        inside = np.ones(len(shapes), dtype=bool)
        inside[part.out_of_range(shapes)] = False
        known = [found for found, answers in zip(scores, inside, strict=True) if answers]
        predicted = part.predict(shapes[inside], result.statistic)
        return [
            Candidate(found, float(latency_ms), float(high_ms))
            for found, latency_ms, high_ms in zip(
                known, predicted.latency_ms, predicted.safe_ms, strict=True
            )
        ]

    def _slice_of(self, predictor: LatencyPredictor) -> SlicePredictor:
        """The part of a predictor for the workload and target that is asked for."""
        return choose_slice(
            predictor,
            {
                **self.request.workload_options(),
                "precision": self.request.precision,
                "graph_variant": self.graph_variant,
            },
        )

    def _teacher(self) -> BertFolder:
        """The teacher, which the SuperPLM knows."""
        found = load_supernet(self.supernet).origin.read_teacher()
        assert found is not None
        return found

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
                supernet=self.supernet,
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
        if request.task is not None and verification["outcome"] == "passed":
            with self.stage("scores"):
                score_task(request, self._teacher(), load_corpus(self.corpus), folder)
        return Try(candidate, "model", verification, folder)

    def _export_and_verify(self, name: str, folder: Path, form: str) -> dict[str, Any]:
        """Exports and verifies a form of a candidate; returns its `verification.json`."""
        request = self.request
        self._call(
            f"{name} {form}",
            "export-model",
            model=folder / form,
            graph_variant=self.graph_variant,
            precision=request.precision,
            out=folder / f"{form}-exported",
        )
        answer = self._call(
            f"{name} {form}",
            "verify-model",
            model=folder / f"{form}-exported",
            profile=self.profile,
            **request.budget_options(),
            **request.workload_options(),
            score_with=folder / form if form == "trained" else None,
            max_wait=request.max_wait,
            seed=request.seed,
            out=folder / f"{form}-verified",
        )
        document = load_verification(folder / f"{form}-verified")
        for key in ("outcome", "model_sha256"):
            if document[key] != answer.data[key]:
                raise WorkError(
                    f"{folder / f'{form}-verified'} says {key} {document[key]}, but its journal "
                    f"{answer.data[key]}: remove that folder and run the same command again"
                )
        return document
