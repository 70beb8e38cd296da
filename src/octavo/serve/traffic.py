"""What the service did in the last minute, in memory: for `octavo status` and the page. Prometheus keeps the history.

Latencies fall into bins of 5%, so that a quantile costs no sorting and a minute no more memory at a million requests
than at ten.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from octavo.serve.service import Listener, Reply

WINDOW_S = 60
_BIN = math.log(1.05)
_LEAST_S = 1e-5
_BINS = 1 + math.ceil(math.log(100 / _LEAST_S) / _BIN)  # up to 100 s; what took longer counts as that
_VERSIONS = 64  # more than serve at a time: the oldest is forgotten


@dataclass(frozen=True, slots=True)
class Traffic:
    """One version in the last minute. Latencies are of whole requests, right to 5%; None where there were none."""

    requests: int
    requests_per_s: float
    p50_ms: float | None
    p99_ms: float | None


@dataclass(slots=True)
class _Second:
    """What happened in one second of the clock."""

    number: int = -1
    answered: array[int] = field(default_factory=lambda: array("I", bytes(4 * _BINS)))
    refused: Counter[str] = field(default_factory=Counter)

    def restart(self, number: int) -> None:
        self.number = number
        self.answered = array("I", bytes(4 * _BINS))
        self.refused = Counter()


class _Window:
    """A minute in seconds, each of which is taken over by its successor one minute later."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._seconds = [_Second() for _ in range(WINDOW_S)]

    def second(self, now: float) -> _Second:
        number = int(now)
        one = self._seconds[number % WINDOW_S]
        if one.number != number:
            one.restart(number)
        return one

    def recent(self, now: float) -> list[_Second]:
        return [one for one in self._seconds if int(now) - WINDOW_S < one.number <= int(now)]

    def traffic(self, now: float) -> Traffic:
        counts = np.zeros(_BINS, np.int64)
        for one in self.recent(now):
            counts += one.answered
        requests = int(counts.sum())
        lasted = min(now - self._started, WINDOW_S - 1 + now % 1)
        p50, p99 = (_quantile_ms(counts, share) if requests else None for share in (0.5, 0.99))
        return Traffic(requests, requests / max(lasted, 1.0), p50, p99)


class LastMinute(Listener):
    """Counts answers by model and version, and refusals by model and reason. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._versions: dict[tuple[str, str], _Window] = {}
        self._models: dict[str, _Window] = {}

    def answered(self, reply: Reply, seconds: float) -> None:
        """Count an answer and how long it took."""
        now, bin_ = self._clock(), _bin(seconds)
        with self._lock:
            window = self._versions.get((reply.model, reply.version))
            if window is None:
                window = self._versions[reply.model, reply.version] = _Window(now)
                if len(self._versions) > _VERSIONS:
                    del self._versions[next(iter(self._versions))]
            window.second(now).answered[bin_] += 1

    def refused(self, model: str, reason: str) -> None:
        """Count a refusal."""
        now = self._clock()
        with self._lock:
            if model not in self._models:
                self._models[model] = _Window(now)
            self._models[model].second(now).refused[reason] += 1

    def traffic(self) -> dict[tuple[str, str], Traffic]:
        """Return what each version answered, by model and version."""
        now = self._clock()
        with self._lock:
            return {key: window.traffic(now) for key, window in self._versions.items()}

    def refusals(self) -> dict[str, dict[str, int]]:
        """Return how many requests were refused, by model ("" for requests that named none that serves) and reason."""
        now = self._clock()
        with self._lock:
            return {
                model: dict(sum((one.refused for one in window.recent(now)), Counter()))
                for model, window in self._models.items()
            }


def _bin(seconds: float) -> int:
    """Return the bin whose upper bound is the first at or above a duration."""
    if seconds <= _LEAST_S:
        return 0
    return min(math.ceil(math.log(seconds / _LEAST_S) / _BIN), _BINS - 1)


def _quantile_ms(counts: np.ndarray, share: float) -> float:
    """Return the middle of the bin that holds a quantile."""
    cumulative = np.cumsum(counts)
    place = int(np.searchsorted(cumulative, share * cumulative[-1]))
    return float(1000 * _LEAST_S * math.exp(_BIN * (place - 0.5)))
