from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.command import run_command
from device_profiles.measurements import architecture_columns
from device_profiles.table import read_table
from device_profiles.target import Target, Workload
from predictor.cli import fit_predictor
from predictor.store import load_predictor
from profiler.host import host_facts
from search.result import load_search
from search.search_cli import search_architecture
from search.searching import searched_space
from supernet.architecture import from_matrix, to_matrix
from supernet.learner import Learner
from supernet.model import SuperPLM
from supernet.space import kd_space
from supernet.space_file import space_document
from supernet.supernet_folder import load_supernet

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def predictor(
    tmp_path_factory: pytest.TempPathFactory, make_profile_in: Callable[..., Path]
) -> Path:
    """A predictor of this machine."""
    folder = tmp_path_factory.mktemp("this-machine")
    fit_predictor([make_profile_in(folder, host=host_facts())], out=folder / "predictor")
    return folder / "predictor"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command; returns its exit code, stdout and stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(search_architecture, "search-architecture", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def search(run: Cli, supernet_folder: Path, predictor: Path, tmp_path: Path) -> Cli:
    """Runs the command with the usual folders; what a test says comes after them."""

    def search(
        *argv: object,
        supernet: Path = supernet_folder,
        predictor: Path = predictor,
        out: Path = tmp_path / "out",
    ) -> tuple[int, str, str]:
        folders = ("--supernet", supernet, "--predictor", predictor, "--out", out)
        return run(*folders, "--sequences", 4, *argv)

    return search


BUDGET = ("--max-latency", "1.5ms")


def without_times(folder: Path) -> dict[str, Any]:
    """What a search found, less how long it took."""
    document: dict[str, Any] = json.loads((folder / "search.json").read_text())
    for candidate in document["candidates"]:
        del candidate["seconds"]
    del document["facts"]["elapsed_s"], document["sha256"]
    return document


def test_a_search_finds_the_best_slice_within_the_budget(
    search: Cli, predictor: Path, supernet_folder: Path, tmp_path: Path
) -> None:
    code, text, error = search(*BUDGET, "--evaluations", 30)
    assert (code, error) == (0, "")
    assert "architectures of space kd meet p50 of at most 1.5 ms" in text
    assert "evolved: 30 evaluated in" in text
    assert "stopped: 30 evaluations" in text
    assert f"wrote {tmp_path / 'out'}" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "search.json",
        "evaluations.csv",
        "evaluations.jsonl",
        "request.json",
    }
    result = load_search(tmp_path / "out")
    shapes = [found.architecture for found in result.candidates]
    assert len(set(shapes)) == 30
    space = searched_space(load_supernet(supernet_folder), None)
    assert all(shape in space for shape in shapes)
    (part,) = load_predictor(predictor).slices
    bounds = part.predict(to_matrix(shapes), "p50").safe_ms
    assert [found.high_ms for found in result.candidates] == pytest.approx(bounds.tolist())
    assert bounds.max() <= result.limit_ms == 1.5
    assert result.ranked()[0].loss == min(found.loss for found in result.candidates)
    assert str(result.ranked()[0].architecture) in text
    table = read_table(tmp_path / "out" / "evaluations.csv")
    assert from_matrix(architecture_columns(table)) == shapes


def test_json_is_one_object_with_the_best(search: Cli, tmp_path: Path) -> None:
    code, text, _ = search(*BUDGET, "--evaluations", 5, "--json")
    assert code == 0
    answer = json.loads(text)
    best = load_search(tmp_path / "out").ranked()[0]
    assert answer["best"] == str(best.architecture)
    assert answer["held_out_loss"] == best.loss
    assert answer["predicted_ms"] <= answer["predicted_high_ms"] <= answer["limit_ms"] == 1.5
    assert answer["statistic"] == "p50"
    assert answer["evaluations"] == 5
    assert answer["unverified"] is False
    assert answer["finished_before"] is False
    assert 0 < answer["feasible"] < answer["space_size"]


