"""How long a campaign waits for a connection that was lost, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable

from autotinybert.errors import WorkError

# 1, 2, 4, ... seconds and then a minute each: five minutes in all, in which a device restarts.
MAX_ATTEMPTS = 10
_LONGEST_WAIT_S = 60.0
WAITS_S = tuple(min(2.0**attempt, _LONGEST_WAIT_S) for attempt in range(MAX_ATTEMPTS))


# What ssh says of a way that failed, the names of hosts and users left out.
_KNOWN_CAUSES = (
    "Broken pipe",
    "Connection refused",
    "Connection reset",
    "Connection closed",
    "closed by remote host",
    "No route to host",
    "Network is unreachable",
    "Could not resolve hostname",
    "timed out",
    "not responding",
    "was silent",
)


def nameless_cause(reason: str) -> str:
    """Why a connection was lost, in words that may stand in a profile.

    Profiles are handed on, and hosts, addresses and users are nobody else's business: only what
    is known to be none of these is kept.
    """
    known = next((cause for cause in _KNOWN_CAUSES if cause in reason), None)
    return f"connection lost: {known}" if known else "connection lost"


class Outage:
    """Counts losses in a row.

    A connection counts as steady again once something was measured over it, not once it is there:
    a device that fails whenever it is asked to measure would otherwise be tried for ever.

    Args:
        sleep_s: waits that many seconds.
    """

    def __init__(self, sleep_s: Callable[[float], None]) -> None:
        self._sleep_s = sleep_s
        self._reasons: list[str] = []

    @property
    def losses(self) -> int:
        """How often the connection was lost or not made since something was measured over it."""
        return len(self._reasons)

    @property
    def reason(self) -> str:
        """Why it was lost the last time; empty if it was not."""
        return self._reasons[-1] if self._reasons else ""

    def lost(self, reason: str) -> None:
        """Notes a loss."""
        self._reasons.append(reason)

    def steady(self) -> None:
        """Notes that something was measured."""
        self._reasons.clear()

    def wait(self) -> None:
        """Waits until it is time for the next attempt; at once if nothing was lost.

        Raises:
            WorkError: if there were enough of them.
        """
        if self.losses > MAX_ATTEMPTS:
            raise WorkError(
                f"{self.reason}; {MAX_ATTEMPTS} attempts to go on within {sum(WAITS_S):.0f} s of "
                "waiting failed: run the same command again to go on"
            )
        if self.losses:
            self._sleep_s(WAITS_S[self.losses - 1])
