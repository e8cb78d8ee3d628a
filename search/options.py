"""Options that commands about a budget share."""

from __future__ import annotations

from typing import Annotated

import typer

from search.constraints import BUDGET_STATISTICS
from supernet.variants import PRECISIONS

MaxLatencyOption = Annotated[
    str | None, typer.Option(help="Budget with its unit: 12ms, 800us, 0.5s.")
]
BudgetStatisticOption = Annotated[
    str, typer.Option(help=f"Of the latency: {', '.join(BUDGET_STATISTICS)}.")
]
SequenceLengthOption = Annotated[
    int | None, typer.Option(help="Tokens; needed where several were profiled.")
]
BatchSizeOption = Annotated[
    int | None, typer.Option(help="Sequences; needed where several were profiled.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(PRECISIONS)}; needed where several were profiled."),
]
ThreadsOption = Annotated[int | None, typer.Option(help="Needed where several were profiled.")]
