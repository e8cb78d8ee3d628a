"""The progress line of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from profiler.campaign import Progress


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """A progress line on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    # No refresh thread: it would wake up while the child is being timed.
    with Bar(
        TextColumn("round {task.fields[round]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("visits, about {task.fields[left]} left"),
        console=console,
        auto_refresh=False,
    ) as bar:
        task = bar.add_task("", total=None, round=1, left="?")

        def show(progress: Progress) -> None:
            minutes, seconds = divmod(round(progress.remaining_s), 60)
            bar.update(
                task,
                completed=progress.visits_done,
                total=progress.visits_planned,
                round=progress.round,
                left=f"{minutes}:{seconds:02d}",
                refresh=True,
            )

        yield show
