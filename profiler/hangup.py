"""Ends a measuring child when the one it measures for is gone, in the middle of a run too."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable


def on_hangup(descriptor: int, end: Callable[[], None]) -> threading.Thread:
    """Calls `end`, from a thread of its own, once the other side of a pipe or socket is closed.

    The thread sleeps in the kernel until then: it takes no time from what is measured.

    Args:
        descriptor: the side that is read here; what is still to be read stays.
        end: called at most once.

    Returns:
        The thread, running.
    """
    poll = select.poll()
    # A hang-up of a pipe is always told; a socket's has to be asked for.
    poll.register(descriptor, getattr(select, "POLLRDHUP", 0))

    def wait() -> None:
        poll.poll()
        end()

    thread = threading.Thread(target=wait, name="hangup", daemon=True)
    thread.start()
    return thread