def test_a_finished_search_answers_at_once_without_scoring(
    search: Cli, teacher_folder: Path, tmp_path: Path
) -> None:
    assert search(*BUDGET, "--evaluations", 5)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    hidden = teacher_folder.with_name("hidden")
    teacher_folder.rename(hidden)  # nothing could be scored now
    try:
        code, text, _ = search(*BUDGET, "--evaluations", 5)
        assert (code, "was searched before; nothing was written" in text) == (0, True)
        code, text, _ = search(*BUDGET, "--evaluations", 5, "--json")
        assert (code, json.loads(text)["finished_before"]) == (0, True)
        code, _, error = search(*BUDGET, "--evaluations", 5, out=tmp_path / "other")
        assert (code, error.count("\n")) == (2, 1)
        assert f"no teacher folder {teacher_folder}" in error
        assert not (tmp_path / "other").exists()
    finally:
        hidden.rename(teacher_folder)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def interrupt(folder: Path, *, lines: int, torn: bytes = b"") -> None:
    """Leaves a finished search as it lay after some of its evaluations."""
    journal = folder / "evaluations.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]) + torn)
    (folder / "search.json").unlink()
    (folder / "evaluations.csv").unlink()
    request = json.loads((folder / "request.json").read_text())
    (folder / "request.json").write_text(json.dumps({**request, "status": "unfinished"}))


@pytest.mark.parametrize("lines", [0, 1, 11, 20, 30])
def test_a_search_that_was_interrupted_goes_on_to_the_same_result(
    search: Cli, tmp_path: Path, lines: int
) -> None:
    out = tmp_path / "out"
    assert search(*BUDGET, "--evaluations", 30)[0] == 0
    unbroken = without_times(out)
    journal = (out / "evaluations.jsonl").read_bytes().splitlines()
    interrupt(out, lines=lines, torn=b'{"kind":"evalu')
    assert search(*BUDGET, "--evaluations", 30)[0] == 0
    assert without_times(out) == unbroken
    resumed = (out / "evaluations.jsonl").read_bytes().splitlines()
    assert resumed[:lines] == journal[:lines]
    assert len(resumed) == len(journal) == 30


def test_a_damaged_journal_is_refused(search: Cli, tmp_path: Path) -> None:
    assert search(*BUDGET, "--evaluations", 5)[0] == 0
    interrupt(tmp_path / "out", lines=4)
    journal = tmp_path / "out" / "evaluations.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"evaluation"', b'"evaluatiom"', 1))
    code, _, error = search(*BUDGET, "--evaluations", 5)
    assert (code, error.count("\n")) == (2, 1)
    assert "evaluations.jsonl line 1 is torn or edited" in error


def test_a_damaged_result_is_refused_and_made_anew_on_request(search: Cli, tmp_path: Path) -> None:
    assert search(*BUDGET, "--evaluations", 5)[0] == 0
    path = tmp_path / "out" / "search.json"
    whole = without_times(tmp_path / "out")
    path.write_text(path.read_text().replace("1.5", "2.5"))
    code, _, error = search(*BUDGET, "--evaluations", 5)
    assert code == 2
    assert "search.json is torn, truncated or edited: search again with" in error
    assert search(*BUDGET, "--evaluations", 5, "--overwrite")[0] == 0
    assert without_times(tmp_path / "out") == whole


