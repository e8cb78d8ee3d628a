"""Lengths of a user's texts: the file, and `profile-device --lengths-from` end to end."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotinybert.command import run_command
from autotinybert.errors import InputError
from device_profiles.profile import DeviceProfile
from profiler.cli import profile_device
from profiler.host import host_facts
from profiler.length_file import MAX_LINE_BYTES, count_lengths
from profiler.workload_options import lengths_of

TARGET = {"x86_64": "cpu-x86", "aarch64": "cpu-arm"}[host_facts()["machine"]]

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*argv: object) -> tuple[int, str, str]:
        code = run_command(profile_device, "profile-device", [str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def words(texts: list[str]) -> list[int]:
    """A tokenizer that makes a token of each word, and two around them."""
    return [len(text.split()) + 2 for text in texts]


def counted(path: Path, *, texts: bool = False) -> tuple[dict[int, int], int]:
    counts, cut = count_lengths(path, words if texts else None)
    return {length: int(counts[length]) for length in counts.nonzero()[0].tolist()}, cut


def file_of(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "texts.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("12\n7\n12\n", ({7: 1, 12: 2}, 0)),
        ("\ufeff12\r\n\r\n 7 \r\n12", ({7: 1, 12: 2}, 0)),
        ("512\n513\n90000\n", ({512: 3}, 2)),
        ("length\n5\n", ({5: 1}, 0)),
        ("id, length,text\n1,5,hello\n2, 6 ,x\n", ({5: 1, 6: 1}, 0)),
        ('text,length\n"a, b",5\n', ({5: 1}, 0)),
    ],
)
def test_lengths_are_read_one_a_line_or_from_a_column(
    tmp_path: Path, content: str, expected: tuple[dict[int, int], int]
) -> None:
    assert counted(file_of(tmp_path, content)) == expected


def test_texts_are_counted_in_tokens_and_cut_at_the_longest(tmp_path: Path) -> None:
    path = file_of(tmp_path, "one two\n\n   \nüber uns\n" + "word " * 600 + "\n")
    assert counted(path, texts=True) == ({4: 2, 512: 1}, 1)


def test_a_file_is_never_held_whole(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a b c\n" * 5000)
    most = 0

    def watched(texts: list[str]) -> list[int]:
        nonlocal most
        most = max(most, len(texts))
        return words(texts)

    counts, _ = count_lengths(path, watched)
    assert int(counts[5]) == 5000
    assert most == 1000


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no"),
        ("\n\n  \n", "holds no"),
        (b"5\n\xff\xfe\n", r"line 2 is not UTF-8 text: save the file as UTF-8"),
        (b"5\n" + b"7" * (MAX_LINE_BYTES + 1), "line 2 is longer than 1 MiB: put one text on a"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, message: str, *, texts: bool
) -> None:
    with pytest.raises(InputError, match=message):
        counted(file_of(tmp_path, content), texts=texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5\nx\n", "line 2: 'x' is no length"),
        ("5\n0\n", "line 2: '0' is no length"),
        ("5\n-3\n", "line 2: '-3' is no length"),
        ("5\n1e3\n", "line 2: '1e3' is no length"),
        ("5\n" + "9" * 5000, "line 2: '9+' is no length"),
        ("Good morning\n", "line 1 is neither a length nor the header .* or --tokenizer if these"),
        ("tokens,id\n5,1\n", "neither a length nor the header of a CSV file with a column length"),
        ("length\n", "holds no lengths"),
        ("id,length\n1\n", "line 2: '' is no length"),
        ("id,length\n1,2\n\n3,x\n", "line 4: 'x' is no length"),
        ('id,length\n1,2\n"3,4\n', "line 3 is not valid CSV"),
        ('length,text\n5,"' + "x" * 200_000 + '"\n', "line 2 is not valid CSV"),
    ],
)
def test_a_line_that_is_no_length_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        counted(file_of(tmp_path, content))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "absent", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"cannot read {path}: {why}"):
            count_lengths(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = file_of(tmp_path_factory.mktemp("bytes"), content)
    for tokenize in (None, words):
        try:
            counts, cut = count_lengths(path, tokenize)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017 (either outcome is right)
        else:
            assert 0 <= cut <= counts.sum() <= len(content)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "##s"]) + "\n")
    return path


def test_a_tokenizer_is_a_folder_or_one_of_its_files(tmp_path: Path, vocabulary: Path) -> None:
    path = file_of(tmp_path, "good goods\n" + "good " * 12 + "\n")
    for tokenizer in (vocabulary, vocabulary.parent):
        found = lengths_of(path, tokenizer=tokenizer, num_lengths=None, sequence_length=None)
        assert found is not None
        assert found.counts == {8: 1, 16: 1}
        assert found.tokens == (2 + 3) + (2 + 12)
    with pytest.raises(InputError, match="no tokenizer in"):
        lengths_of(path, tokenizer=tmp_path, num_lengths=None, sequence_length=None)


@pytest.mark.slow
def test_a_profile_for_lengths_with_footprints_and_lasting_loads(cli: Cli, tmp_path: Path) -> None:
    shapes = tmp_path / "shapes.csv"
    with shapes.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("num_layers", "hidden_size", "ffn_size", "num_heads", "qkv_size"))
        writer.writerow((1, 16, 32, 2, 24))
    lengths = file_of(tmp_path, "3\n4\n4\n14\n")
    out = tmp_path / "profile"
    options = (
        *("--target", TARGET, "--architectures", shapes, "--out", out, "--json"),
        *("--lengths-from", lengths, "--num-lengths", 2, "--footprint", "all", "--sustained", 0.05),
    )
    code, text, _ = cli(*options)
    assert code == 0
    answer = json.loads(text)
    assert answer["lengths"]["counts"] == {"8": 3, "16": 1}
    profile = DeviceProfile.load(out)
    assert {values[0] for values in profile.measurements.slices} == {8, 16}
    assert profile.lengths is not None
    expected = profile.document["lengths"]["expected"][0]
    by_length = {
        row["sequence_length"]: row["latency_ms"]
        for row in profile.references
        if row["name"] == expected["name"]
    }
    assert expected["mean_latency_ms"] == pytest.approx(0.75 * by_length[8] + 0.25 * by_length[16])
    assert {row["name"] for row in answer["footprints"]} == {
        *("BERT-base", "MiniLM-L6", "1-16-32-2-24")
    }
    bert = next(row for row in answer["footprints"] if row["name"] == "BERT-base")
    assert bert["file_bytes"] > 4 * 108_000_000
    assert (profile.measurements.footprints["file_mb"] > 1).sum() == 3
    assert [row["load_s"] for row in answer["sustained"]] == [3, 3]
    code, text, _ = cli(*options)
    assert code == 0
    assert {**json.loads(text), "finished_before": False} == answer
    lengths.write_text("3\n4\n4\n13\n13\n")
    code, _, error = cli(*options)
    assert code == 2
    assert "another lengths" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lengths-from", "absent.txt"), "cannot read absent.txt"),
        (("--lengths-from", "a", "--sequence-length", 8), "leave out --sequence-length"),
        (("--tokenizer", "vocab.txt"), "--tokenizer goes with --lengths-from FILE"),
        (("--num-lengths", 3), "--num-lengths goes with --lengths-from FILE"),
        (("--lengths-from", "a", "--num-lengths", 65), "see profile-device --help"),
        (("--footprint", "some"), "--footprint 'some': use references or all"),
        (("--sustained", 61), "--sustained 61.0: give minutes, at most 60"),
        (("--sustained", "long"), "see profile-device --help"),
    ],
)
def test_wrong_options_are_one_line_and_nothing_is_written(
    cli: Cli, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    out = tmp_path / "profile"
    code, stdout, error = cli("--target", TARGET, "--out", out, *options)
    assert (code, stdout) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
