"""Shapes that others published, with the figures they printed for them.

Figures stand here only as the named source prints them; what it does not print is None.
"""

from __future__ import annotations

from dataclasses import dataclass

from supernet.architecture import Architecture


@dataclass(frozen=True)
class PublishedShape:
    """A named encoder of somebody's paper.

    Attributes:
        name: as the paper calls it.
        architecture: its shape.
        source: who published it.
        speedup: against BERT-base on the source's own hardware, as printed there.
        glue: GLUE dev average, as printed there.
        squad_f1: SQuAD v1 dev F1, as printed there.
    """

    name: str
    architecture: Architecture
    source: str
    speedup: float | None = None
    glue: float | None = None
    squad_f1: float | None = None


_AUTOTINYBERT = "AutoTinyBERT (ACL 2021)"
_BERT = "BERT (Google)"

BERT_BASE = PublishedShape("BERT-base", Architecture(12, 768, 3072, 12, 768), _BERT)
MINILM_L6 = PublishedShape("MiniLM-L6", Architecture(6, 384, 1536, 12, 384), "MiniLM")

# Measured in every campaign: the scale of `--speedup`, and the check that a machine is still in
# the state that was profiled.
REFERENCE_SHAPES = (BERT_BASE, MINILM_L6)

AUTOTINYBERT_SHAPES = tuple(
    PublishedShape(
        name, Architecture.parse(shape), _AUTOTINYBERT, speedup=speedup, glue=glue, squad_f1=squad
    )
    for name, shape, speedup, squad, glue in (
        ("AutoTinyBERT-S1", "5-564-1054-8-512", 7.2, 83.3, 78.3),
        ("AutoTinyBERT-S2", "4-396-624-6-384", 15.7, 78.1, 76.4),
        ("AutoTinyBERT-S3", "4-432-384-4-256", 20.2, 75.8, 75.3),
        ("AutoTinyBERT-S4", "3-320-608-4-256", 27.2, 71.9, 73.0),
        ("AutoTinyBERT-KD-S1", "5-564-1024-12-528", 4.6, 87.6, 81.2),
        ("AutoTinyBERT-KD-S2", "5-324-600-12-324", 9.0, 84.6, 77.5),
        ("AutoTinyBERT-KD-S3", "5-280-512-12-276", 10.7, 83.3, 76.2),
        ("AutoTinyBERT-KD-S4", "4-256-480-12-192", 17.0, 78.7, 73.5),
    )
)

RIVAL_SHAPES = (
    PublishedShape("BERT-small", Architecture(4, 512, 2048, 8, 512), _BERT),
    PublishedShape("BERT-mini", Architecture(4, 256, 1024, 4, 256), _BERT),
    PublishedShape("BERT-tiny", Architecture(2, 128, 512, 2, 128), _BERT),
    PublishedShape("DistilBERT", Architecture(6, 768, 3072, 12, 768), "DistilBERT"),
    PublishedShape("TinyBERT-4", Architecture(4, 312, 1200, 12, 312), "TinyBERT", speedup=9.4),
    PublishedShape("TinyBERT-6", Architecture(6, 768, 3072, 12, 768), "TinyBERT"),
    PublishedShape("MiniLM-L12", Architecture(12, 384, 1536, 12, 384), "MiniLM"),
)

PUBLISHED_SHAPES = (*REFERENCE_SHAPES, *AUTOTINYBERT_SHAPES, *RIVAL_SHAPES)
