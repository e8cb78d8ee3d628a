"""Holds a visit back while other work takes the core, as far as a process can tell.

A thread that wants to run and gets less CPU time than time passes is waiting for a core. That is
read from the thread's own CPU clock: `/proc/self/schedstat` would tell it directly, but many
kernels leave its figure at zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Reads nanoseconds, as `time.perf_counter_ns` does.
Clock = Callable[[], int]

# Long enough that a kernel gives other work on the same core a turn (they are 3 to 8 ms).
_PROBE_NS = 10_000_000
_MOST_READINGS = 1_000_000

# A probe that waited for longer than this found company.
_MOST_WAITING_SHARE = 0.1

# The first pause, and the longest: each is twice as long as the one before.
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


class LoadWatch:
    """Watches for competing load on the core that measures.

    Nothing is probed while visits are undisturbed, so that a quiet machine loses no time; only
    the first visit of a process and those after a disturbed one.

    Args:
        clock: reads nanoseconds.
        cpu_clock: reads the CPU time of the thread that measures, in nanoseconds.
        sleep_s: waits so many seconds.
    """

    def __init__(
        self,
        clock: Clock = time.perf_counter_ns,
        cpu_clock: Clock = time.thread_time_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cpu_clock = cpu_clock
        self._clock = clock
        self._sleep_s = sleep_s
        self._suspicious = True

    def hold(self, most_s: float) -> int:
        """Waits until the core is free, in growing pauses.

        Args:
            most_s: after so long it gives up waiting.

        Returns:
            How long it waited, in nanoseconds; 0 if the first probe found the core free.
        """
        if not self._suspicious:
            return 0
        start_ns = self._clock()
        pause_s = _FIRST_PAUSE_S
        paused_s = 0.0
        if self._is_free():
            self._suspicious = False
            return 0
        # Bounded by the pauses themselves, too: a clock may stand still.
        while paused_s < most_s and self._clock() - start_ns < most_s * 1e9:
            self._sleep_s(pause_s)
            paused_s += pause_s
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if self._is_free():
                self._suspicious = False
                break
        return self._clock() - start_ns

    def learn(self, *, disturbed: bool) -> None:
        """Notes whether the visit that was just made was disturbed."""
        self._suspicious = disturbed

    def _is_free(self) -> bool:
        """Spins for a moment, and sees whether it had the core all the time."""
        start_ns, start_cpu_ns = self._clock(), self.cpu_clock()
        for _ in range(_MOST_READINGS):
            if self._clock() - start_ns >= _PROBE_NS:
                break
        elapsed_ns = self._clock() - start_ns
        return elapsed_ns - (self.cpu_clock() - start_cpu_ns) <= _MOST_WAITING_SHARE * elapsed_ns
