"""The most requests per second that a server answers within a bound on the p99: MLPerf LoadGen's Server scenario.

A rate that cannot be kept ends as soon as that is sure, and what it has left in the server's queue must be gone before
the next one: a server that does not get rid of it is started anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from bench.service.load import Answered, Load, Sending, percentile_ms
from bench.service.server import HOST, Server

_STEP = 1.1  # how finely a rate is told
_LEAST_SHARE = 1 / 10  # of the first guess: below that the bound counts as never kept
_TRIES = 2  # on a machine that others use too, one bad second says nothing of the server
_REQUESTS = 300  # of whose latencies a p99 is taken, if they come in `_LONGEST` times the seconds that were asked for
_LONGEST = 3
_CLIENTS = 32  # that ask without a pause, to find out about how much can be asked for
_SETTLES_S = 10.0
_PROBE_RPS, _PROBE_S = 20.0, 0.3


def most_rps(
    start: Callable[[], AbstractContextManager[Server]],
    path: str,
    bodies: Sequence[str],
    seconds: float,
    bound_ms: float,
) -> float:
    """Return the highest Poisson rate whose p99 stays within the bound, to within a tenth; 0.0 where none does.

    Args:
        start: starts the server.
        path: that is asked.
        bodies: JSON bodies, one drawn for each request.
        seconds: for each rate, and up to three times as long where it has too few requests by then.
        bound_ms: on the p99, from the time that a request was due.

    Raises:
        RuntimeError: the server does not start.
    """
    with ExitStack() as stack:
        server = stack.enter_context(start())

        def answered(rate_rps: float, lasts_s: float, seed: int = 0) -> list[Answered]:
            load = Load(HOST, server.port, path, bodies, rate_rps, lasts_s, seed, _CLIENTS, p99_ms=bound_ms)
            return Sending(load).result()

        def settles() -> bool:
            until_s = time.monotonic() + _SETTLES_S
            while time.monotonic() < until_s:
                if percentile_ms(answered(_PROBE_RPS, _PROBE_S), 0.5) <= bound_ms:
                    return True
            return False

        def keeps(rate_rps: float) -> bool:
            nonlocal server
            for attempt in range(_TRIES):
                ended = answered(rate_rps, min(max(seconds, _REQUESTS / rate_rps), _LONGEST * seconds), attempt)
                if all(one.status == 200 for one in ended) and percentile_ms(ended, 0.99) <= bound_ms:
                    return True
                if not settles():
                    stack.close()
                    server = stack.enter_context(start())
            return False

        answered(0.0, seconds / 4)  # warm
        first = sum(one.status == 200 for one in answered(0.0, seconds / 2)) / (seconds / 2)
        return round(highest_rate(keeps, max(first, 1.0)), 1)


def highest_rate(keeps: Callable[[float], bool], first: float) -> float:
    """Return the highest rate that is kept, to within `_STEP`, by bisection from a guess that is not far too high."""
    low, high = 0.0, first
    while keeps(high):
        low, high = high, 1.5 * high
    while high > _LEAST_SHARE * first and high > _STEP * low:
        middle = math.sqrt(low * high) if low else high / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low
