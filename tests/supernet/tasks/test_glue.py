"""GLUE's official files, each in its exact format, and its submissions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autotinybert.errors import InputError
from supernet.tasks.examples import Example, read_examples
from supernet.tasks.glue import GLUE_TASKS, write_submission

_MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
_STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
_MNLI_ROW = "0\t31193\t31193n\tgovernment\t( a b )\t( c d )\t(ROOT a)\t(ROOT c)\tA b.\tC d."
_STSB_ROW = "0\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\tA plane.\tAn air plane."

# Task, file, content, text, second text and label of the first example, and its id.
OFFICIAL = [
    (
        "cola",
        "train.tsv",
        "gj04\t1\t\tOur friends.\ngj04\t0\t*\tOne more\n",
        "Our friends.",
        None,
        1,
    ),
    ("cola", "test.tsv", "index\tsentence\n0\tBill whistled.\n", "Bill whistled.", None, None),
    ("sst2", "train.tsv", 'sentence\tlabel\nhide "new \t0\n', 'hide "new ', None, 0),
    (
        "sst2",
        "test.tsv",
        "index\tsentence\n0\tuneasy mishmash .\n",
        "uneasy mishmash .",
        None,
        None,
    ),
    (
        "mrpc",
        "train.tsv",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t70\t71\tHe "said .\tHe .\r\n',
        'He "said .',
        "He .",
        1,
    ),
    (
        "mrpc",
        "test.tsv",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t70\t71\tPCCW\tCurrent\n",
        "PCCW",
        "Current",
        None,
    ),
    (
        "qqp",
        "dev.tsv",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n9\t1\t2\tWhy?\tHow?\t0\n",
        "Why?",
        "How?",
        0,
    ),
    ("qqp", "test.tsv", "id\tquestion1\tquestion2\n0\tWhy?\tHow?\n", "Why?", "How?", None),
    ("stsb", "dev.tsv", f"{_STSB}\tscore\n{_STSB_ROW}\t4.750\n", "A plane.", "An air plane.", 4.75),
    ("stsb", "test.tsv", f"{_STSB}\n{_STSB_ROW}\n", "A plane.", "An air plane.", None),
    (
        "mnli",
        "train.tsv",
        f"{_MNLI}\tlabel1\tgold_label\n{_MNLI_ROW}\tneutral\tneutral\n",
        "A b.",
        "C d.",
        1,
    ),
    (
        "mnli",
        "dev_matched.tsv",
        f"{_MNLI}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
        f"{_MNLI_ROW}\tneutral\tcontradiction\tneutral\tneutral\tneutral\tcontradiction\n",
        "A b.",
        "C d.",
        2,
    ),
    ("mnli", "test_mismatched.tsv", f"{_MNLI}\n{_MNLI_ROW}\n", "A b.", "C d.", None),
    ("mnli", "diagnostic.tsv", "index\tsentence1\tsentence2\n0\tA.\tB.\n", "A.", "B.", None),
    (
        "qnli",
        "train.tsv",
        "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tnot_entailment\n",
        "Who?",
        "He.",
        1,
    ),
    ("qnli", "test.tsv", "index\tquestion\tsentence\n0\tWho?\tHe.\n", "Who?", "He.", None),
    (
        "rte",
        "dev.tsv",
        "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n",
        "A.",
        "B.",
        0,
    ),
    ("wnli", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n", "A.", "B.", 1),
]


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("task", "name", "content", "text", "pair", "label"),
    OFFICIAL,
    ids=[f"{task} {name}" for task, name, *_ in OFFICIAL],
)
def test_official_files_are_read(
    tmp_path: Path, task: str, name: str, content: str, text: str, pair: str | None, label: object
) -> None:
    data = read_examples(task, written(tmp_path, name, content))
    first = data.examples[0]
    assert (first.text, first.pair, first.label) == (text, pair, label)
    assert data.labels == GLUE_TASKS[task].labels
    assert data.is_labelled == (label is not None)


def test_cola_has_no_header_and_all_its_lines_are_examples(tmp_path: Path) -> None:
    path = written(tmp_path, "dev.tsv", "gj04\t1\t\tA one.\n\nks08\t0\t*\tA two\n")
    assert read_examples("CoLA", path).examples == (
        Example("0", "A one.", None, 1),
        Example("1", "A two", None, 0),
    )


def test_rows_of_qqp_that_lack_fields_are_left_out_as_its_readers_do(tmp_path: Path) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    path = written(tmp_path, "train.tsv", f"{header}\n1\t1\t2\tWhy?\n2\t3\t4\tA?\tB?\t1\n")
    assert [example.text for example in read_examples("qqp", path).examples] == ["A?"]


def test_labels_take_the_numbers_that_a_model_has_them_in(tmp_path: Path) -> None:
    header = "index\tsentence1\tsentence2\tlabel"
    path = written(tmp_path, "dev.tsv", f"{header}\n0\tA\tB\tentailment\n1\tA\tB\tnot_entailment\n")
    for labels, expected in (
        (("NOT-ENTAILMENT", "Entailment"), [1, 0]),
        (("LABEL_0", "LABEL_1"), [0, 1]),
    ):
        data = read_examples("rte", path, labels=labels)
        assert data.labels == labels
        assert [example.label for example in data.examples] == expected


@pytest.mark.parametrize("labels", [("yes", "no"), ("entailment", "other", "more"), ("score",)])
def test_a_model_with_other_labels_is_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    path = written(tmp_path, "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tentailment\n")
    with pytest.raises(InputError, match="does not answer RTE"):
        read_examples("rte", path, labels=labels)


def test_a_classifier_does_not_answer_a_regression(tmp_path: Path) -> None:
    path = written(tmp_path, "dev.tsv", f"{_STSB}\tscore\n{_STSB_ROW}\t4.750\n")
    assert read_examples("stsb", path, labels=("LABEL_0",)).labels == ("LABEL_0",)
    with pytest.raises(InputError, match="asks for a score"):
        read_examples("stsb", path, labels=("no", "yes"))


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("sst2", "", "is empty"),
        ("sst2", "sentence\tlabel\n", "holds no examples"),
        ("sst2", "text\tlabel\na\t1\n", "no column 'sentence'"),
        ("mrpc", "Quality\t#1 String\n1\ta\n", "no column '#2 String'"),
        ("sst2", "sentence\tlabel\na\t1\nb\n", "line 3 has 1 fields, not 2"),
        ("qqp", "id\tquestion1\tquestion2\n0\ta\tb\tc\n", "line 2 has 4 fields, not 3"),
        ("sst2", "sentence\tlabel\na\t2\n", "line 2 has the label '2': SST-2 has 0, 1"),
        ("cola", "gj04\t1\tA sentence.\n", "line 1 has 3 fields, not 4"),
        ("stsb", f"{_STSB}\tscore\n{_STSB_ROW}\thigh\n", "line 2 has the label 'high'"),
    ],
)
def test_a_file_that_is_not_the_tasks_is_one_line(
    tmp_path: Path, task: str, content: str, message: str
) -> None:
    path = written(tmp_path, "train.tsv", content)
    with pytest.raises(InputError) as error:
        read_examples(task, path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("task", "predicted", "lines"),
    [
        ("cola", [1, 0], ["5\t1", "6\t0"]),
        ("mnli", [2, 0], ["5\tcontradiction", "6\tentailment"]),
        ("qnli", [1, 0], ["5\tnot_entailment", "6\tentailment"]),
        ("wnli", [1, 0], ["5\t1", "6\t0"]),
        ("stsb", [5.2, -0.1, 2.34567], ["5\t5.000", "6\t0.000", "7\t2.346"]),
    ],
)
def test_submissions_are_as_glue_wants_them(
    tmp_path: Path, task: str, predicted: list[float], lines: list[str]
) -> None:
    path = tmp_path / "submission.tsv"
    ids = ["5", "6", "7"][: len(predicted)]
    write_submission(path, GLUE_TASKS[task], ids, np.array(predicted))
    assert path.read_text() == "\n".join(["index\tprediction", *lines]) + "\n"


def test_submissions_name_the_labels_whatever_order_a_model_has_them_in(tmp_path: Path) -> None:
    path = tmp_path / "MNLI-m.tsv"
    labels = ("contradiction", "entailment", "neutral")
    write_submission(path, GLUE_TASKS["mnli"], ["0", "1"], np.array([0, 1]), labels=labels)
    assert path.read_text() == "index\tprediction\n0\tcontradiction\n1\tentailment\n"


def test_submissions_have_their_official_names() -> None:
    names = {name for task in GLUE_TASKS.values() for name in task.submissions.values()}
    assert names == {
        *("AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv", "QQP.tsv"),
        *("RTE.tsv", "SST-2.tsv", "STS-B.tsv", "WNLI.tsv"),
    }