def test_another_request_is_refused_or_overwrites(search: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert search(*BUDGET, "--evaluations", 5)[0] == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    changes: tuple[tuple[object, ...], ...] = (
        ("--evaluations", 6),
        ("--evaluations", 5, "--seed", 1),
        ("--evaluations", 5, "--method", "random"),
        ("--evaluations", 5, "--sequences", 5),
        ("--evaluations", 5, "--max-latency", "1.6ms"),
        ("--evaluations", 5, "--budget-statistic", "quiet"),
    )
    for change in changes:
        code, _, error = search(*BUDGET, *change)
        assert (code, "different request" in error) == (2, True)
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert search(*BUDGET, "--evaluations", 6, "--overwrite")[0] == 0
    assert len(load_search(out).candidates) == 6
    assert len((out / "evaluations.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("method", ["random", "evolved"])
def test_a_search_ends_when_every_feasible_shape_was_evaluated(
    search: Cli, tmp_path: Path, method: str
) -> None:
    """The optimum is then the same, whatever proposes."""
    budget = ("--max-latency", "0.9ms")
    code, text, _ = search(*budget, "--evaluations", 5000, "--method", method, "--json")
    assert code == 0
    answer = json.loads(text)
    assert answer["stopped"] == "every feasible architecture was evaluated"
    assert answer["evaluations"] == answer["feasible"]
    other = search(*budget, "--evaluations", 4999, "--json", "--seed", 3, out=tmp_path / "other")
    assert json.loads(other[1])["best"] == answer["best"]


def test_fast_evaluates_only_what_its_rule_allows(search: Cli, tmp_path: Path) -> None:
    code, text, _ = search(*BUDGET, "--method", "fast", "--evaluations", 1000, "--json")
    assert code == 0
    assert json.loads(text)["stopped"] == "every feasible architecture was evaluated"
    for found in load_search(tmp_path / "out").candidates:
        _, hidden, ffn, _, qkv = found.architecture.row
        assert 1.6 * hidden <= ffn <= 1.9 * hidden
        assert 0.7 * hidden <= qkv <= hidden


def test_a_speed_up_is_counted_against_the_reference_that_was_measured(
    search: Cli, predictor: Path
) -> None:
    code, text, _ = search("--speedup", 150, "--evaluations", 5, "--json")
    assert code == 0
    (bert_base,) = (
        row for row in load_predictor(predictor).references if row["name"] == "BERT-base"
    )
    assert json.loads(text)["limit_ms"] == pytest.approx(bert_base["p50_ms"] / 150)


def test_a_predictor_of_no_known_machine_gives_an_unverified_result(
    search: Cli, csv_predictor: Path, tmp_path: Path
) -> None:
    options = (*BUDGET, "--evaluations", 5)
    code, text, error = search(*options, predictor=csv_predictor)
    assert (code, error) == (1, "")
    assert "unverified: the predictor was fitted to a bare CSV file" in text
    assert load_search(tmp_path / "out").facts["unverified"] is True
    assert search(*options, predictor=csv_predictor)[0] == 1
    code, text, _ = search(*options, "--allow-unverified", "--json", predictor=csv_predictor)
    assert code == 0
    assert json.loads(text)["unverified"] is True


def test_a_predictor_of_another_machine_is_refused_by_field_unless_it_is_meant(
    search: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    fit_predictor([make_profile()], out=tmp_path / "predictor")
    options = (*BUDGET, "--evaluations", 5)
    code, _, error = search(*options, predictor=tmp_path / "predictor")
    assert (code, error.count("\n")) == (2, 1)
    assert "was made for another machine than this one (" in error
    assert "cpu_model Test CPU / " in error
    assert "--other-device" in error
    assert not (tmp_path / "out").exists()
    assert search(*options, "--other-device", predictor=tmp_path / "predictor")[0] == 0
    assert load_search(tmp_path / "out").facts["unverified"] is False


def test_a_predictor_of_an_emulator_is_refused_unless_asked_for_and_then_stamped(
    search: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    predictor = tmp_path / "predictor"
    profile = make_profile(host={**host_facts(), "emulated": True})
    fit_predictor([profile], out=predictor, allow_emulated=True)
    # --other-device is for a device; an emulator is none.
    options = (*BUDGET, "--evaluations", 5, "--other-device")
    code, _, error = search(*options, predictor=predictor)
    assert (code, error.count("\n")) == (2, 1)
    assert "under an emulator" in error
    assert "--allow-emulated" in error
    assert not (tmp_path / "out").exists()
    code, text, _ = search(*options, "--allow-emulated", predictor=predictor)
    assert (code, "an emulator was measured, and not the device" in text) == (0, True)
    assert load_search(tmp_path / "out").facts["emulated"] is True
    code, text, _ = search(*options, "--allow-emulated", "--json", predictor=predictor)
    assert (code, json.loads(text)["emulated"]) == (0, True)


def test_of_several_workloads_one_is_chosen(
    search: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    profile = make_profile(host=host_facts(), workloads=[Workload(1, 32), Workload(1, 128)])
    predictor = tmp_path / "predictor"
    fit_predictor([profile], out=predictor)
    options = (*BUDGET, "--evaluations", 5)
    code, _, error = search(*options, predictor=predictor)
    assert (code, error.count("\n")) == (2, 1)
    assert "several workloads or targets were profiled (" in error
    assert "choose one with --sequence-length" in error
    code, _, error = search(*options, "--sequence-length", 64, predictor=predictor)
    assert (code, error.count("\n")) == (2, 1)
    assert "sequence_length 64 was not profiled; this predictor has" in error
    assert not (tmp_path / "out").exists()
    feasible = {}
    for tokens in (32, 128):
        out = tmp_path / str(tokens)
        chosen = ("--sequence-length", tokens, "--json")
        code, text, _ = search(*options, *chosen, predictor=predictor, out=out)
        assert code == 0
        assert json.loads(text)["slice"]["sequence_length"] == tokens
        feasible[tokens] = json.loads(text)["feasible"]
    assert feasible[32] > feasible[128]


def test_of_several_precisions_one_is_chosen(
    search: Cli, make_profile: Callable[..., Path], tmp_path: Path
) -> None:
    targets = [Target(), Target(precision="int8")]
    profile = make_profile(host=host_facts(), targets=targets)
    predictor = tmp_path / "predictor"
    fit_predictor([profile], out=predictor)
    options = (*BUDGET, "--evaluations", 3)
    code, _, error = search(*options, predictor=predictor)
    assert (code, error.count("\n")) == (2, 1)
    assert "--precision or --graph-variant" in error
    code, _, error = search(*options, "--precision", "fp16", predictor=predictor)
    assert (code, error.count("\n")) == (2, 1)
    assert "precision fp16 was not profiled" in error
    code, text, _ = search(*options, "--precision", "int8", "--json", predictor=predictor)
    assert code == 0
    assert json.loads(text)["slice"]["precision"] == "int8"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-latency", "12"), "--max-latency 12 has no unit: write 12ms"),
        (("--max-latency", "-1ms"), "is no latency"),
        ((), "give a budget: either --max-latency 12ms or --speedup 7"),
        (("--max-latency", "12ms", "--speedup", 7), "give a budget: either"),
        (("--speedup", "nan"), "is no budget"),
        (("--speedup", 7, "--speedup-reference", "BERT"), "'BERT' is no architecture"),
        (("--speedup", 7, "--speedup-reference", "4-312-1200-12-312"), "is no reference"),
        (("--max-latency", "1us"), "nothing in space kd meets 0.001 ms: the lowest p50 latency"),
        (("--speedup", 1e6), "nothing in space kd meets"),
        ((*BUDGET, "--method", "paper"), "no --method 'paper': use evolved, random, fast"),
        ((*BUDGET, "--budget-statistic", "p95"), "p95 was not measured"),
        ((*BUDGET, "--budget-statistic", "mean"), "no budget statistic 'mean'"),
        (("--speedup", 7, "--budget-statistic", "p95"), "the profile has no p95 of BERT-base"),
        ((*BUDGET, "--threads", 4), "threads 4 was not profiled; this predictor has"),
        ((*BUDGET, "--space", "mlm"), "holds no shape of space mlm: head size begins at 64"),
        ((*BUDGET, "--space", "hf-native"), "slices have 1, 2, 3"),
        ((*BUDGET, "--space", "bert"), "no space 'bert': use kd, mlm, hf-native"),
        ((*BUDGET, "--evaluations", 0), "--evaluations"),
        ((*BUDGET, "--sequences", 0), "--sequences"),
        ((*BUDGET, "--seed", -1), "--seed"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    search: Cli, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    code, text, error = search(*options)
    assert (code, text) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    code, text, _ = search(*options, "--json")
    assert code == 2
    assert message in json.loads(text)["error"]


AXES = {
    "num_layers": [1, 2],
    "hidden_size": [128, 160],
    "ffn_size": [128, 192],
    "num_heads": [12],
    "qkv_size": [180],
}


def write_space(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**AXES, **changes}))
    return path


def test_a_space_of_ones_own_is_searched_as_it_is(search: Cli, tmp_path: Path) -> None:
    space = write_space(tmp_path / "mine.json", ffn_size={"min": 128, "max": 4096, "step": 8})
    code, text, _ = search(*BUDGET, "--space", space, "--evaluations", 5, "--json")
    assert code == 0
    answer = json.loads(text)
    assert answer["space"] == "mine"
    assert answer["space_size"] == 2 * 2 * len(range(128, 321, 8))  # as far as the SuperPLM goes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": [256, 512]}, "holds no shape of space mine: hidden_size begins at 256"),
        ({"num_layers": [12]}, "holds no shape of space mine: num_layers begins at 12"),
        ({"num_heads": [4], "qkv_size": [60]}, "slices have 4 heads, the teacher 12"),
        ({"num_heads": [6, 12]}, "slices have 6, 12 heads, the teacher 12"),
        ({"ffn_size": []}, "ffn_size has no value"),
        ({"hidden_size": [16, 32]}, "the predictor answers for nothing in space mine"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(
    search: Cli, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    space = write_space(tmp_path / "mine.json", **changes)
    code, _, error = search(*BUDGET, "--space", space)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_space_of_ours_is_searched_in_the_published_steps(supernet_folder: Path) -> None:
    supernet = load_supernet(supernet_folder)
    largest = supernet.model.config.largest
    coarse = kd_space(hidden_step=16, ffn_step=32).clipped(largest)
    assert searched_space(supernet, None) == searched_space(supernet, "kd") == coarse
    assert supernet.space.size > coarse.size


def test_a_space_of_anothers_that_has_the_name_of_ours_is_not_taken_for_it(
    supernet_folder: Path,
) -> None:
    supernet = load_supernet(supernet_folder)
    for own in (
        dataclasses.replace(supernet.space, ffn_sizes=(128, 136)),
        dataclasses.replace(supernet.space, hidden_sizes=(64, 96)),  # ours has none so small
    ):
        config = dataclasses.replace(
            supernet.model.config,
            largest=dataclasses.replace(
                supernet.model.config.largest, hidden_size=own.hidden_sizes[-1]
            ),
        )
        small = dataclasses.replace(supernet, space=own, learner=Learner(SuperPLM(config)))
        found = searched_space(small, None)
        assert space_document(found) == space_document(own)


@pytest.mark.parametrize(
    ("which", "file", "damage", "message"),
    [
        ("supernet", None, None, "no finished SuperPLM in"),
        ("supernet", "supernet.json", None, "no finished SuperPLM in"),
        ("supernet", "supernet.safetensors", None, "cannot read"),
        ("supernet", "supernet.json", b"{", "is not valid JSON"),
        ("supernet", "supernet.safetensors", b"\0" * 100, "is not as it was written"),
        ("predictor", None, None, "no predictor in"),
        ("predictor", "predictor.json", None, "no predictor in"),
        ("predictor", "predictor.json", b"{}", "is no latency predictor"),
    ],
)
def test_a_folder_that_is_missing_unfinished_or_damaged_is_refused(
    search: Cli,
    supernet_folder: Path,
    predictor: Path,
    tmp_path: Path,
    which: str,
    file: str | None,
    damage: bytes | None,
    message: str,
) -> None:
    folder = tmp_path / which
    if file is not None:
        shutil.copytree({"supernet": supernet_folder, "predictor": predictor}[which], folder)
        if damage is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(damage)
    code, _, error = search(*BUDGET, "--evaluations", 2, **{which: folder})
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(search: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    code, _, error = search(*BUDGET)
    assert (code, "other files (thesis.tex)" in error) == (2, True)
    (tmp_path / "file").write_text("")
    code, _, error = search(*BUDGET, out=tmp_path / "file")
    assert (code, "is a file: name a folder" in error) == (2, True)
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "file", "thesis.tex"}


def test_the_folders_that_are_searched_with_are_not_written_to(
    search: Cli, supernet_folder: Path, predictor: Path
) -> None:
    for folder in (supernet_folder, predictor):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for overwrite in ((), ("--overwrite",)):
            code, _, error = search(*BUDGET, *overwrite, out=folder)
            assert (code, "is what is searched" in error) == (2, True)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
