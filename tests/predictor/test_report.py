from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from device_profiles.profile import DeviceProfile
from device_profiles.target import Workload
from predictor.fitting import fit_slices
from predictor.page import page, paragraph, table
from predictor.report import report_page


class Outline(HTMLParser):
    """Collects what a browser would fetch, the ids, and the headings; checks that tags close."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.figures = 0
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            target = values.get(name)
            if target and not target.startswith(("#", "data:")):
                self.fetched.append(target)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.figures += tag == "svg"
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h1", "h2"):
            self.headings.append(data)

    def close(self) -> None:
        super().close()
        assert not self._open


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    return parser


@pytest.fixture
def report(make_profile: Callable[..., Path]) -> str:
    profile = DeviceProfile.load(
        make_profile(rivals=True, workloads=[Workload(1, 64), Workload(1, 128)])
    )
    return report_page(
        fit_slices(profile.measurements), [profile], ["my profile"], seed=0, networks=False
    )


def test_a_report_is_one_file_that_asks_for_nothing(report: str) -> None:
    found = outline(report)
    assert found.fetched == []
    assert "@import" not in report
    assert not re.search(r"url\((?!#)", report)
    assert "<script" not in report


def test_a_report_has_its_figures_and_no_id_twice(report: str) -> None:
    found = outline(report)
    assert found.figures == 2 + 2 + 1
    assert len(found.ids) == len(set(found.ids))
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', report))
    assert references <= set(found.ids)


def test_a_report_says_what_the_issue_of_trust_needs(report: str) -> None:
    headings = " | ".join(outline(report).headings)
    for wanted in ("Measured against predicted", "Published shapes", "slow", "Verdicts", "machine"):
        assert wanted in headings
    assert "Test CPU" in report
    assert "PyTorch on other hardware" in report
    assert "profile-device --target cpu-x86" in report
    assert "fit-predictor &#x27;my profile&#x27;" in report


def test_a_report_of_a_bare_csv_has_no_machine(make_profile: Callable[..., Path]) -> None:
    measurements = DeviceProfile.load(make_profile()).measurements
    text = report_page(fit_slices(measurements), [], ["mine.csv"], seed=0, networks=False)
    assert outline(text).figures == 1
    assert "The machine" not in text
    assert "fit-predictor --csv mine.csv" in text


def test_text_cannot_become_markup() -> None:
    text = page("<b>", "<i>", [paragraph("<script>"), table(("<u>",), [("<s>", None)])])
    for tag in ("<b>", "<i>", "<script>", "<u>", "<s>"):
        assert tag not in text
