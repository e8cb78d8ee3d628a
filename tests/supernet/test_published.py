from __future__ import annotations

from supernet.published import AUTOTINYBERT_SHAPES, PUBLISHED_SHAPES
from supernet.space import kd_space


def test_names_are_unique() -> None:
    assert len({shape.name for shape in PUBLISHED_SHAPES}) == len(PUBLISHED_SHAPES)


def test_the_four_distilled_autotinyberts_lie_in_the_distilled_space() -> None:
    inside = [shape.name for shape in AUTOTINYBERT_SHAPES if shape.architecture in kd_space()]
    assert inside == [f"AutoTinyBERT-KD-S{number}" for number in (1, 2, 3, 4)]
